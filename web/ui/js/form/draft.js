// What has been typed so far, kept as it was typed, and its two ways to a study and back.

/** @typedef {import("../types.js").Spec} Spec */
/** @typedef {import("../types.js").Value} Value */
/** @typedef {import("../types.js").ParameterSpec} ParameterSpec */

/**
 * @typedef {object} ParameterDraft how one parameter is written; all forms keep their text, so changing one's mind costs nothing
 * @property {"preset" | "fixed" | "list" | "range"} mode
 * @property {string} value
 * @property {string} list values with commas between
 * @property {string} low
 * @property {string} high
 * @property {string} step
 * @property {boolean} log
 * @property {boolean} whole the range is one of whole numbers
 * @property {string} when
 */

/** @typedef {{ metric: string, side: "min" | "max", value: string }} LimitDraft */

/**
 * @typedef {object} Draft
 * @property {string} name
 * @property {string} corpus
 * @property {Record<string, string>} data
 * @property {string} base
 * @property {string} teacher
 * @property {string} preset
 * @property {string[]} objectives
 * @property {LimitDraft[]} limits
 * @property {Record<string, ParameterDraft>} parameters
 * @property {{ method: string, trials: string, wall: string, full_trials: string, parallel: string, repeats: string, seed: string }} search
 * @property {{ steps: string, rule: string, eta: string }} fidelity trained in full where no steps are given
 * @property {string} start configurations to begin with, one a line
 */

/** @returns {Draft} */
export function emptyDraft() {
  return {
    name: "",
    corpus: "",
    data: {},
    base: "",
    teacher: "",
    preset: "",
    objectives: [],
    limits: [],
    parameters: {},
    search: { method: "auto", trials: "64", wall: "", full_trials: "", parallel: "1", repeats: "0", seed: "0" },
    fidelity: { steps: "", rule: "mo_asha", eta: "3" },
    start: "",
  };
}

/** @returns {ParameterDraft} */
export function emptyParameter() {
  return { mode: "preset", value: "", list: "", low: "", high: "", step: "", log: false, whole: true, when: "" };
}

/** A scalar as it was typed: a number or truth value where it reads as one. @param {string} text @returns {Value} */
export function scalar(text) {
  const trimmed = text.trim();
  if (trimmed === "true" || trimmed === "false") return trimmed === "true";
  const plain = trimmed.replaceAll("_", "");
  return plain !== "" && Number.isFinite(Number(plain)) ? Number(plain) : trimmed;
}

/** @param {Draft} draft @returns {Spec} */
export function toSpec(draft) {
  /** @type {Record<string, Value>} */
  const fixed = {};
  /** @type {NonNullable<Spec["space"]>} */
  const space = draft.preset ? { preset: draft.preset } : {};
  for (const [name, p] of Object.entries(draft.parameters)) {
    if (p.mode === "fixed") fixed[name] = scalar(p.value);
    if (p.mode === "list" || p.mode === "range") space[name] = parameterSpec(p);
  }
  /** @type {Record<string, Value>} */
  const options = {};
  for (const [key, text] of Object.entries(draft.data)) {
    // file names and tokenizers are text even where they read as numbers
    if (text.trim() !== "") options[key] = key === "path" || key === "tokenizer" ? text.trim() : scalar(text);
  }
  const { method, trials, wall, full_trials, parallel, repeats, seed } = draft.search;
  const { steps, rule, eta } = draft.fidelity;
  return {
    name: draft.name.trim(),
    data: { corpus: draft.corpus, ...options },
    ...(draft.base.trim() ? { base: { path: draft.base.trim() } } : {}),
    ...(draft.teacher.trim() ? { teacher: { path: draft.teacher.trim() } } : {}),
    ...(Object.keys(fixed).length ? { fixed } : {}),
    space,
    objective: draft.objectives.map((metric) => ({ metric })),
    ...(draft.limits.length ? { constraint: draft.limits.map((l) => ({ metric: l.metric, [l.side]: scalar(l.value) })) } : {}),
    search: {
      method,
      // what is not a number goes along as it is, so that the server can say what is wrong with it
      trials: /** @type {number} */ (scalar(trials)),
      ...(wall.trim() ? { wall: scalar(wall) } : {}),
      ...(full_trials.trim() ? { full_trials: /** @type {number} */ (scalar(full_trials)) } : {}),
      parallel: /** @type {number} */ (scalar(parallel)),
      seed: /** @type {number} */ (scalar(seed)),
      ...(repeats.trim() !== "0" ? { repeats: /** @type {number} */ (scalar(repeats)) } : {}),
      ...(draft.start.trim() ? { start: configurations(draft.start) } : {}),
      ...(steps.trim() ? { fidelity: { steps: /** @type {number[]} */ (values(steps)), rule, eta: /** @type {number} */ (scalar(eta)) } } : {}),
    },
  };
}

