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
  return h(
    "dl",
    { class: "pairs diff" },
    names.map((name) => [
      h("dt", {}, title(name)),
      h("dd", {}, h("span", { class: "mono" }, plain(config[name])), " ",
        h("span", { class: "muted mono" }, h("span", { class: "hush" }, "instead of "), `← ${plain(base[name])}`)),
    ]),
  );
}

/** A configuration in full. @param {Config} config */
export function pairs(config) {
  return h(
    "dl",
    { class: "pairs" },
    Object.keys(config).sort().map((name) => [h("dt", {}, title(name)), h("dd", { class: "mono" }, plain(config[name]))]),
  );
}
