// A small line chart with a table twin below it.
import { fill, h } from "../dom.js";
import { quantity } from "../format.js";
import { axis } from "./axis.js";
import { frame, styled } from "./frame.js";
import { colours } from "./theme.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {[number, number][]} points by rising x
 * @property {boolean} [dashed]
 */

/**
 * @typedef {object} Lines
 * @property {Line[]} lines the first is the accent's, the others are told apart by dashes and their end labels
 * @property {string} x name of the x axis
 * @property {string} y name of the y axis
 * @property {string} unit of the y values
 * @property {boolean} [step]
 * @property {boolean} [log]
 */

/** A metric's points as this chart takes them. @param {import("../types.js").Curve[]} curves @param {string} metric */
export function pointsOf(curves, metric) {
  const found = curves.find((c) => c.metric === metric);
  return (found?.points ?? []).map((p) => /** @type {[number, number]} */ ([p.step, p.value]));
}

/**
 * @param {HTMLElement} element @param {HTMLElement | null} twin where the same numbers stand as a table
 */
export function lines(element, twin) {
  /** @type {Lines | null} */
  let shown = null;
  const chart = frame(element, () => draw());

  function draw() {
    if (!shown) return;
    const c = colours();
    const points = shown.lines.flatMap((l) => l.points);
    const xs = axis(points.map((p) => p[0]), "", false, 5);
    const ys = axis(points.map((p) => p[1]), shown.unit, shown.log ?? false, 4);
    if (points.length) [xs.low, xs.high] = [Math.min(...points.map((p) => p[0])), Math.max(...points.map((p) => p[0]), 1)];
    const several = shown.lines.length > 1;
    chart.setOption(
      {
        animation: false,
        grid: { left: 52, right: several ? 84 : 16, top: 26, bottom: 40 },
        xAxis: styled(xs, shown.x, "x", c),
        yAxis: styled(ys, `${shown.y}${ys.unit ? ` (${ys.unit})` : ""}`, "y", c),
        series: shown.lines.map((line, i) => ({
          type: "line", silent: true, step: shown?.step ? "end" : false, data: line.points.map(([x, y]) => [x, ys.place(y)]),
          symbol: ["circle", "rect", "triangle", "diamond"][i] ?? "circle", symbolSize: 6,
          showSymbol: line.points.length < 3, itemStyle: { color: i ? c.muted : c.accent },
          lineStyle: { color: i ? c.muted : c.accent, width: i ? 1.25 : 1.75, type: ["solid", "dashed", [2, 3], [8, 3, 2, 3]][i] ?? "dashed" },
          endLabel: { show: several, formatter: line.name, color: i ? c.muted : c.ink, fontFamily: c.font, fontSize: 12 },
        })),
      },
      { replaceMerge: ["series"] },
    );
  }

  /** @param {Lines} next */
  return (next) => {
    shown = next;
    element.setAttribute("aria-label", described(next));
    draw();
    if (twin) {
      // long curves are thinned: a table of thousands of steps helps nobody
      const longest = next.lines.reduce((a, b) => (b.points.length > a.points.length ? b : a), { name: "", points: [] });
      const every = Math.ceil(longest.points.length / 60);
      const xs = longest.points.map((p) => p[0]).filter((_, i, all) => i % every === 0 || i === all.length - 1);
      fill(twin,
        h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "num" }, next.x), next.lines.map((l) => h("th", { scope: "col", class: "num" }, l.name)))),
        h("tbody", {}, xs.map((x) => h("tr", {}, h("td", { class: "num" }, x), next.lines.map((l) => h("td", { class: "num" }, quantity(l.points.find((p) => p[0] === x)?.[1], next.unit)))))));
    }
  };
}

/** @param {Lines} data */
function described({ lines, x, y, unit }) {
  const parts = lines.map((line) => {
    const [first, last] = [line.points[0], line.points.at(-1)];
    return first && last ? `${line.name}: from ${quantity(first[1], unit)} at ${x} ${first[0]} to ${quantity(last[1], unit)} at ${x} ${last[0]}` : `${line.name}: no values yet`;
  });
  return `${y} over ${x}. ${parts.join(". ")}.`;
}
