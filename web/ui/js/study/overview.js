// How the search goes: progress, counts, the hypervolume's curve, and what failed.
import { lines } from "../charts/lines.js";
import { byId, fill, h } from "../dom.js";
import { ago, duration } from "../format.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("../types.js").Study} Study */

/** The remaining time as a range. @param {Study["progress"]["eta"]} range */
export function remaining(range) {
  if (!range) return "";
  if (range.high_s < 60) return "less than a minute left";
  const [low, high] = [duration(range.low_s), duration(range.high_s)];
  if (range.low_s < 1) return `up to ${high} left`;
  return low === high ? `about ${low} left` : `${low} to ${high} left`;
}

/** @param {Study} study */
export function progressText(study) {
  const { finished, wanted, trained, full_trials, elapsed_s, eta } = study.progress;
  const parts = [`${finished} of ${wanted} trials`];
  if (full_trials || study.counts.paused) parts.push(`trained ${trained.toFixed(1)}${full_trials ? ` of ${full_trials}` : ""} full lengths`);
  if (elapsed_s) parts.push(`${duration(elapsed_s)} so far`);
  if (study.state === "running") parts.push(remaining(eta));
  return parts.filter(Boolean).join(" · ");
}

/**
 * What the last tenth of the results has added: whether it is worth going on.
 * @param {Study["hypervolume"]["curve"]} curve @param {number} value @param {number} results @param {boolean} fixed
 */
function gain(curve, value, results, fixed) {
  if (!fixed) return "its reference point still moves";
  const recent = Math.max(1, Math.round(results / 10));
  const before = curve.findLast((p) => p.results <= results - recent)?.value ?? 0;
  return before > 0 ? `+${((100 * (value - before)) / before).toFixed(1)} % in the last ${recent} results` : "";
}

/**
 * @param {Model} model @param {{ retryFailed: () => void, only: (state: string) => void }} act
 */
export function overview(model, act) {
  const curve = lines(byId("hypervolume"), byId("hypervolume-table"));
  let drawn = "";
  let failed = "";

  return () => {
    const { study } = model;
    const { finished, wanted } = study.progress;
    byId("state").className = `pill ${study.state}`;
    byId("state").textContent = study.state;
    byId("progress-text").textContent = progressText(study);
    byId("updated").textContent = `last change ${ago(study.changed_at)}`;
    const bar = byId("progress");
    bar.setAttribute("aria-valuenow", String(finished));
    bar.setAttribute("aria-valuemax", String(wanted));
    bar.setAttribute("aria-valuetext", progressText(study));
    /** @type {HTMLElement} */ (bar.firstElementChild).style.width = `${wanted ? Math.min(100, (100 * finished) / wanted) : 0}%`;
    const error = byId("study-error");
    error.hidden = !study.error;
    error.className = study.state === "failed" ? "alert" : "note";
    error.textContent = study.error ?? "";

    fill(byId("counts"), Object.entries(study.counts).filter(([, n]) => n > 0).map(([state, n]) =>
      h("li", {}, h("button", { type: "button", class: "plain", onclick: () => act.only(state) }, h("span", { class: `pill ${state}` }, state), h("strong", {}, n)))));

    const { value, fixed, curve: points } = study.hypervolume;
    const key = JSON.stringify([points.length, points.at(-1), fixed]);
    if (key !== drawn) {
      drawn = key;
      const enough = points.length > 1;
      byId("hypervolume").hidden = !enough;
      byId("hypervolume-twin").hidden = !enough;
      byId("hypervolume-now").textContent = enough ? gain(points, value, study.counts.done, fixed) : "from the second result on";
      curve({
        lines: [{ name: "hypervolume", points: points.map((p) => /** @type {[number, number]} */ ([p.results, (100 * p.value) / value])) }],
        x: "finished trials", y: "Share of the latest", unit: "%", step: true,
      });
    }
    showFailures();
  };

  function showFailures() {
    const failures = [...model.trials.values()].filter((t) => t.state === "failed").sort((a, b) => a.number - b.number);
    const key = failures.map((t) => `${t.id}:${t.attempt}`).join();
    if (key === failed) return;
    failed = key;
    byId("failures").hidden = failures.length === 0;
    byId("failures-count").textContent = String(failures.length);
    fill(byId("failures-list"), failures.slice(0, 20).map((t) =>
      h("li", {}, h("a", { href: `/trials/${t.id}` }, `Trial ${t.number}`), " ", h("span", { class: "tag" }, (t.failure?.kind ?? "failed").replaceAll("_", " ")), " ", h("span", { class: "small" }, t.failure?.message ?? ""))),
      failures.length > 20 ? h("li", {}, h("button", { type: "button", onclick: () => act.only("failed") }, `show all ${failures.length} in the table`)) : null);
    const retry = document.getElementById("retry-failed");
    if (retry) retry.onclick = act.retryFailed;
  }
}
