// Two to four trials side by side; the first is what the others are measured against.
import "./shell.js";
import { get, sentence } from "./api.js";
import { lines, pointsOf } from "./charts/lines.js";
import { differing } from "./config-diff.js";
import { byId, fill, h, ready } from "./dom.js";
import { heading, percent, plain, quantity, title } from "./format.js";
import { loadStudy, vocabulary } from "./load.js";
import { LETTERS } from "./study/scatter.js";

const ids = (document.body.dataset["trials"] ?? "").split(",").filter(Boolean);

try {
  const [words, ...trials] = await Promise.all([vocabulary(), ...ids.map((id) => get(`/trials/${id}`))]);
  const study = await loadStudy(`/studies/${encodeURIComponent(trials[0].study_name)}`);
  show(words, trials, study.objectives.map((o) => o.metric));
  await showCurves(words, trials);
} catch (e) {
  byId("alert").hidden = false;
  byId("alert").textContent = sentence(e);
}
ready();

/**
 * @param {Map<string, import("./types.js").MetricInfo>} words @param {any[]} trials
 * @param {string[]} goals the objectives, which stand first
 */
function show(words, trials, goals) {
  const [base] = trials;
  const columns = trials.map((t, i) => h("th", { scope: "col", class: "num" }, `${LETTERS[i]} · `, h("a", { href: `/trials/${t.id}` }, `trial ${t.number}`), i ? null : h("span", { class: "unit" }, "baseline")));
  fill(byId("metrics-head"), h("tr", {}, h("th", { scope: "col" }, "Metric"), columns));
  const names = [...new Set([...goals, ...trials.flatMap((t) => Object.keys(t.metrics))])];
  fill(byId("metrics"), names.map((name) => {
    const info = words.get(name);
    const values = trials.map((t) => t.metrics[name]?.value);
    const real = values.filter((v) => v !== undefined);
    const best = info?.direction === "maximize" ? Math.max(...real) : Math.min(...real);
    return h("tr", {}, h("th", { scope: "row", title: info?.doc }, heading(name)), trials.map((t, i) => {
      const metric = t.metrics[name];
      const other = base.metrics[name]?.value;
      const change = i && metric && other !== undefined ? percent(metric.value, other) : "";
      return h("td", { class: "num" },
        values[i] === best && real.length > 1 && real.some((v) => v !== best) ? h("strong", {}, quantity(metric?.value, info?.unit ?? ""), h("span", { class: "hush" }, " best")) : quantity(metric?.value, info?.unit ?? ""),
        h("div", { class: "muted small" }, metric && metric.evidence !== "measured" ? h("span", { class: `tag ${metric.evidence}` }, metric.evidence) : null, change ? ` ${change}` : null));
    }));
  }));
  fill(byId("config-head"), h("tr", {}, h("th", { scope: "col" }, "Parameter"), columns.map((c) => c.cloneNode(true))));
  const different = new Set(trials.slice(1).flatMap((t) => differing(t.config, base.config)));
  const all = [...new Set(trials.flatMap((t) => Object.keys(t.config)))].sort((a, b) => Number(different.has(b)) - Number(different.has(a)) || a.localeCompare(b, "en"));
  fill(byId("config"), all.map((name) => h("tr", { class: different.has(name) ? "" : "muted" }, h("th", { scope: "row" }, title(name)),
    trials.map((t) => h("td", { class: "num" }, different.has(name) && t.config[name] !== base.config[name] ? h("strong", {}, plain(t.config[name])) : plain(t.config[name]))))));
  byId("config-note").textContent = different.size ? `${different.size} of ${all.length} differ; they stand first` : "The configurations are the same.";
}

/** @param {Map<string, import("./types.js").MetricInfo>} words @param {any[]} trials */
async function showCurves(words, trials) {
  const answers = await Promise.all(trials.map((t) => (t.attempt ? get(`/trials/${t.id}/curve`).catch(() => null) : null)));
  const names = [...new Set(answers.flatMap((a) => (a?.curves ?? []).map((/** @type {import("./types.js").Curve} */ c) => c.metric)))];
  const [name] = names;
  byId("curve-panel").hidden = !name;
  if (!name) return;
  const draw = lines(byId("curve"), byId("curve-table"));
  const of = (/** @type {string} */ metric) =>
    draw({
      lines: trials.map((t, i) => ({ name: `${LETTERS[i]} · ${t.number}`, points: pointsOf(answers[i]?.curves ?? [], metric) })),
      x: "training step", y: heading(metric), unit: words.get(metric)?.unit ?? "",
    });
  const picker = /** @type {HTMLSelectElement} */ (byId("curve-metric"));
  fill(picker, names.map((n) => h("option", { value: n }, heading(n))));
  picker.addEventListener("change", () => of(picker.value));
  of(name);
}
