// The front in one sentence, made from the data: what a person who does not see the chart needs first.
import { quantity, title } from "../format.js";

/** @typedef {import("./model.js").Model} Model */

/** @param {Model} model @returns {{ short: string, whole: string }} what stands above the chart, and what describes it */
export function summary(model) {
  const all = model.results.length;
  const none = "No trial has finished with all objectives yet.";
  if (!all) return { short: none, whole: none };
  const ends = [model.walk[0], model.walk.at(-1)].filter((t) => t !== undefined);
  const say = (/** @type {import("./model.js").Trial} */ t) =>
    `${quantity(model.value(t, model.y), model.unit(model.y))} at ${quantity(model.value(t, model.x), model.unit(model.x))}`;
  const [first, last] = ends;
  const span = first && last && first !== last ? ` It runs from ${say(first)} to ${say(last)}.` : "";
  const chosen = model.recommended?.trial;
  const best = chosen ? ` ${model.rule === "knee" ? "Knee" : "Recommended"}: trial ${chosen.number}, ${say(chosen)}.` : "";
  const kept = model.budgets.size ? ` ${model.feasible.size} of ${all} keep to the budgets.` : "";
  const others = model.objectives.length > 2 ? ` of ${model.objectives.length} objectives` : "";
  const short = all === 1 ? `One result so far, at ${first ? say(first) : "no place on these axes"}.` : `${model.front.size} of ${all} results are on the front${others}.${span}`;
  return { short, whole: `${title(model.y)} against ${title(model.x)}. ${short}${best}${kept}` };
}

/** Says so where an axis mixes values of different standing. @param {Model} model */
export function mixed(model) {
  const notes = [];
  for (const metric of new Set([model.x, model.y])) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const trial of model.results) {
      const label = trial.metrics[metric]?.evidence;
      if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
    }
    const parts = [...counts].map(([label, n]) => `${n} ${label}`);
    if (counts.size > 1) notes.push(`${title(metric)} mixes values of different standing (${parts.join(", ")}): compare within one kind`);
    else if (counts.has("estimated") || counts.has("extrapolated")) notes.push(`${title(metric)} is ${[...counts.keys()][0]}, not measured`);
  }
  return notes.length ? `${notes.join("; ")}. Hollow points are estimated.` : "";
}
