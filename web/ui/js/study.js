// The study page: loads the study once, then lives on deltas.
import "./shell.js";
import { get, post, sentence } from "./api.js";
import { confirmed } from "./confirm.js";
import { announce, byId, debounce, eachFrame, fill, h, ready } from "./dom.js";
import { heading, quantity, title } from "./format.js";
import { listen, showConnection } from "./live.js";
import { loadStudy, loadTrials, vocabulary } from "./load.js";
import { readAddress, writeAddress } from "./study/address.js";
import { budgets } from "./study/budgets.js";
import { inspector, recommendedCard } from "./study/cards.js";
import { keys } from "./study/keys.js";
import { Model } from "./study/model.js";
import { overview } from "./study/overview.js";
import { LETTERS, scatter } from "./study/scatter.js";
import { mixed, summary } from "./study/summary.js";
import { table } from "./study/table.js";
import { offer, steer } from "./steer.js";

const name = document.body.dataset["study"] ?? "";
const path = `/studies/${encodeURIComponent(name)}`;

const [words, study, trials] = await Promise.all([vocabulary(), loadStudy(path), loadTrials(path)]);
const model = new Model(study, words);
model.put(trials);
/** @param {string} metric whether its values span too much for a linear axis */
const wide = (metric) => {
  const values = model.results.map((t) => model.value(t, metric) ?? NaN);
  return values.length > 1 && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 20;
};
[model.xlog, model.ylog] = [wide(model.x), wide(model.y)];
const usual = { x: model.x, y: model.y, log: `${model.xlog ? "x" : ""}${model.ylog ? "y" : ""}`, wheres: model.wheres() };
readAddress(model, new URLSearchParams(location.search));
model.derive();

// --- what can be done ---

/** @param {number | null} id @param {boolean} [spoken] */
function near(id, spoken = false) {
  if (id !== null && !model.trials.has(id)) return;
  if (id === model.near) return;
  model.near = id;
  look();
  const trial = id === null ? undefined : model.trials.get(id);
  if (spoken && trial) {
    const say = (/** @type {string} */ m) => `${title(m)} ${quantity(model.value(trial, m), model.unit(m))}`;
    const place = model.walk.indexOf(trial);
    announce(`Trial ${trial.number}${place < 0 ? "" : `, ${place + 1} of ${model.walk.length} on the front`}${trial.id === model.recommended?.trial.id ? ", recommended" : ""}: ${say(model.y)}, ${say(model.x)}`);
  }
}

/** @param {number} id */
function pin(id) {
  model.togglePin(id);
  const [trial, letter] = [model.trials.get(id), LETTERS[model.pinned.indexOf(id)]];
  announce(letter ? `trial ${trial?.number} pinned as ${letter}` : `trial ${trial?.number} unpinned`);
  show();
}

/** @param {number[]} ids */
function compare(ids) {
  location.assign(`/compare?trials=${ids.join(",")}`);
}

// --- what is shown ---

const chart = byId("scatter");
const views = {
  scatter: scatter(byId("scatter-canvas"), model, {
    onNear: (id) => near(id),
    onPick: (id) => pin(id),
  }),
  table: table(model, { pin, near: (id) => near(id) }),
  recommended: recommendedCard(model),
  inspector: inspector(model, { pin }),
  overview: overview(model, {
    retryFailed: async () => {
      try {
        await post(`${path}/retry-failed`);
        announce("the failed trials wait again");
      } catch (e) {
        complain(e);
      }
    },
    only: (state) => {
      views.table.only(state);
      byId("trials").scrollIntoView();
    },
  }),
  budgets: budgets(model, () => {
    model.version++;
    model.derive();
    show();
    recommend();
    announce(byId("budget-count").textContent ?? "");
  }),
};

/** Follows the pointer: as little as possible. */
const look = eachFrame(() => {
  views.scatter.mark();
  views.table.mark();
  views.inspector();
  showTip();
});

const show = eachFrame(() => {
  const began = performance.now();
  axes();
  views.budgets.show();
  views.scatter.draw();
  views.recommended();
  views.inspector();
  views.overview();
  offer(document.body, model.study.state);
  views.table.show();
  chips();
  const { short, whole } = summary(model);
  byId("summary").textContent = short;
  chart.setAttribute("aria-label", `Trade-off chart. ${whole}`);
  const note = mixed(model);
  byId("evidence-note").hidden = !note;
  byId("evidence-note").textContent = note;
  byId("chart-empty").hidden = model.results.length > 0;
  writeAddress(model, usual);
  // read by the speed test
  const { dataset } = document.body;
  dataset["redrawMs"] = (performance.now() - began).toFixed(1);
  dataset["redraws"] = String(Number(dataset["redraws"] ?? 0) + 1);
});

