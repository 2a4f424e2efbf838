// Two configurations side by side: only what differs.
import { h } from "./dom.js";
import { plain, title } from "./format.js";

/** @typedef {Record<string, import("./types.js").Value>} Config */

/**
 * Names whose values differ; `undefined` stands where a parameter has no meaning.
 * @param {Config} a @param {Config} b
 */
export function differing(a, b) {
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return names.filter((name) => a[name] !== b[name]);
}

/**
 * A list of what `config` has otherwise than `base`.
 * @param {Config} config @param {Config} base
 */
export function diff(config, base) {
  const names = differing(config, base);
  if (!names.length) return h("p", { class: "muted" }, "the same configuration");
  return list(names, config, base);
}

/**
 * A configuration in full, with what `base` has where it differs.
 * @param {Config} config @param {Config} [base]
 */
export function pairs(config, base) {
  return list([...new Set([...Object.keys(config), ...Object.keys(base ?? {})])].sort(), config, base);
}

/** @param {string[]} names @param {Config} config @param {Config | undefined} base */
function list(names, config, base) {
  return h(
    "dl",
    { class: "pairs diff" },
    names.map((name) => [
      h("dt", {}, title(name)),
      h("dd", {}, plain(config[name]), base && base[name] !== config[name]
        ? h("span", { class: "muted" }, h("span", { class: "hush" }, " instead of"), ` ← ${plain(base[name])}`) : null),
    ]),
  );
}
