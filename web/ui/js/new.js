// The form of a new study: the same study as a form or as TOML, each made from the other by the server.
import "./shell.js";
import { ApiError, get, post, sentence } from "./api.js";
import { byId, debounce, ready } from "./dom.js";
import { emptyDraft, fromSpec, toSpec } from "./form/draft.js";
import { clearErrors, showErrors } from "./form/field.js";
import { parameters } from "./form/parameters.js";
import { basics, limits, objectives, search } from "./form/sections.js";

/** @typedef {import("./form/draft.js").Draft} Draft */
/** @typedef {import("./api.js").FieldError} FieldError */

const KEPT = "parsimony-draft";
const query = new URLSearchParams(location.search);
/** @type {import("./types.js").Catalog} */
const catalog = await get("/catalog");
const summary = byId("errors");
const toml = /** @type {HTMLTextAreaElement} */ (byId("toml"));
let tab = "form";
/** @type {Draft} */
let draft = start();

/** The draft of this tab, if there is one. @returns {Draft} */
function start() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    if (kept && !query.has("from") && !query.has("demo")) {
      tab = kept.tab;
      toml.value = kept.toml;
      byId("draft-note").textContent = "draft restored";
      return kept.draft;
    }
  } catch {
    // an unreadable draft is no draft
  }
  return fresh();
}

/** @returns {Draft} */
function fresh() {
  const first = emptyDraft();
  first.preset = catalog.presets[0]?.name ?? "";
  first.objectives = ["validation_loss", "inference_flops_per_token"].filter((m) => catalog.metrics.some((k) => k.name === m));
  return first;
}

const keep = debounce(200, () => sessionStorage.setItem(KEPT, JSON.stringify({ draft, tab, toml: toml.value })));
toml.addEventListener("input", keep);

function draw() {
  basics(byId("basics"), catalog, draft, keep, () => {
    const focused = document.activeElement?.id;
    draw();
    if (focused) document.getElementById(focused)?.focus();
  });
  objectives(byId("objectives"), catalog, draft, keep);
  limits(byId("budgets"), catalog, draft, keep);
  parameters(byId("parameters"), catalog, draft, keep);
  search(byId("search"), catalog, draft, keep);
}

function body() {
  return tab === "toml" ? { toml: toml.value } : { spec: toSpec(draft) };
}

/** @param {FieldError[]} errors */
function complain(errors) {
  const lead = errors.length === 1 ? "One thing to mend:" : `${errors.length} things to mend:`;
  showErrors(summary, errors, lead, (error) => (tab === "toml" && error.line ? toml : null));
  byId("verdict").className = errors.length ? "small bad" : "small";
  byId("verdict").textContent = errors.length ? `${errors.length} to mend` : "Ready to run";
  if (errors.length) summary.scrollIntoView({ block: "nearest" });
}

/** Asks the server what it makes of the study. @returns {Promise<{ spec: any, toml: string | null, errors: FieldError[] } | null>} */
async function check() {
  try {
    return await post("/studies/check", body());
  } catch (e) {
    if (e instanceof ApiError && e.fields.length) complain(e.fields);
    else complain([{ path: "", line: null, message: sentence(e) }]);
    return null;
  }
}

/** @param {string} next */
async function show(next) {
  if (next !== tab) {
    const answer = await check();
    if (!answer) return;
    if (next === "toml") {
      if (answer.toml === null) return complain(answer.errors);
      toml.value = answer.toml;
    } else {
      if (!answer.spec) return complain(answer.errors);
      draft = fromSpec(answer.spec);
      draw();
    }
    tab = next;
    keep();
    clearErrors();
    summary.hidden = true;
  }
  for (const name of ["form", "toml"]) {
    byId(`panel-${name}`).hidden = name !== tab;
    byId("sections").hidden = tab !== "form";
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
}

for (const name of ["form", "toml"]) {
  const button = byId(`tab-${name}`);
  button.addEventListener("click", () => void show(name));
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const other = name === "form" ? "toml" : "form";
    void show(other).then(() => byId(`tab-${tab}`).focus());
  });
}

byId("check").addEventListener("click", async () => {
  const answer = await check();
  if (answer) complain(answer.errors);
});

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = /** @type {HTMLButtonElement} */ (byId("submit"));
  button.disabled = true;
  try {
    const study = await post("/studies", body());
    sessionStorage.removeItem(KEPT);
    location.assign(`/studies/${encodeURIComponent(study.name)}`);
  } catch (e) {
    if (e instanceof ApiError && e.fields.length) complain(e.fields);
    else complain([{ path: e instanceof ApiError && e.status === 409 ? "name" : "", line: null, message: sentence(e) }]);
    summary.focus();
  } finally {
    button.disabled = false;
  }
});

/** @param {string} path where a spec comes from */
async function take(path) {
  try {
    const { spec } = await post(path);
    draft = fromSpec(spec);
    tab = "form";
    draw();
    void show("form");
    keep();
  } catch (e) {
    complain([{ path: "", line: null, message: sentence(e) }]);
  }
}

byId("demo").addEventListener("click", demo);

/** A study that runs anywhere: data that the server makes by itself, and few, small trials. */
function demo() {
  draft = fresh();
  draft.name = `demo-${new Date().toISOString().slice(0, 10)}`;
  draft.corpus = catalog.corpora.find((c) => !c.needs_path)?.name ?? "";
  draft.search.trials = "16";
  tab = "form";
  draw();
  void show("form");
  keep();
}

byId("reset").addEventListener("click", () => {
  sessionStorage.removeItem(KEPT);
  location.assign("/new");
});

draw();
await show(tab);
const from = query.get("from");
if (query.has("demo")) demo();
if (from) await take(`/studies/${encodeURIComponent(from)}/clone${query.has("front") ? "?front=true" : ""}`);
ready();
