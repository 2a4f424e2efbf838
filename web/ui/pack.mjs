// Gathers what the pages load into one table for the binary: name, type, bytes, and the bytes compressed.
// usage: node pack.mjs OUT_DIR
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const out = process.argv[2];
if (!out) throw new Error("the folder to write to is missing; give it as the first argument");
const here = fileURLToPath(new URL(".", import.meta.url));
const types = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

/** @returns {{ name: string, bytes: Buffer }[]} */
function walk(folder) {
  return readdirSync(join(here, folder), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const name = `${folder}/${entry.name}`;
      if (entry.isDirectory()) return walk(name);
      return entry.name.split(".").pop() in types && !entry.name.endsWith(".d.ts")
        ? [{ name, bytes: readFileSync(join(here, name)) }]
        : [];
    });
}

const files = [
  ...["css", "icons", "js"].flatMap(walk),
  {
    name: "js/vendor/echarts.js",
    bytes: readFileSync(join(here, "node_modules/echarts/dist/echarts.esm.min.js")),
  },
];

mkdirSync(join(out, "packed"), { recursive: true });
/** Writes bytes under the name of their content, so that an unchanged file is not compressed again. */
function keep(bytes, suffix, make) {
  const path = join(out, "packed", createHash("sha256").update(bytes).digest("hex").slice(0, 24) + suffix);
  if (!existsSync(path)) writeFileSync(path, make(bytes));
  return `include_bytes!(${JSON.stringify(path)})`;
}

const version = createHash("sha256");
const rows = files.map(({ name, bytes }) => {
  version.update(name).update("\0").update(bytes).update("\0");
  const [raw, br, gz] = [
    keep(bytes, "", (b) => b),
    keep(bytes, ".br", (b) =>
      brotliCompressSync(b, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: b.length } }),
    ),
    keep(bytes, ".gz", (b) => gzipSync(b, { level: 9 })),
  ];
  const type = `${types[name.split(".").pop()]}; charset=utf-8`;
  return `    Asset { name: ${JSON.stringify(name)}, content_type: ${JSON.stringify(type)}, plain: ${raw}, brotli: ${br}, gzip: ${gz} },\n`;
});
writeFileSync(
  join(out, "assets.rs"),
  `const VERSION: &str = ${JSON.stringify(version.digest("hex").slice(0, 16))};\n` +
    `static ASSETS: &[Asset] = &[\n${rows.join("")}];\n`,
);
