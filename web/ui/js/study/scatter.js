// The trade-off chart: dominated trials faded, the front filled and joined, over-budget trials crossed.
import { axis } from "../charts/axis.js";
import { frame, styled } from "../charts/frame.js";
import { colours } from "../charts/theme.js";
import { heading } from "../format.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Trial} Trial */

const CROSS = "path://M-1,-0.7L-0.7,-1L0,-0.3L0.7,-1L1,-0.7L0.3,0L1,0.7L0.7,1L0,0.3L-0.7,1L-1,0.7L-0.3,0Z";
export const LETTERS = ["A", "B", "C", "D"];
/** How far from a point the pointer still finds it, in pixels. */
const REACH = 22;

/**
 * @param {HTMLElement} element @param {Model} model
 * @param {{ onNear: (id: number | null) => void, onPick: (id: number) => void }} act
 */
export function scatter(element, model, act) {
  const chart = frame(element, () => draw());
  /** @type {{ id: number, x: number, y: number }[]} */
  let spots = [];
  /** Chart coordinates of what is drawn, by trial. @type {Map<number, number[]>} */
  let places = new Map();

  const zr = chart.getZr();
  const nearest = (/** @type {{ offsetX: number, offsetY: number }} */ at) => {
    let best = null;
    let reach = REACH ** 2;
    for (const spot of spots) {
      const gap = (spot.x - at.offsetX) ** 2 + (spot.y - at.offsetY) ** 2;
      if (gap < reach) [best, reach] = [spot.id, gap];
    }
    return best;
  };
  zr.on("mousemove", (at) => {
    const id = nearest(at);
    zr.setCursorStyle(id === null ? "default" : "pointer");
    act.onNear(id);
  });
  zr.on("globalout", () => act.onNear(null));
  zr.on("click", (at) => {
    const id = nearest(at);
    if (id !== null) act.onPick(id);
  });

  function draw() {
    const c = colours();
    const shown = model.results.filter((t) => model.shows(t));
    const x = (/** @type {Trial} */ t) => model.value(t, model.x) ?? NaN;
    const y = (/** @type {Trial} */ t) => model.value(t, model.y) ?? NaN;
    const ranged = model.close && model.walk.length > 1 ? model.walk : shown;
    const narrow = element.clientWidth < 480;
    const xs = axis(ranged.map(x), model.unit(model.x), model.xlog, narrow ? 4 : 7);
    const ys = axis(ranged.map(y), model.unit(model.y), model.ylog, 6);
    const inside = (/** @type {Trial} */ t) =>
      xs.place(x(t)) >= xs.low && xs.place(x(t)) <= xs.high && ys.place(y(t)) >= ys.low && ys.place(y(t)) <= ys.high;
    const at = (/** @type {Trial} */ t) => [xs.place(x(t)), ys.place(y(t))];
    const name = (/** @type {string} */ metric, /** @type {string} */ unit) =>
      `${heading(metric)}${unit ? ` (${unit})` : ""} ${model.maximised(metric) ? "↑" : "↓"}`;

    const drawn = shown.filter(inside);
    places = new Map(drawn.map((t) => [t.id, at(t)]));
    const isFront = (/** @type {Trial} */ t) => model.front.has(t.id);
    const isApart = (/** @type {Trial} */ t) => model.apart.has(t.id);
    const isOver = (/** @type {Trial} */ t) => !model.feasible.has(t.id) && !isApart(t);
    const onLine = new Set(model.line.map((t) => t.id));
    const estimated = (/** @type {Trial} */ t) =>
      [model.x, model.y].some((m) => ["estimated", "extrapolated"].includes(t.metrics[m]?.evidence ?? ""));
    const point = (/** @type {Trial} */ t) => ({ value: at(t), ...(estimated(t) ? { itemStyle: { color: c.surface } } : {}) });

    /** @type {any[]} */
    const series = [
      // one path for all: thousands of single circles take twice as long
      { id: "dominated", type: "scatter", symbolSize: 6, silent: true, z: 2,
        itemStyle: { color: "transparent", borderColor: c.faded, borderWidth: 1, opacity: 0.75 },
        data: drawn.filter((t) => !isFront(t) && !isOver(t) && !isApart(t)).map(at) },
      { id: "apart", type: "scatter", symbol: "emptyRect", symbolSize: 6, silent: true, z: 2,
        itemStyle: { color: c.faded, opacity: 0.8 }, data: drawn.filter(isApart).map(at) },
      { id: "over", type: "scatter", symbol: CROSS, symbolSize: 7, silent: true, z: 2,
        itemStyle: { color: c.faded, opacity: 0.8 },
        data: drawn.filter((t) => isOver(t) && !isFront(t)).map(at) },
      { id: "line", type: "line", step: model.maximised(model.x) ? "start" : "end", symbol: "none", silent: true, z: 3,
        lineStyle: { color: c.accent, width: 1.25, opacity: 0.75 }, data: model.line.filter(inside).map(at) },
      { id: "spread", type: "custom", silent: true, z: 3, renderItem: whisker(c.accent),
        encode: { x: [0], y: [1] },
        data: drawn.filter(isFront).flatMap((t) => spreads(t).map(([dx, dy]) => [
          ...at(t), xs.place(Math.max(x(t) - dx, model.xlog ? x(t) / 1e3 : -Infinity)), xs.place(x(t) + dx),
          ys.place(Math.max(y(t) - dy, model.ylog ? y(t) / 1e3 : -Infinity)), ys.place(y(t) + dy),
        ])) },
      { id: "front", type: "scatter", symbolSize: 7, silent: true, z: 4,
        itemStyle: { color: c.accent, borderColor: c.accent, borderWidth: 1.25, opacity: 0.85 },
        data: drawn.filter((t) => isFront(t) && !onLine.has(t.id)).map(point) },
      { id: "best", type: "scatter", symbolSize: 10, silent: true, z: 5,
        itemStyle: { color: c.accent, borderColor: c.accent, borderWidth: 1.5, opacity: 1 },
        data: drawn.filter((t) => isFront(t) && onLine.has(t.id)).map(point) },
      { id: "marked", type: "scatter", symbolSize: 19, silent: true, z: 7,
        itemStyle: { color: "transparent", borderColor: c.ink, borderWidth: 1.75 },
        label: { show: true, position: "top", distance: 3, color: c.ink, fontWeight: 700, fontFamily: c.font, fontSize: 13,
          textBorderColor: c.surface, textBorderWidth: 3 },
        data: marks() },
      { id: "recommended", type: "scatter", symbol: "diamond", symbolSize: 17, silent: true, z: 6,
        itemStyle: { color: c.accent, borderColor: c.surface, borderWidth: 2, opacity: 1 },
        label: { show: true, position: "bottom", distance: 6, color: c.accent, fontFamily: c.font, fontSize: 12, fontWeight: 600,
          formatter: model.rule === "knee" ? "knee" : "recommended", backgroundColor: c.surface, padding: [2, 5],
          borderColor: c.accent, borderWidth: 1, borderRadius: 3 },
        data: drawn.filter((t) => t.id === model.recommended?.trial.id).map(at) },
    ];
    chart.setOption({
      animation: false,
      grid: { left: 52, right: narrow ? 12 : 24, top: 30, bottom: 46 },
      xAxis: styled(xs, name(model.x, xs.unit), "x", c),
      yAxis: styled(ys, name(model.y, ys.unit), "y", c),
      series,
    });
    const grid = /** @type {any} */ ({ xAxisIndex: 0, yAxisIndex: 0 });
    spots = drawn.map((t) => {
      const [px = NaN, py = NaN] = chart.convertToPixel(grid, at(t)) ?? [];
      return { id: t.id, x: px, y: py };
    });
  }

  /** Rings around what is pinned or looked at. */
  function marks() {
    return [...new Set([...model.pinned, model.near])].flatMap((id) => {
      const value = id === null ? undefined : places.get(id);
      const letter = id === null ? "" : (LETTERS[model.pinned.indexOf(id)] ?? "");
      return value ? [{ value, label: { formatter: letter } }] : [];
    });
  }

  /** The spread of a trial on the axes, if it has any. @param {Trial} t @returns {[number, number][]} */
  function spreads(t) {
    const [dx, dy] = [t.metrics[model.x]?.spread ?? 0, t.metrics[model.y]?.spread ?? 0];
    return dx > 0 || dy > 0 ? [[dx, dy]] : [];
  }

  return {
    draw,
    /** Moves the rings only, which is all that a pointer changes. */
    mark: () => chart.setOption({ series: [{ id: "marked", data: marks() }] }),
    /** Where a trial is drawn, in pixels of the chart. @param {number} id */
    spot: (id) => spots.find((s) => s.id === id),
  };
}

/** Draws a cross from low to high in both directions. @param {string} colour */
function whisker(colour) {
  return (/** @type {any} */ _params, /** @type {any} */ api) => {
    const [x, y, left, right, low, high] = [0, 1, 2, 3, 4, 5].map((i) => api.value(i));
    const line = (/** @type {number[]} */ a, /** @type {number[]} */ b) => {
      const [[x1, y1], [x2, y2]] = [api.coord(a), api.coord(b)];
      return { type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colour, lineWidth: 1, opacity: 0.6 } };
    };
    return { type: "group", children: [line([left, y], [right, y]), line([x, low], [x, high])] };
  };
}
