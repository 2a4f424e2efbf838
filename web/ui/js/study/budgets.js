// The rail of budgets: for each objective a slider and a number box, in real units.
import { byId, fill, h } from "../dom.js";
import { heading, number, quantity, scale, title } from "../format.js";
import { histogram } from "./histogram.js";

/** @typedef {import("./model.js").Model} Model */

const STEPS = 200;

/**
 * @param {Model} model @param {() => void} changed
 */
export function budgets(model, changed) {
  const list = byId("budget-list");
  const count = byId("budget-count");
  const adder = /** @type {HTMLSelectElement} */ (byId("budget-add"));
  /** Metrics with a row, in order. @type {string[]} */
  let rows = [];
  let ranges = "";
  /** Draws each row's histogram anew. @type {(() => void)[]} */
  let strips = [];
  let seen = "";

  adder.addEventListener("change", () => {
    if (!adder.value) return;
    model.budgets.set(adder.value, { min: null, max: null });
    show();
    list.querySelector(`[data-metric="${adder.value}"] input[type="number"]`)?.scrollIntoView({ block: "nearest" });
    adder.value = "";
  });
  byId("budget-clear").addEventListener("click", () => {
    model.budgets.clear();
    [rows, ranges] = [[], ""];
    changed();
  });

  /** @param {string} metric */
  function valuesOf(metric) {
    const values = model.results.map((t) => model.value(t, metric)).filter((v) => v !== undefined && Number.isFinite(v));
    return /** @type {number[]} */ (values);
  }

  /** @param {string} metric */
  function range(metric) {
    const all = valuesOf(metric);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return Number.isFinite(low) ? { low, high, log: low > 0 && high / low > 20 } : null;
  }

  /** @param {string} metric */
  function row(metric) {
    const span = range(metric);
    const upper = !model.maximised(metric);
    const key = upper ? "max" : "min";
    const unit = model.unit(metric);
    const limit = model.budgets.get(metric)?.[key] ?? null;
    const { name, factor } = scale(Math.max(Math.abs(span?.high ?? 1), Math.abs(limit ?? 0)), unit);
    /** @param {number} place */
    const valueAt = (place) => {
      if (!span) return 0;
      const share = place / STEPS;
      return span.log ? span.low * (span.high / span.low) ** share : span.low + share * (span.high - span.low);
    };
    /** @param {number} value */
    const placeOf = (value) => {
      if (!span || span.high === span.low) return upper ? STEPS : 0;
      const share = span.log
        ? Math.log(Math.max(value, span.low) / span.low) / Math.log(span.high / span.low)
        : (value - span.low) / (span.high - span.low);
      return Math.round(Math.min(1, Math.max(0, share)) * STEPS);
    };
    const loose = upper ? STEPS : 0;
    const words = `${heading(metric)} at ${upper ? "most" : "least"}`;
    const box = h("input", {
      type: "number", step: "any", id: `budget-${metric}`, value: limit === null ? "" : number(limit / factor),
      placeholder: span ? number((upper ? span.high : span.low) / factor) : "", "aria-describedby": `range-${metric}`,
    });
    const slider = h("input", {
      type: "range", min: 0, max: STEPS, step: 1, "aria-label": `${words}, slider`,
      value: limit === null ? loose : placeOf(limit), disabled: !span,
    });
    const tell = () => slider.setAttribute("aria-valuetext", slider.valueAsNumber === loose ? "no limit" : quantity(valueAt(slider.valueAsNumber), unit));
    tell();
    /** @param {number | null} value */
    const set = (value) => {
      const other = model.budgets.get(metric)?.[upper ? "min" : "max"] ?? null;
      if (value === null && other === null) model.budgets.delete(metric);
      else model.budgets.set(metric, upper ? { min: other, max: value } : { min: value, max: other });
      changed();
    };
    slider.addEventListener("input", () => {
      const place = slider.valueAsNumber;
      const value = place === loose ? null : Number((valueAt(place) / factor).toPrecision(3)) * factor;
      box.value = value === null ? "" : number(value / factor);
      tell();
      set(value);
    });
    box.addEventListener("change", () => {
      const value = box.value.trim() === "" || !Number.isFinite(box.valueAsNumber) ? null : box.valueAsNumber * factor;
      slider.value = String(value === null ? loose : placeOf(value));
      tell();
      set(value);
    });
    const strip = histogram();
    strips.push(() => {
      const { min, max } = model.budgets.get(metric) ?? {};
      strip.draw(valuesOf(metric).map((v) => placeOf(v) / STEPS), [min, max].map((v) => (v === null || v === undefined ? null : placeOf(v) / STEPS)));
    });
    return h(
      "li",
      { class: "budget", "data-metric": metric },
      h("label", { for: box.id }, heading(metric), h("span", { class: "muted" }, upper ? " at most" : " at least")),
      h("span", { class: "entry" }, box, h("span", { class: "unit muted" }, name)),
      strip.element,
      slider,
      h("span", { class: "ends muted", id: `range-${metric}` },
        span ? h("span", {}, h("span", { class: "hush" }, "from "), number(span.low / factor)) : "no value yet",
        span && h("span", {}, h("span", { class: "hush" }, "to "), number(span.high / factor))),
    );
  }

  function show() {
    const wanted = [...new Set([...model.objectives.map((o) => o.metric), ...model.budgets.keys(), ...rows])];
    const state = `${model.version} ${wanted.join()} ${model.wheres().join()}`;
    if (state === seen) return;
    seen = state;
    refresh(wanted);
  }

  /** @param {string[]} wanted */
  function refresh(wanted) {
    const now = wanted.map((m) => `${m}:${JSON.stringify(range(m))}`).join();
    const typing = list.contains(document.activeElement);
    // a row is not replaced under the hand that moves its slider
    if (now !== ranges && typing && wanted.length === rows.length) {
      seen = "";
    } else if (now !== ranges) {
      ranges = now;
      rows = wanted;
      strips = [];
      fill(list, ...rows.map(row));
      fill(adder, h("option", { value: "" }, "add a budget …"),
        model.metrics.filter((m) => !rows.includes(m)).map((m) => h("option", { value: m }, title(m))));
      adder.hidden = adder.options.length === 1;
    }
    for (const strip of strips) strip();
    const all = model.results.length;
    const text = model.budgets.size
      ? `${model.feasible.size} of ${all} keep to the budgets`
      : `no budgets${all > 1 ? `: all ${all} results count` : ""}`;
    if (count.textContent !== text) count.textContent = text;
    byId("budget-clear").hidden = model.budgets.size === 0;
  }

  return { show };
}
