// The searched and fixed parameters: each as the preset has it, one value, a list, or a range.
import { fill, h } from "../dom.js";
import { heading, plain } from "../format.js";
import { emptyParameter, parameterDraft } from "./draft.js";
import { errorPlace, idOf, select, text } from "./field.js";

/** @typedef {import("./draft.js").Draft} Draft */
/** @typedef {import("./draft.js").ParameterDraft} ParameterDraft */
/** @typedef {import("../types.js").Catalog} Catalog */
/** @typedef {import("../types.js").ParameterInfo} ParameterInfo */
/** @typedef {import("../types.js").Domain} Domain */

/** A domain in words. @param {Domain} domain */
export function words(domain) {
  if ("categorical" in domain) return domain.categorical.choices.map(plain).join(", ");
  const { low, high, log, step } = "int" in domain ? domain.int : domain.float;
  return `${plain(low)} to ${plain(high)}${step && step !== 1 ? ` in steps of ${step}` : ""}${log ? ", logarithmic" : ""}`;
}

/** A condition in words. @param {import("../types.js").Condition} condition */
function when({ clauses }) {
  /** @type {Record<string, string>} */
  const signs = { in: "is", not_in: "is not", ge: "≥", gt: ">", le: "≤", lt: "<" };
  return clauses.map(({ parent, test }) => Object.entries(test).map(([key, value]) =>
    `${heading(parent).toLowerCase()} ${signs[key] ?? key} ${Array.isArray(value) ? value.map(plain).join(" or ") : plain(value)}`).join()).join(" and ");
}

/**
 * @param {HTMLElement} place @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 */
export function parameters(place, catalog, draft, changed) {
  const groups = [...new Set(catalog.parameters.map((p) => p.group))];
  fill(place, groups.map((group) => h("div", { class: "group" }, h("h2", {}, heading(group)),
    catalog.parameters.filter((p) => p.group === group).map((info) => row(info, catalog, draft, changed)))));
}

/**
 * @param {ParameterInfo} info @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 */
function row(info, catalog, draft, changed) {
  const { name } = info;
  const box = h("div", { class: "parameter" });
  const preset = catalog.presets.find((p) => p.name === draft.preset);
  const opened = preset?.space.find(([n]) => n === name)?.[1];
  const constant = preset?.fixed[name];
  const given = opened ? `searched: ${spoken(parameterDraft(opened))}` : constant !== undefined ? `fixed at ${plain(constant)}` : `default ${plain(info.default)}`;
  const techniques = catalog.techniques.filter((t) => t.family === name);

  const draw = () => {
    const p = draft.parameters[name] ?? emptyParameter();
    const keep = () => {
      if (p.mode === "preset") delete draft.parameters[name];
      else draft.parameters[name] = p;
      changed();
    };
    const path = p.mode === "fixed" ? `fixed.${name}` : `space.${name}`;
    const mode = select(p.mode, [["preset", opened || constant !== undefined ? "as the preset" : "default"], ["fixed", "one value"], ["list", "list"], ["range", "range"]].filter(([m]) => m !== "range" || !("categorical" in info.allowed)).map(([a, b]) => /** @type {[string, string]} */ ([a, b])), (value) => {
      p.mode = /** @type {ParameterDraft["mode"]} */ (value);
      seed(p, info, opened, constant);
      keep();
      draw();
      box.querySelector("select")?.focus();
    });
    mode.id = idOf(path);
    mode.dataset["path"] = path;
    mode.setAttribute("aria-describedby", `${mode.id}-error`);
    box.classList.toggle("open", p.mode !== "preset");
    fill(
      box,
      h("label", { class: "name", for: mode.id }, heading(name), info.unit ? h("span", { class: "muted" }, ` (${info.unit})`) : null),
      mode,
      h("div", {}, h("div", { class: "inputs" }, p.mode === "preset" ? h("span", { class: "muted small" }, given) : inputs(p, info, keep)), errorPlace(path)),
      h("p", { class: "doc" }, info.doc, info.condition.clauses.length ? `; only when ${when(info.condition)}` : "",
        techniques.length ? [" ", h("details", {}, h("summary", {}, `${techniques.length} techniques and their papers`), h("ul", {}, techniques.map((t) =>
          h("li", {}, h("strong", {}, plain(t.name)), `: ${t.doc} `, paper(t.paper)))))] : null),
    );
  };
  draw();
  return box;
}

