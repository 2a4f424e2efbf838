// The list of studies, alive.
import "./shell.js";
import { get, post, remove, sentence } from "./api.js";
import { confirmed } from "./confirm.js";
import { announce, byId, fill, h, ready } from "./dom.js";
import { ago, duration, title } from "./format.js";
import { listen, showConnection } from "./live.js";
import { progressText } from "./study/overview.js";

/** @typedef {import("./types.js").Study} Study */
/** @typedef {{ name: string, device: string, silent_s: number, trial: number | null, trial_number: number | null, study: string | null }} Worker */

const maySteer = document.body.dataset["role"] !== "view";
/** @type {Map<number, Study>} */
const studies = new Map();
/** @type {Worker[]} */
let workers = [];

/** @param {Study} study */
function row(study) {
  const path = `/studies/${encodeURIComponent(study.name)}`;
  const { finished, wanted } = study.progress;
  const bar = h("span", { class: "bar", role: "progressbar", "aria-label": `progress of ${study.name}`, "aria-valuemin": 0, "aria-valuemax": wanted, "aria-valuenow": Math.min(finished, wanted) }, h("span"));
  /** @type {HTMLElement} */ (bar.firstElementChild).style.width = `${wanted ? Math.min(100, (100 * finished) / wanted) : 0}%`;
  const failed = study.counts.failed;
  return h(
    "li",
    { class: "panel study-row", "data-id": study.id },
    h("div", { class: "study-name" }, h("h2", {}, h("a", { href: path }, study.name)), h("span", { class: `pill ${study.state}` }, study.state)),
    h("div", { class: "study-progress" }, bar, h("span", { class: "small muted" }, progressText(study), failed ? h("span", { class: "bad" }, ` · ${failed} failed`) : null)),
    h("div", { class: "small muted study-goal" }, study.objectives.map((o) => `${title(o.metric)} ${o.direction === "minimize" ? "↓" : "↑"}`).join(" · "), study.error ? h("span", { class: "bad" }, ` ${study.error}`) : null),
    h("div", { class: "small muted study-when" }, ago(study.changed_at)),
    h("div", { class: "actions" }, maySteer ? buttons(study, path) : null),
  );
}

/** @param {Study} study @param {string} path */
function buttons(study, path) {
  const live = study.state === "running" || study.state === "paused";
  /** @param {string} verb @param {() => Promise<unknown>} act */
  const button = (verb, act) => h("button", { type: "button", "aria-label": `${verb} ${study.name}`, "data-key": `${verb} ${study.id}`, onclick: () => void attempt(act) }, verb);
  return [
    study.state === "running" ? button("Pause", () => post(`${path}/pause`)) : null,
    study.state === "paused" ? button("Resume", () => post(`${path}/resume`)) : null,
    live ? button("Cancel", async () => (await confirmed(`Cancel ${study.name}? Trials that run are stopped; what has finished is kept.`, "Cancel the study")) && post(`${path}/cancel`)) : null,
    h("a", { class: "button", href: `/new?from=${encodeURIComponent(study.name)}`, "aria-label": `Clone ${study.name}` }, "Clone"),
    live ? null : button("Delete", async () => (await confirmed(`Delete ${study.name} with all its trials and models? This cannot be undone.`, "Delete for ever")) && remove(path)),
  ];
}

/** @param {() => Promise<unknown>} act */
async function attempt(act) {
  byId("alert").hidden = true;
  try {
    await act();
    await load();
  } catch (e) {
    byId("alert").hidden = false;
    byId("alert").textContent = sentence(e);
  }
}

function show() {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset["key"];
  const list = [...studies.values()].sort((a, b) => Date.parse(b.changed_at) - Date.parse(a.changed_at));
  byId("studies").hidden = list.length === 0;
  byId("empty").hidden = list.length > 0;
  fill(byId("studies"), list.map(row));
  if (focused) /** @type {HTMLElement | null} */ (document.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
  const alive = workers.filter((w) => w.silent_s < 120);
  fill(byId("workers"), alive.length
    ? alive.map((w) => h("li", {}, h("strong", {}, w.name), " ", h("span", { class: "muted" }, w.device, " · "),
        w.trial !== null ? h("a", { href: `/trials/${w.trial}` }, `${w.study} · trial ${w.trial_number}`) : h("span", { class: "muted" }, `waiting${w.silent_s < 15 ? "" : `, last heard of ${duration(w.silent_s)} ago`}`)))
    : h("li", { class: "muted" }, "No worker is connected. Start one with ", h("code", {}, "parsimony worker --server " + location.origin)));
}

async function load() {
  const [list, who] = await Promise.all([get("/studies"), get("/workers")]);
  studies.clear();
  for (const study of list.studies) studies.set(study.id, study);
  workers = who.workers;
  show();
}

await load();
listen(
  "/events",
  {
    study: (/** @type {Study} */ study) => {
      const before = studies.get(study.id)?.state;
      studies.set(study.id, study);
      if (before !== study.state) announce(`${study.name} is ${study.state}`);
      show();
    },
    studies: (/** @type {{ studies: Study[] }} */ list) => {
      studies.clear();
      for (const study of list.studies) studies.set(study.id, study);
      show();
    },
    deleted: (/** @type {{ id: number }} */ { id }) => {
      studies.delete(id);
      show();
    },
  },
  showConnection,
);
setInterval(() => get("/workers").then((who) => { workers = who.workers; show(); }, () => undefined), 10_000);
ready();