function showTip() {
  const tip = byId("tip");
  const trial = model.near === null ? undefined : model.trials.get(model.near);
  const spot = trial && views.scatter.spot(trial.id);
  tip.hidden = !spot;
  if (!trial || !spot) return;
  // small, since it covers what is behind it; the card beside the chart has the rest
  const line = (/** @type {string} */ axis, /** @type {string} */ m) => h("div", {}, h("span", { class: "muted" }, `${axis} `), quantity(model.value(trial, m), model.unit(m)));
  fill(tip, h("strong", {}, `Trial ${trial.number}`), line("Y", model.y), model.x === model.y ? null : line("X", model.x));
  // above and to the right, away from the front of two costs, as far as there is room
  const [gap, width, height] = [14, tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(0, Math.min(spot.x + gap, chart.clientWidth - width))}px`;
  tip.style.top = `${spot.y - gap - height >= 0 ? spot.y - gap - height : spot.y + gap}px`;
}

function chips() {
  const ids = model.pinned.filter((id) => model.trials.has(id));
  fill(byId("pins"), ids.map((id) => h("li", {}, h("button", { type: "button", class: "chip", onclick: () => pin(id) },
    h("strong", {}, LETTERS[model.pinned.indexOf(id)] ?? ""), ` trial ${model.trials.get(id)?.number}`, h("span", { "aria-hidden": "true" }, " ✕"), h("span", { class: "hush" }, ", unpin")))));
  byId("pinned").hidden = ids.length === 0;
  const go = /** @type {HTMLButtonElement} */ (byId("compare"));
  const others = ids.length === 1 && model.recommended && model.recommended.trial.id !== ids[0] ? [model.recommended.trial.id, ...ids] : ids;
  go.disabled = others.length < 2;
  go.textContent = ids.length === 1 ? "Compare with the recommended one" : `Compare ${ids.length}`;
  go.onclick = () => compare(others);
}

// --- the chart's own controls ---

const [xs, ys] = [/** @type {HTMLSelectElement} */ (byId("axis-x")), /** @type {HTMLSelectElement} */ (byId("axis-y"))];
let offered = "";
function axes() {
  const key = model.metrics.join();
  if (key !== offered) {
    offered = key;
    for (const select of [xs, ys]) fill(select, model.metrics.map((m) => h("option", { value: m }, heading(m))));
    const rule = /** @type {HTMLSelectElement} */ (byId("rule"));
    fill(rule, h("option", { value: "knee" }, "knee of the front"), model.objectives.map(({ metric, direction }) =>
      h("option", { value: `${direction === "minimize" ? "min" : "max"}:${metric}` }, `${direction === "minimize" ? "least" : "most"} ${title(metric)}`)));
    rule.value = model.rule;
  }
  xs.value = model.x;
  ys.value = model.y;
  byId("log-x").setAttribute("aria-pressed", String(model.xlog));
  byId("log-y").setAttribute("aria-pressed", String(model.ylog));
  byId("fit").setAttribute("aria-pressed", String(model.close));
}
/** @param {string} id @param {() => void} change */
const on = (id, change) => byId(id).addEventListener("click", () => {
  change();
  model.derive();
  show();
});
on("log-x", () => (model.xlog = !model.xlog));
on("log-y", () => (model.ylog = !model.ylog));
on("fit", () => (model.close = !model.close));
on("swap", () => ([model.x, model.y, model.xlog, model.ylog] = [model.y, model.x, model.ylog, model.xlog]));
for (const [select, key] of /** @type {[HTMLSelectElement, "x" | "y"][]} */ ([[xs, "x"], [ys, "y"]])) {
  select.addEventListener("change", () => {
    model[key] = select.value;
    model[key === "x" ? "xlog" : "ylog"] = wide(select.value);
    model.derive();
    show();
  });
}
byId("rule").addEventListener("change", () => {
  model.rule = /** @type {HTMLSelectElement} */ (byId("rule")).value;
  recommend();
  show();
});
byId("unpin-all").addEventListener("click", () => {
  model.pinned = [];
  show();
});
keys(chart, model, {
  near,
  pin,
  open: (id) => location.assign(`/trials/${id}`),
  clear: () => {
    model.pinned = [];
    near(null);
    show();
    announce("selection cleared");
  },
  compare: (a, b) => compare([a, b]),
});
chart.addEventListener("blur", () => near(null));

// --- the server's word ---

let asking = new AbortController();
async function askRecommendation() {
  asking.abort();
  asking = new AbortController();
  const query = new URLSearchParams({ rule: model.rule });
  for (const where of model.wheres()) query.append("where", where);
  try {
    const chosen = await get(`${path}/recommend?${query}`, asking.signal);
    const before = model.recommended?.trial.id;
    model.recommended = chosen;
    model.recommendError = "";
    if (before !== undefined && before !== chosen.trial.id) announce(`recommended: trial ${chosen.trial.number}`);
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") return;
    model.recommended = null;
    model.recommendError = model.results.length ? sentence(e) : "";
  }
  show();
}
const recommend = debounce(150, () => void askRecommendation());

/** @param {unknown} e */
function complain(e) {
  const alert = byId("alert");
  alert.hidden = false;
  alert.textContent = sentence(e);
}

steer(document.body, { path, confirmed, complain });
/** @type {import("./types.js").Trial[]} */
let arrived = [];
const takeIn = eachFrame(() => {
  const [before, fresh] = [model.results.length, arrived];
  arrived = [];
  model.put(fresh);
  show();
  if (model.results.length === before) return;
  recommend();
  refresh();
  announce(`${model.results.length} results; ${model.front.size} on the front`);
});
const refresh = debounce(400, () => {
  loadStudy(path).then((fresh) => {
    model.study = fresh;
    show();
  }, complain);
});
listen(
  `${path}/events?since=${document.body.dataset["revision"] ?? 0}`,
  {
    // many may come in one breath: they are taken in together
    trial: (trial) => {
      arrived.push(trial);
      takeIn();
    },
    study: ({ hypervolume, ...row }) => {
      Object.assign(model.study, row);
      model.study.hypervolume.value = hypervolume;
      show();
    },
    deleted: () => location.assign("/"),
  },
  showConnection,
);

document.getElementById("clone")?.setAttribute("href", `/new?from=${encodeURIComponent(name)}`);
document.getElementById("clone-front")?.setAttribute("href", `/new?from=${encodeURIComponent(name)}&front=true`);
await askRecommendation();
show();
setInterval(show, 30_000); // what says how long ago grows old
requestAnimationFrame(() => requestAnimationFrame(ready));
