// One trial: what it is, how it went, what it measured, against the recommended one.
import "./shell.js";
import { get, post, sentence } from "./api.js";
import { lines, pointsOf } from "./charts/lines.js";
import { pairs } from "./config-diff.js";
import { byId, debounce, fill, h, ready } from "./dom.js";
import { ago, duration, heading, percent, quantity, title } from "./format.js";
import { listen, showConnection } from "./live.js";
import { loadStudy, vocabulary } from "./load.js";

const id = Number(document.body.dataset["trial"]);
const path = `/studies/${encodeURIComponent(document.body.dataset["study"] ?? "")}`;
const [words, study] = await Promise.all([vocabulary(), loadStudy(path)]);
const unit = (/** @type {string} */ m) => words.get(m)?.unit ?? "";
const curve = lines(byId("curve"), byId("curve-table"));
const picker = /** @type {HTMLSelectElement} */ (byId("curve-metric"));
/** @type {import("./types.js").TrialView} */
let trial;
/** @type {import("./types.js").Trial | null} */
let base;

async function load() {
  [trial, base] = await Promise.all([get(`/trials/${id}`), recommended()]);
  show();
}

async function recommended() {
  try {
    const { trial: best } = await get(`${path}/recommend?rule=knee`);
    return best.id === id ? null : best;
  } catch {
    return null; // nothing to compare with yet
  }
}

function show() {
  byId("state").className = `pill ${trial.state}`;
  byId("state").textContent = trial.stopping && trial.state === "running" ? "stopping" : trial.state;
  const failure = byId("failure");
  failure.hidden = !trial.failure;
  failure.textContent = trial.failure ? `${heading(trial.failure.kind ?? trial.state)}: ${trial.failure.message}` : "";
  for (const [name, shown] of Object.entries({
    retry: ["failed", "cancelled"].includes(trial.state),
    cancel: ["queued", "running", "paused"].includes(trial.state) && !trial.stopping,
    export: trial.state === "done" && trial.artifacts.length > 0,
  })) {
    const button = document.getElementById(name);
    if (button) button.hidden = !shown;
  }
  const compare = byId("compare");
  compare.hidden = !base;
  if (base) compare.setAttribute("href", `/compare?trials=${base.id},${id}`);

  const { progress } = trial;
  fill(byId("facts"), Object.entries({
    ...(trial.repeats === null ? {} : { Repeats: `trial ${trial.repeats}, with another seed` }),
    ...(trial.trainings > 1 ? { Values: `means of ${trial.trainings} trainings` } : {}),
    Attempt: `${trial.attempt} of ${trial.max_attempts}`,
    Worker: trial.worker ?? "–",
    Device: trial.device ?? "–",
    Started: trial.started_at ? ago(trial.started_at) : "–",
    Took: duration(trial.wall_s),
    ...(trial.trained < 1 && (trial.trained > 0 || trial.target < 1) ? { Trained: `${Math.round(100 * trial.trained)} %${trial.state === "paused" || trial.state === "pruned" ? "" : `, on its way to ${Math.round(100 * trial.target)} %`}` } : {}),
    ...(trial.state === "running" && progress ? { Now: `${progress.phase} ${progress.step} of ${progress.steps}${progress.eta_s ? `, ${duration(progress.eta_s)} left` : ""}` } : {}),
  }).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

  const names = Object.keys(trial.metrics);
  const first = study.objectives.map((o) => o.metric).filter((m) => names.includes(m));
  fill(byId("metrics"), [...first, ...names.filter((m) => !first.includes(m))].map((m) => {
    const metric = /** @type {import("./types.js").Metric} */ (trial.metrics[m]);
    const other = base?.metrics[m]?.value;
    return h("tr", { class: first.includes(m) ? "objective" : "" },
      h("th", { scope: "row", title: words.get(m)?.doc }, heading(m), first.includes(m) ? h("span", { class: "hush" }, ", an objective") : null),
      h("td", { class: "num" }, quantity(metric.value, metric.unit, metric.spread ?? 0)),
      h("td", { class: "num" }, other === undefined ? "–" : percent(metric.value, other)),
      h("td", { class: "muted wrap" }, h("span", { class: `tag ${metric.evidence}` }, metric.evidence), metric.source.replaceAll("_", " ")));
  }));
  byId("no-metrics").hidden = names.length > 0;

  fill(byId("config"), pairs(trial.config, base?.config));
  byId("config-note").textContent = base ? "← recommended" : "";
  showPairs("activity", trial.activity);
  showPairs("provenance", { ...trial.provenance, ...(trial.snapshot?.method ? { "proposed by": `${trial.snapshot.method}, after ${trial.snapshot.finished} results` } : {}) });
}

/** @param {string} place @param {Record<string, unknown>} values */
function showPairs(place, values) {
  const entries = Object.entries(values);
  byId(`${place}-panel`).hidden = entries.length === 0;
  fill(byId(place), entries.map(([name, value]) => [h("dt", {}, title(name)), h("dd", {}, String(value))]));
}

// --- the learning curve ---

async function loadCurve() {
  if (trial.attempt === 0) return showCurve(null);
  try {
    showCurve(await get(`/trials/${id}/curve`));
  } catch (e) {
    complain(e);
  }
}

/** @param {{ curves: import("./types.js").Curve[] } | null} answer */
function showCurve(answer) {
  const curves = answer?.curves ?? [];
  const names = curves.map((c) => c.metric);
  byId("curve-panel").hidden = names.length === 0;
  const shown = names.includes(picker.value) ? picker.value : (names.find((n) => study.objectives[0]?.metric === n) ?? names[0]);
  if (!shown) return;
  if (picker.options.length !== names.length) fill(picker, names.map((n) => h("option", { value: n }, heading(n))));
  picker.value = shown;
  curve({ lines: [{ name: title(shown), points: pointsOf(curves, shown) }], x: "training step", y: heading(shown), unit: unit(shown) });
}
picker.addEventListener("change", () => void loadCurve());

// --- actions ---

/** @param {unknown} e */
function complain(e) {
  byId("alert").hidden = false;
  byId("alert").textContent = sentence(e);
}
for (const action of ["retry", "cancel"]) {
  document.getElementById(action)?.addEventListener("click", () => {
    post(`/trials/${id}/${action}`).then(load, complain);
  });
}

await load();
await loadCurve();
const again = debounce(500, () => void load().then(loadCurve, complain));
listen(`${path}/events`, { trial: (changed) => changed.id === id && again() }, showConnection);
ready();
