// The form's other sections: name and data, objectives, hard limits, search.
import { fill, h } from "../dom.js";
import { heading } from "../format.js";
import { errorPlace, field, idOf, lines, select, text } from "./field.js";
import { words } from "./parameters.js";

/** @typedef {import("./draft.js").Draft} Draft */
/** @typedef {import("../types.js").Catalog} Catalog */

/**
 * @param {HTMLElement} place @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 * @param {() => void} redraw after a change that changes what other fields there are
 */
export function basics(place, catalog, draft, changed, redraw) {
  const corpus = catalog.corpora.find((c) => c.name === draft.corpus);
  const preset = catalog.presets.find((p) => p.name === draft.preset);
  const data = (/** @type {string} */ key) => (/** @type {string} */ value) => {
    draft.data[key] = value;
    changed();
  };
  fill(
    place,
    field("name", "Name", text(draft.name, (v) => { draft.name = v; changed(); }, { required: true }), { doc: "letters, digits, '-', '_' and '.'; also the folder of its results" }),
    field("space.preset", "Preset", select(draft.preset, [["", "none"], ...catalog.presets.map((p) => /** @type {[string, string]} */ ([p.name, p.name]))], (v) => { draft.preset = v; changed(); redraw(); }), { doc: preset?.doc ?? "fills in what is not named below" }),
    field("data.corpus", "Data", select(draft.corpus, [["", "choose …"], ...catalog.corpora.map((c) => /** @type {[string, string]} */ ([c.name, c.name]))], (v) => { draft.corpus = v; changed(); redraw(); }), { doc: corpus?.doc ?? "what the models learn" }),
    corpus?.needs_path ? field("data.path", "File or folder", text(draft.data["path"] ?? "", data("path"), { placeholder: "data/input.txt" }), { doc: "on the server, below a folder that its operator allows" }) : null,
    corpus?.takes_tokenizer ? field("data.tokenizer", "Tokenizer", text(draft.data["tokenizer"] ?? "", data("tokenizer"), { placeholder: "char" }), { doc: "char, byte, bpe:1024 or file:tokenizer.json" }) : null,
    (corpus?.options ?? []).map((option) => {
      const value = draft.data[option.name] ?? "";
      const input = "categorical" in option.allowed
        ? select(value, [["", `default (${option.default})`], ...option.allowed.categorical.choices.map((c) => /** @type {[string, string]} */ ([String(c), String(c)]))], data(option.name))
        : text(value, data(option.name), { placeholder: String(option.default), inputmode: "decimal" });
      return field(`data.${option.name}`, heading(option.name), input, { doc: `${option.doc}${"categorical" in option.allowed ? "" : ` (${words(option.allowed)})`}`, unit: option.unit });
    }),
    field("base.path", "Start from", text(draft.base, (v) => { draft.base = v; changed(); }, { placeholder: "from scratch" }), { doc: "optional: a folder with a checkpoint" }),
    field("teacher.path", "Learn from", text(draft.teacher, (v) => { draft.teacher = v; changed(); }, { placeholder: "the data alone" }), { doc: "optional: a folder with a model that teaches, as distill says" }),
  );
}

/** The unit at the start of a list, where saying it helps. @param {string} unit */
function unitWords(unit) {
  if (["", "fraction", "x", "parameters"].includes(unit)) return "";
  return `${unit === "B" ? "bytes" : unit}, `;
}

/**
 * @param {HTMLElement} place @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 */
export function objectives(place, catalog, draft, changed) {
  const again = (/** @type {string} */ focus) => {
    changed();
    objectives(place, catalog, draft, changed);
    document.getElementById(focus)?.focus();
  };
  // the chosen ones first, in their order
  const chosen = draft.objectives.flatMap((name) => catalog.metrics.filter((m) => m.name === name));
  const unknown = draft.objectives.filter((name) => !catalog.metrics.some((m) => m.name === name));
  const others = catalog.metrics.filter((m) => !draft.objectives.includes(m.name));
  const line = (/** @type {import("../types.js").MetricInfo} */ m) => {
    const at = draft.objectives.indexOf(m.name);
    const id = `objective-${m.name}`;
    const move = (/** @type {number} */ by) => {
      const [name] = draft.objectives.splice(at, 1);
      draft.objectives.splice(at + by, 0, name ?? m.name);
      again(`${id}-${by < 0 ? "up" : "down"}`);
    };
    const path = at < 0 ? "" : `objective[${at}].metric`;
    return h("div", { class: "choice" },
      h("label", { class: "check" }, h("input", { type: "checkbox", id, checked: at >= 0, ...(path ? { "data-path": path } : {}), onchange: () => {
        if (at < 0) draft.objectives.push(m.name);
        else draft.objectives.splice(at, 1);
        again(id);
      } }), h("span", {}, heading(m.name))),
      h("span", { class: "doc" }, h("b", {}, m.doc), ` · ${unitWords(m.unit)}${m.direction === "minimize" ? "less" : "more"} is better`,
        m.known_before_training ? h("span", { class: "tag" }, "known before training") : null, path ? h("span", { class: "error", id: `${id}-error`, hidden: true }) : null),
      at < 0 ? h("span") : h("span", { class: "order" }, h("span", { class: "muted small" }, `${at + 1}.`),
        h("button", { type: "button", class: "plain", id: `${id}-up`, "aria-label": `move ${heading(m.name)} up`, disabled: at === 0, onclick: () => move(-1) }, "↑"),
        h("button", { type: "button", class: "plain", id: `${id}-down`, "aria-label": `move ${heading(m.name)} down`, disabled: at === draft.objectives.length - 1, onclick: () => move(1) }, "↓")));
  };
  fill(place,
    h("div", { id: idOf("objective"), "data-path": "objective", tabindex: -1 }, errorPlace("objective")),
    unknown.map((name) => h("div", { class: "choice" }, h("label", { class: "check" }, h("input", { type: "checkbox", checked: true, onchange: () => { draft.objectives = draft.objectives.filter((n) => n !== name); again("f-objective"); } }), name), h("span", { class: "doc" }, "not known to this server"))),
    chosen.map(line), others.map(line));
}