/** Configurations, one a line: `layers = 2, width = 128`. @param {string} text @returns {Record<string, Value>[]} */
function configurations(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.map((line) => Object.fromEntries(line.split(",").map((part) => {
    const [name = "", ...value] = part.split("=");
    return [name.trim(), scalar(value.join("="))];
  })));
}

/** Scalars with commas between. @param {string} list @returns {Value[]} */
function values(list) {
  return list.split(",").map((t) => t.trim()).filter((t) => t !== "").map(scalar);
}

/** @param {ParameterDraft} p @returns {ParameterSpec} */
function parameterSpec(p) {
  const when = p.when.trim();
  if (p.mode === "list") {
    const choices = values(p.list);
    return when ? { choices, when } : choices;
  }
  const ends = /** @type {[number, number]} */ ([scalar(p.low), scalar(p.high)]);
  return {
    ...(p.whole ? { int: ends } : { float: ends }),
    ...(p.step.trim() ? { step: /** @type {number} */ (scalar(p.step)) } : {}),
    ...(p.log ? { log: true } : {}),
    ...(when ? { when } : {}),
  };
}

/** @param {Spec} spec @returns {Draft} */
export function fromSpec(spec) {
  const draft = emptyDraft();
  const { corpus, ...options } = spec.data;
  const { preset, ...space } = spec.space ?? {};
  draft.name = spec.name;
  draft.corpus = corpus;
  draft.data = Object.fromEntries(Object.entries(options).map(([k, v]) => [k, String(v)]));
  draft.base = spec.base?.path ?? "";
  draft.teacher = spec.teacher?.path ?? "";
  draft.preset = preset ?? "";
  draft.objectives = spec.objective.map((o) => o.metric);
  draft.limits = (spec.constraint ?? []).flatMap((c) => [
    ...(c.max === undefined ? [] : [{ metric: c.metric, side: /** @type {const} */ ("max"), value: String(c.max) }]),
    ...(c.min === undefined ? [] : [{ metric: c.metric, side: /** @type {const} */ ("min"), value: String(c.min) }]),
  ]);
  for (const [name, value] of Object.entries(spec.fixed ?? {})) {
    draft.parameters[name] = { ...emptyParameter(), mode: "fixed", value: String(value) };
  }
  for (const [name, value] of Object.entries(space)) {
    if (value !== undefined && typeof value !== "string") draft.parameters[name] = parameterDraft(value);
  }
  const search = spec.search ?? {};
  for (const key of /** @type {const} */ (["method", "trials", "wall", "full_trials", "parallel", "repeats", "seed"])) {
    if (search[key] !== undefined) draft.search[key] = String(search[key]);
  }
  const written = (/** @type {Record<string, Value>} */ start) => Object.entries(start).map(([k, v]) => `${k} = ${v}`).join(", ");
  draft.start = (search.start ?? []).map(written).join("\n");
  if (search.fidelity) {
    const { steps, rule, eta } = search.fidelity;
    draft.fidelity = { steps: steps.join(", "), rule: rule ?? draft.fidelity.rule, eta: String(eta ?? draft.fidelity.eta) };
  }
  return draft;
}

/** @param {ParameterSpec} spec @returns {ParameterDraft} */
export function parameterDraft(spec) {
  const draft = emptyParameter();
  if (Array.isArray(spec)) return { ...draft, mode: "list", list: spec.join(", ") };
  const when = spec.when ?? "";
  if (spec.choices) return { ...draft, mode: "list", list: spec.choices.join(", "), when };
  const [low, high] = spec.int ?? spec.float ?? ["", ""];
  return {
    ...draft,
    mode: "range",
    whole: spec.int !== undefined,
    low: String(low),
    high: String(high),
    step: spec.step === undefined ? "" : String(spec.step),
    log: spec.log ?? false,
    when,
  };
}
