// The two cards beside the chart: what is recommended, and what is looked at.
import { diff, pairs } from "../config-diff.js";
import { byId, fill, h } from "../dom.js";
import { duration, heading, number, percent, quantity, scale, title } from "../format.js";
import { LETTERS } from "./scatter.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Trial} Trial */

/** The evidence of a value, where it is not plainly measured. @param {import("../types.js").Metric | undefined} metric */
export function evidence(metric) {
  if (!metric || metric.evidence === "measured") return null;
  return h("span", { class: `tag ${metric.evidence}`, title: metric.source }, metric.evidence);
}

/**
 * The objectives of a trial, each with what it takes to judge the number.
 * @param {Model} model @param {Trial} trial
 * @param {(name: string, value: number) => import("../dom.js").Child} judge what it is held against
 */
function values(model, trial, judge) {
  return h(
    "dl",
    { class: "values" },
    model.objectives.map(({ metric: name }) => {
      const metric = trial.metrics[name];
      return h("div", {},
        h("dt", {}, heading(name), metric?.spread || evidence(metric) ? h("div", { class: "muted" },
          metric?.spread ? `± ${number(Number((metric.spread / scale(metric.value, model.unit(name)).factor).toPrecision(2)))} ` : null, evidence(metric)) : null),
        h("dd", {}, quantity(metric?.value, model.unit(name))),
        h("dd", { class: "judge" }, metric ? judge(name, metric.value) : null));
    }),
  );
}

/** How far a value is from that of `base`, and whether that is better. @param {Model} model @param {Trial} base */
const against = (model, base) => (/** @type {string} */ name, /** @type {number} */ value) => {
  const other = model.value(base, name);
  if (other === undefined || other === value) return null;
  return h("span", { class: model.maximised(name) === value > other ? "good" : "worse" }, percent(value, other));
};

/** @param {Model} model */
export function recommendedCard(model) {
  const body = byId("recommended-body");
  let shown = "";
  return () => {
    const chosen = model.recommended;
    const trial = chosen?.trial;
    const key = JSON.stringify([chosen, model.recommendError, trial?.state, model.results.length === 0]);
    if (key === shown) return;
    shown = key;
    if (!chosen || !trial) {
      fill(body, h("p", { class: "muted" }, model.recommendError || (model.results.length ? "…" : "Nothing has finished yet. The first result appears here by itself.")));
      return;
    }
    const unit = (/** @type {string} */ m) => model.unit(m);
    const givenUp = (/** @type {string} */ name) => {
      const lost = chosen.given_up.find((g) => g.metric === name);
      if (!lost) return null;
      if (lost.value === lost.best) return h("span", { class: "good" }, "the best");
      return h("span", { title: `the best is ${quantity(lost.best, unit(name))}` }, percent(lost.value, lost.best), " vs ",
        h("a", { href: `/trials/${lost.best_id}` }, `trial ${model.trials.get(lost.best_id)?.number ?? lost.best_id}`));
    };
    fill(
      body,
      h("p", { class: "lead" }, h("a", { href: `/trials/${trial.id}` }, `Trial ${trial.number}`), " ", h("span", { class: "muted" }, model.rule === "knee" ? "knee of the front" : model.rule.replace(/^(min|max):(.*)$/, (_, a, b) => `${a === "min" ? "least" : "most"} ${title(b)}`))),
      h("p", { class: "caption" }, "Against the best found in each objective"),
      values(model, trial, givenUp),
      chosen.relax.length
        ? h("div", { class: "note bad" }, "Nothing keeps every budget. ", chosen.relax.map((r) =>
            `Relax ${title(r.limit.metric)} to ${quantity(r.value, unit(r.limit.metric))} (${(100 * r.by).toFixed(1)} % more). `))
        : null,
      h("details", {}, h("summary", {}, "Why this one"), h("p", { class: "small" }, readable(model, chosen.reason))),
      h("details", {}, h("summary", {}, "Configuration"), pairs(trial.config)),
      h("p", { class: "actions" },
        h("a", { class: "button primary", href: `/api/v1/trials/${trial.id}/export`, download: true }, "Export model"),
        h("a", { class: "button", href: `/trials/${trial.id}` }, "Open")),
    );
  };
}

/** The server's sentence names trials by id; people know them by number. @param {Model} model @param {string} reason */
function readable(model, reason) {
  return reason.replace(/trial (\d+)/g, (all, id) => {
    const trial = model.trials.get(Number(id));
    return trial ? `trial ${trial.number}` : all;
  });
}

/** What the search chose of a trial's configuration; the rest follows from it. @param {Model} model @param {Trial} trial */
function searched(model, trial) {
  const names = new Set(model.study.parameters.map((p) => p.name));
  return Object.fromEntries(Object.entries(trial.config).filter(([name]) => names.has(name)));
}

/** @param {Model} model @param {{ pin: (id: number) => void }} act */
export function inspector(model, act) {
  const body = byId("inspector-body");
  let shown = "";
  return () => {
    const trial = model.shown;
    const base = model.recommended?.trial;
    const key = JSON.stringify([trial?.id, trial?.state, base?.id, model.pinned, trial && model.front.has(trial.id), trial && model.keeps(trial)]);
    if (key === shown) return;
    shown = key;
    if (!trial) {
      fill(body, h("p", { class: "muted small" }, "Point at a trial, or focus the chart and use the arrow keys."));
      return;
    }
    const letter = LETTERS[model.pinned.indexOf(trial.id)];
    const place = !model.keeps(trial) ? "over budget" : model.front.has(trial.id) ? "on the front" : trial.state === "done" ? "dominated" : trial.state;
    const same = base?.id === trial.id;
    fill(
      body,
      h("p", { class: "lead" }, h("a", { href: `/trials/${trial.id}` }, `Trial ${trial.number}`), " ",
        h("span", { class: "muted" }, [place, same ? "recommended" : "", trial.wall_s ? duration(trial.wall_s) : ""].filter(Boolean).join(" · "))),
      values(model, trial, same || !base ? () => null : against(model, base)),
      same || !base ? null : [h("h3", {}, "Differs from the recommended one in"), diff(searched(model, trial), searched(model, base))],
      h("p", { class: "actions" },
        h("button", { type: "button", onclick: () => act.pin(trial.id) }, letter ? `Unpin ${letter}` : "Pin to compare"),
        h("a", { class: "button", href: `/trials/${trial.id}` }, "Open")),
    );
  };
}