/**
 * @param {HTMLElement} place @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 */
export function limits(place, catalog, draft, changed) {
  const again = () => {
    changed();
    limits(place, catalog, draft, changed);
  };
  fill(
    place,
    draft.limits.map((limit, i) => {
      const path = `constraint[${i}]`;
      const metric = select(limit.metric, catalog.metrics.map((m) => [m.name, heading(m.name)]), (v) => { limit.metric = v; again(); });
      metric.setAttribute("aria-label", `Metric of limit ${i + 1}`);
      metric.dataset["path"] = `${path}.metric`;
      metric.id = idOf(`${path}.metric`);
      const side = select(limit.side, [["max", "at most"], ["min", "at least"]], (v) => { limit.side = /** @type {"min" | "max"} */ (v); again(); });
      side.setAttribute("aria-label", `Side of limit ${i + 1}`);
      const unit = catalog.metrics.find((m) => m.name === limit.metric)?.unit ?? "";
      const value = text(limit.value, (v) => { limit.value = v; changed(); }, { placeholder: unit === "B" ? "4 MiB" : unit === "s" ? "30 min" : "", "aria-label": `Value of limit ${i + 1}` });
      value.id = idOf(`${path}.${limit.side}`);
      value.dataset["path"] = `${path}.${limit.side}`;
      value.setAttribute("aria-describedby", `${value.id}-error`);
      return h("div", { class: "limit" }, metric, side, value, h("span", { class: "muted small" }, unit && unit !== "parameters" ? `${unit}, or with a unit` : ""),
        h("button", { type: "button", class: "plain", "aria-label": `remove limit ${i + 1}`, onclick: () => { draft.limits.splice(i, 1); again(); document.getElementById("add-limit")?.focus(); } }, "✕"),
        errorPlace(`${path}.${limit.side}`), errorPlace(`${path}.metric`));
    }),
    h("p", {}, h("button", { type: "button", id: "add-limit", onclick: () => {
      const used = draft.limits.map((l) => l.metric);
      const metric = catalog.metrics.find((m) => m.known_before_training && !used.includes(m.name)) ?? catalog.metrics[0];
      if (!metric) return;
      draft.limits.push({ metric: metric.name, side: metric.direction === "minimize" ? "max" : "min", value: "" });
      again();
      document.getElementById(idOf(`constraint[${draft.limits.length - 1}].metric`))?.focus();
    } }, "Add a limit")),
  );
}

/**
 * @param {HTMLElement} place @param {Catalog} catalog @param {Draft} draft @param {() => void} changed
 */
export function search(place, catalog, draft, changed) {
  const { search } = draft;
  const keep = (/** @type {keyof Draft["search"]} */ key) => (/** @type {string} */ value) => {
    search[key] = value;
    changed();
  };
  const number = { inputmode: "numeric" };
  const { fidelity } = draft;
  const keepPart = (/** @type {keyof Draft["fidelity"]} */ key) => (/** @type {string} */ value) => {
    fidelity[key] = value;
    changed();
  };
  const rule = catalog.rules.find((r) => r.name === fidelity.rule);
  const method = catalog.methods.find((m) => m.name === search.method);
  fill(
    place,
    field("search.method", "Method", select(search.method, catalog.methods.map((m) => [m.name, m.name]), keep("method")), { doc: method?.doc ?? "" }),
    field("search.trials", "Trials", text(search.trials, keep("trials"), number), { doc: "configurations that are tried at most" }),
    field("search.wall", "Wall time", text(search.wall, keep("wall"), { placeholder: "no limit" }), { doc: "such as 30 min; no trial is proposed after it" }),
    field("search.parallel", "In parallel", text(search.parallel, keep("parallel"), number), { doc: "trials that may wait or run at once" }),
    field("search.seed", "Seed", text(search.seed, keep("seed"), number), { doc: "the same seed, the same search" }),
    field("search.repeats", "Repeats", text(search.repeats, keep("repeats"), number), { doc: "how often a configuration may be trained again, with another seed, where noise decides whether it is on the front" }),
    field("search.full_trials", "Training budget", text(search.full_trials, keep("full_trials"), { placeholder: "no limit", ...number }), { doc: "of all trials together, in trainings of full length" }),
    field("search.fidelity.steps", "Train in parts", text(fidelity.steps, keepPart("steps"), { placeholder: "in full" }), { doc: "such as 0.1, 0.3, 1: trials are measured there, and the promising ones trained on" }),
    field("search.fidelity.rule", "Who is trained on", select(fidelity.rule, catalog.rules.map((r) => [r.name, r.name]), keepPart("rule")), { doc: rule?.doc ?? "" }),
    field("search.fidelity.eta", "One in", text(fidelity.eta, keepPart("eta"), number), { doc: "so many trials is trained on from each part" }),
    field("search.start", "Start with", lines(draft.start, (v) => { draft.start = v; changed(); }, { placeholder: "layers = 2, width = 128" }), { doc: "configurations that are tried first, one a line; what they leave out has its usual value" }),
  );
}
