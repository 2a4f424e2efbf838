// A chart on the page: made once, redrawn on change of size and theme, its axes styled like the rest.
import { eachFrame } from "../dom.js";
import { init } from "../vendor/echarts.js";

/** @typedef {import("./axis.js").Axis} Axis */
/** @typedef {import("./theme.js").Colours} Colours */

/**
 * @param {HTMLElement} element @param {() => void} draw
 */
export function frame(element, draw) {
  const chart = init(element, null, { renderer: "canvas" });
  // with the next frame: drawing within the observer's own turn could ask it again
  const fit = eachFrame(() => {
    if (element.clientWidth === 0) return;
    chart.resize();
    draw();
  });
  new ResizeObserver(fit).observe(element);
  addEventListener("themechange", draw);
  return chart;
}

/**
 * The chart library's form of an axis.
 * @param {Axis} axis @param {string} name @param {"x" | "y"} side @param {Colours} c
 * @returns {any}
 */
export function styled(axis, name, side, c) {
  const text = { color: c.muted, fontFamily: c.font, fontSize: 12 };
  return {
    type: "value",
    min: axis.low,
    max: axis.high,
    name,
    nameLocation: side === "x" ? "middle" : "end",
    nameGap: side === "x" ? 28 : 12,
    nameTextStyle: { ...text, color: c.ink, align: side === "x" ? "center" : "left", padding: side === "x" ? 0 : [0, 0, 0, -40] },
    axisLabel: { ...text, customValues: axis.ticks, formatter: axis.label, hideOverlap: true },
    axisTick: { show: true, customValues: axis.ticks, lineStyle: { color: c.line } },
    axisLine: { show: true, onZero: false, lineStyle: { color: c.line } },
    splitLine: { show: true, lineStyle: { color: c.line, opacity: 0.6 } },
  };
}