/** @param {string} source */
function paper(source) {
  return h("span", {}, source.split(/(?:arXiv:)?(\d{4}\.\d{4,5})/i).map((part, i) =>
    i % 2 ? h("a", { href: `https://arxiv.org/abs/${part}`, rel: "noreferrer", target: "_blank" }, `arXiv ${part}`) : part));
}

/** A draft in words. @param {ParameterDraft} p */
function spoken(p) {
  if (p.mode === "list") return p.list.replaceAll("_", " ");
  return `${p.low} to ${p.high}${p.step ? ` in steps of ${p.step}` : ""}${p.log ? ", logarithmic" : ""}`;
}

/**
 * Fills a way of writing that is used for the first time with what would hold anyway.
 * @param {ParameterDraft} p @param {ParameterInfo} info @param {import("../types.js").ParameterSpec | undefined} opened
 * @param {import("../types.js").Value | undefined} constant
 */
function seed(p, info, opened, constant) {
  if (p.mode === "fixed" && p.value === "") p.value = String(constant ?? info.default);
  const usual = opened ? parameterDraft(opened) : null;
  const domain = info.search;
  if (p.mode === "list" && p.list === "") {
    p.list = usual?.mode === "list" ? usual.list : "categorical" in domain ? domain.categorical.choices.join(", ") : String(info.default);
  }
  if (p.mode === "range" && p.low === "" && !("categorical" in domain)) {
    const { low, high, log, step } = "int" in domain ? domain.int : domain.float;
    Object.assign(p, usual?.mode === "range" ? { ...usual, mode: "range" } : { low: String(low), high: String(high), log, step: step && step !== 1 ? String(step) : "" });
    p.whole = "int" in info.allowed;
  }
}

/**
 * @param {ParameterDraft} p @param {ParameterInfo} info @param {() => void} keep
 * @returns {import("../dom.js").Child}
 */
function inputs(p, info, keep) {
  const name = heading(info.name);
  const choices = "categorical" in info.allowed ? info.allowed.categorical.choices.map(String) : null;
  if (p.mode === "fixed") {
    const set = (/** @type {string} */ v) => { p.value = v; keep(); };
    const input = choices ? select(p.value, choices.map((c) => [c, plain(c)]), set) : text(p.value, set, { inputmode: "decimal" });
    input.setAttribute("aria-label", `${name}, value`);
    return [input, h("span", { class: "muted small" }, choices ? "" : words(info.allowed))];
  }
  const condition = h("label", {}, "only when", text(p.when, (v) => { p.when = v; keep(); }, { class: "when", placeholder: "experts > 1", "aria-label": `${name}, condition` }));
  if (p.mode === "list") {
    if (choices) {
      const chosen = new Set(p.list.split(",").map((t) => t.trim()));
      return [choices.map((c) => h("label", { class: "check" }, h("input", { type: "checkbox", checked: chosen.has(c), onchange: (/** @type {Event} */ e) => {
        if (/** @type {HTMLInputElement} */ (e.target).checked) chosen.add(c);
        else chosen.delete(c);
        p.list = choices.filter((other) => chosen.has(other)).join(", ");
        keep();
      } }), plain(c))), condition];
    }
    return [text(p.list, (v) => { p.list = v; keep(); }, { "aria-label": `${name}, values with commas between`, placeholder: "1, 2, 4" }), condition];
  }
  const part = (/** @type {"low" | "high" | "step"} */ key, /** @type {string} */ label) =>
    h("label", {}, label, text(p[key], (v) => { p[key] = v; keep(); }, { inputmode: "decimal", "aria-label": `${name}, ${label}` }));
  return [
    part("low", "from"), part("high", "to"), part("step", "step"),
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: p.log, onchange: (/** @type {Event} */ e) => { p.log = /** @type {HTMLInputElement} */ (e.target).checked; keep(); } }), "logarithmic"),
    condition,
  ];
}
