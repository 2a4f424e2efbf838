// What the study page shows and what is chosen on it: one store that every part reads and none copies.
import { front } from "./front.js";

/** @typedef {import("../types.js").Trial} Trial */
/** @typedef {import("../types.js").Study} Study */
/** @typedef {import("../types.js").Budget} Budget */
/** @typedef {import("../types.js").MetricInfo} MetricInfo */
/** @typedef {import("../types.js").Recommendation} Recommendation */

/** Trials that can be compared side by side. */
export const MOST_PINNED = 4;

/** From the best founded down. */
const EVIDENCE = ["measured", "analytic", "estimated", "extrapolated", "imported"];

export class Model {
  /** @type {Map<number, Trial>} */
  trials = new Map();
  /** @type {Map<string, Budget>} */
  budgets = new Map();
  /** Metrics that any trial has, objectives first. @type {string[]} */
  metrics = [];
  x = "";
  y = "";
  xlog = false;
  ylog = false;
  /** Axes fit the front instead of all trials. */
  close = false;
  rule = "knee";
  /** The trial under the pointer or the keyboard. @type {number | null} */
  near = null;
  /** @type {number[]} */
  pinned = [];
  /** @type {Recommendation | null} */
  recommended = null;
  recommendError = "";
  /** Goes up with each change of trials or budgets. */
  version = 0;

  // derived
  /** Finished trials with a value for each objective. @type {Trial[]} */
  results = [];
  /** Those whose energy is known in another way than that of the best founded ones, so that they cannot be compared. @type {Set<number>} */
  apart = new Set();
  /** Those that can be compared and keep the budgets. @type {Set<number>} */
  feasible = new Set();
  /** Those of them that no other beats in all objectives. @type {Set<number>} */
  front = new Set();
  /** Those of them that no other beats in the two axes, by rising X. @type {Trial[]} */
  line = [];
  /** What the arrow keys walk along: the front, by rising X. @type {Trial[]} */
  walk = [];

  /** @param {Study} study @param {Map<string, MetricInfo>} vocabulary */
  constructor(study, vocabulary) {
    this.study = study;
    this.vocabulary = vocabulary;
    // a study of another version may name what this build does not measure
    for (const o of study.objectives) {
      if (!vocabulary.has(o.metric)) vocabulary.set(o.metric, { ...o, name: o.metric, known_before_training: false, doc: "" });
    }
    this.objectives = study.objectives;
    const [first, second] = this.objectives;
    this.y = first?.metric ?? "";
    this.x = (second ?? first)?.metric ?? "";
  }

  /** @param {string} metric */
  unit(metric) {
    return this.vocabulary.get(metric)?.unit ?? "";
  }

  /** @param {string} metric */
  maximised(metric) {
    return this.vocabulary.get(metric)?.direction === "maximize";
  }

  /** @param {Trial} trial @param {string} metric @returns {number | undefined} */
  value(trial, metric) {
    return trial.metrics[metric]?.value;
  }

  /** @param {Iterable<Trial>} trials */
  put(trials) {
    for (const trial of trials) this.trials.set(trial.id, trial);
    this.version++;
    this.derive();
  }

  /** Brings everything derived up to date. */
  derive() {
    const objectives = this.objectives.map((o) => o.metric);
    this.results = [];
    const metrics = new Set(objectives);
    for (const trial of this.trials.values()) {
      // a repeat counts in the means of the trial it repeats
      if (trial.state !== "done" || trial.repeats !== null) continue;
      for (const name in trial.metrics) metrics.add(name);
      if (objectives.every((name) => Number.isFinite(this.value(trial, name)))) this.results.push(trial);
    }
    this.metrics = [...metrics];
    this.apart = this.#apart();
    const together = this.results.filter((t) => !this.apart.has(t.id));
    this.feasible = new Set(together.filter((t) => this.keeps(t)).map((t) => t.id));
    // where nothing keeps the budgets, the whole front is what there is to look at
    const running = this.feasible.size ? together.filter((t) => this.feasible.has(t.id)) : together;
    this.front = front(this.#rows(running, objectives));
    const plotted = running.filter((t) => this.shows(t));
    const onLine = front(this.#rows(plotted, this.x === this.y ? [this.x] : [this.x, this.y]));
    this.line = this.#byX(plotted.filter((t) => onLine.has(t.id)));
    this.walk = this.#byX(plotted.filter((t) => this.front.has(t.id)));
  }

  /** The server's rule: a front never mixes energy that was measured with energy that was estimated. */
  #apart() {
    const energies = this.objectives.map((o) => o.metric).filter((m) => /^(J|g CO2)/.test(this.unit(m)));
    const rank = (/** @type {Trial} */ t) => energies.map((m) => EVIDENCE.indexOf(t.metrics[m]?.evidence ?? "analytic")).join();
    const ranks = this.results.map(rank);
    const best = ranks.reduce((a, b) => (b < a ? b : a), ranks[0] ?? "");
    return new Set(this.results.filter((_, i) => ranks[i] !== best).map((t) => t.id));
  }

  /** Whether the trial has a place on the chart. @param {Trial} trial */
  shows(trial) {
    const [x, y] = [this.value(trial, this.x), this.value(trial, this.y)];
    if (x === undefined || y === undefined) return false;
    return (!this.xlog || x > 0) && (!this.ylog || y > 0);
  }

  /** Whether the trial keeps the study's limits and every budget; one without the value does not. @param {Trial} trial */
  keeps(trial) {
    const limits = this.study.limits.map((l) => /** @type {[string, Budget]} */ ([l.metric, { min: l.min ?? null, max: l.max ?? null }]));
    for (const [metric, { min, max }] of [...limits, ...this.budgets]) {
      const value = this.value(trial, metric);
      if (value === undefined || (max !== null && value > max) || (min !== null && value < min)) return false;
    }
    return true;
  }

  /** The budgets in the server's form. @returns {string[]} */
  wheres() {
    return [...this.budgets].flatMap(([metric, { min, max }]) => [
      ...(max === null ? [] : [`${metric}<=${max}`]),
      ...(min === null ? [] : [`${metric}>=${min}`]),
    ]);
  }

  /** @param {number} id */
  togglePin(id) {
    if (this.pinned.includes(id)) this.pinned = this.pinned.filter((other) => other !== id);
    else this.pinned = [...this.pinned, id].slice(-MOST_PINNED);
  }

  /** The trial to look at: that under the pointer, else the one pinned last. */
  get shown() {
    const id = this.near ?? this.pinned.at(-1);
    return id === undefined ? undefined : this.trials.get(id);
  }

  /** @param {Trial[]} trials @param {string[]} metrics */
  #rows(trials, metrics) {
    const signs = metrics.map((m) => (this.maximised(m) ? -1 : 1));
    return trials.map((trial) => ({
      id: trial.id,
      values: Float64Array.from(metrics, (m, i) => (signs[i] ?? 1) * (this.value(trial, m) ?? NaN)),
    }));
  }

  /** @param {Trial[]} trials */
  #byX(trials) {
    const at = (/** @type {Trial} */ t) => this.value(t, this.x) ?? 0;
    return trials.sort((a, b) => at(a) - at(b) || a.number - b.number);
  }
}
