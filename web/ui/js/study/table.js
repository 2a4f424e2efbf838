// The table twin of the chart: the same trials, the same selection, sortable, a page at a time.
import { byId, fill, h } from "../dom.js";
import { column, duration, heading, plain, scale } from "../format.js";
import { evidence } from "./cards.js";
import { LETTERS } from "./scatter.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Trial} Trial */

const PAGE = 100;
const KEPT = "parsimony-columns";

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} name
 * @property {string} [unit]
 * @property {boolean} [numeric]
 * @property {(t: Trial) => number | string | undefined} sort
 * @property {(t: Trial) => import("../dom.js").Child} cell
 */

/**
 * @param {Model} model @param {{ pin: (id: number) => void, near: (id: number | null) => void }} act
 */
export function table(model, act) {
  const [head, body] = [byId("trials-head"), byId("trials-body")];
  const filter = /** @type {HTMLSelectElement} */ (byId("trials-filter"));
  let sort = { key: "number", down: false };
  let page = 0;
  let drawn = "";
  let offered = "";
  const made = { version: -1, columns: /** @type {Column[]} */ ([]) };
  /** @type {Set<string>} */
  let hidden = new Set(JSON.parse(localStorage.getItem(KEPT) ?? "[]"));

  filter.addEventListener("change", () => {
    page = 0;
    show();
  });
  body.addEventListener("mouseover", (event) => act.near(idOf(event)));
  body.addEventListener("mouseleave", () => act.near(null));
  body.addEventListener("focusin", (event) => act.near(idOf(event)));
  byId("trials-back").addEventListener("click", () => turn(-1));
  byId("trials-next").addEventListener("click", () => turn(1));

  /** @param {Event} event */
  function idOf(event) {
    const row = /** @type {Element} */ (event.target).closest("tr");
    return row ? Number(row.dataset["id"]) : null;
  }
  /** @param {number} by */
  function turn(by) {
    page += by;
    show();
    byId("trials").scrollIntoView({ block: "start" });
  }

  /** Made anew only when trials have changed: each looks at all values. @returns {Column[]} */
  function columns() {
    if (made.version === model.version) return made.columns;
    made.version = model.version;
    made.columns = [
      { key: "number", name: "Trial", numeric: true, sort: (t) => t.number, cell: (t) => h("a", { href: `/trials/${t.id}` }, t.number) },
      { key: "state", name: "State", sort: (t) => place(t), cell: (t) => h("span", { class: `pill ${t.state} ${model.front.has(t.id) ? "on-front" : ""}` }, place(t)) },
      ...model.metrics.map((m) => metric(m)),
      ...model.study.parameters.map(({ name: p }) => parameter(p)),
      { key: "wall", name: "Took", numeric: true, sort: (t) => t.wall_s ?? undefined, cell: (t) => duration(t.wall_s) },
      { key: "worker", name: "Worker", sort: (t) => t.worker ?? undefined, cell: (t) => t.worker ?? "–" },
    ];
    return made.columns;
  }
  /** @param {string} p @returns {Column} */
  function parameter(p) {
    const values = model.results.map((t) => t.config[p]).filter((v) => typeof v === "number").sort((a, b) => a - b);
    const write = column(values, values[Math.floor(values.length / 2)] ?? 1);
    return {
      key: `p:${p}`, name: heading(p), numeric: values.length > 0,
      cell: (t) => { const v = t.config[p]; return typeof v === "number" ? write(v) : plain(v); },
      sort: (t) => { const v = t.config[p]; return typeof v === "boolean" ? Number(v) : v; },
    };
  }
  /** One unit for the whole column, and its evidence in the head where all values share it. @param {string} m @returns {Column} */
  function metric(m) {
    const values = model.results.map((t) => model.value(t, m) ?? NaN).filter(Number.isFinite).sort((a, b) => a - b);
    const middle = values[Math.floor(values.length / 2)] ?? 1;
    const { name, factor } = scale(middle, model.unit(m));
    const write = column(values.map((v) => v / factor), middle / factor);
    const kinds = new Set(model.results.map((t) => t.metrics[m]?.evidence ?? "measured"));
    const [kind] = kinds.size === 1 ? kinds : [];
    return {
      key: `m:${m}`, name: heading(m), unit: [name, kind && kind !== "measured" ? kind : ""].filter(Boolean).join(" · "), numeric: true,
      sort: (t) => model.value(t, m),
      cell: (t) => {
        const value = model.value(t, m);
        return value === undefined ? "–" : [write(value / factor), kind ? null : [" ", evidence(t.metrics[m])]];
      },
    };
  }
  /** @param {Trial} t */
  function place(t) {
    if (t.state !== "done") return (t.stopping && t.state === "running" ? "stopping" : t.state) + (t.trained > 0 ? ` at ${Math.round(100 * t.trained)} %` : "");
    if (t.repeats !== null) return `repeats ${t.repeats}`;
    if (!model.keeps(t)) return "over budget";
    if (model.apart.has(t.id)) return "set apart";
    return model.front.has(t.id) ? "front" : "done";
  }
  /** Objectives and searched parameters are shown first, the rest on demand. @param {Column} column */
  function isShown(column) {
    const usual = !column.key.startsWith("m:") || model.objectives.some((o) => `m:${o.metric}` === column.key);
    return usual !== hidden.has(column.key);
  }

  /** @param {Column[]} all */
  function showChooser(all) {
    const key = all.map((c) => c.key).join();
    if (key === offered) return;
    offered = key;
    fill(byId("columns"), all.slice(1).map((column) => h("label", { class: "check" },
      h("input", { type: "checkbox", checked: isShown(column), onchange: () => {
        if (hidden.has(column.key)) hidden.delete(column.key);
        else hidden.add(column.key);
        localStorage.setItem(KEPT, JSON.stringify([...hidden]));
        show();
      } }), column.name)));
  }

  function rows() {
    const all = [...model.trials.values()];
    const wanted = filter.value;
    const kept = all.filter((t) => wanted === "all" || (wanted === "front" ? model.front.has(t.id) : wanted === "budget" ? t.state === "done" && model.keeps(t) : t.state === wanted));
    const sorted = columns().find((c) => c.key === sort.key);
    const at = sorted?.sort ?? ((/** @type {Trial} */ t) => t.number);
    return kept.sort((a, b) => {
      const [x, y] = [at(a), at(b)];
      // what has no value stands last, whichever way
      if (x === undefined || y === undefined) return x === y ? a.number - b.number : x === undefined ? 1 : -1;
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
      return (sort.down ? -order : order) || a.number - b.number;
    });
  }

  function show() {
    const all = columns();
    showChooser(all);
    const found = rows();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.max(0, Math.min(page, pages - 1));
    const key = JSON.stringify([model.version, sort, page, filter.value, [...hidden], model.wheres(), model.pinned, model.x, model.y]);
    if (key === drawn) return mark();
    drawn = key;
    const seen = all.filter((c) => c.key === "number" || isShown(c));
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset["key"];
    fill(head, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "hush" }, "Pinned")), seen.map((column) =>
      h("th", { scope: "col", class: column.numeric ? "num" : "", "aria-sort": sort.key === column.key ? (sort.down ? "descending" : "ascending") : null },
        h("button", { type: "button", "data-key": `sort ${column.key}`, onclick: () => {
          sort = { key: column.key, down: sort.key === column.key && !sort.down };
          page = 0;
          show();
        } }, column.name, sort.key === column.key ? (sort.down ? "\u00a0↓" : "\u00a0↑") : ""),
        column.unit ? h("span", { class: "unit" }, column.unit) : null))));
    fill(body, found.slice(page * PAGE, (page + 1) * PAGE).map((t) => {
      const letter = LETTERS[model.pinned.indexOf(t.id)];
      return h("tr", { "data-id": t.id, class: letter ? "pinned" : "" },
        h("td", {}, h("label", { class: "check" }, h("input", { type: "checkbox", checked: Boolean(letter), "data-key": `pin ${t.id}`, "aria-label": `pin trial ${t.number}`, onchange: () => act.pin(t.id) }), letter ?? "")),
        seen.map((column) => h("td", { class: column.numeric ? "num" : "" }, column.cell(t))));
    }));
    if (focused) /** @type {HTMLElement | null} */ (document.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
    const from = page * PAGE;
    byId("trials-count").textContent = found.length ? `${from + 1}–${Math.min(from + PAGE, found.length)} of ${found.length}` : "none";
    byId("trials-pages").hidden = pages === 1;
    /** @type {HTMLButtonElement} */ (byId("trials-back")).disabled = page === 0;
    /** @type {HTMLButtonElement} */ (byId("trials-next")).disabled = page === pages - 1;
    mark();
  }

  function mark() {
    for (const row of body.querySelectorAll("tr.near")) row.classList.remove("near");
    if (model.near !== null) body.querySelector(`tr[data-id="${model.near}"]`)?.classList.add("near");
  }

  /** Shows only trials of one state. @param {string} state */
  function only(state) {
    filter.value = state;
    page = 0;
    show();
  }

  return { show, mark, only };
}
