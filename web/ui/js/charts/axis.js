// One axis of a chart: its unit, its range and its ticks, linear or logarithmic.
import { number, scale } from "../format.js";

/**
 * @typedef {object} Axis
 * @property {string} unit the unit of its labels, prefix included
 * @property {(value: number) => number} place where a value lies, in the chart's own coordinate
 * @property {number} low
 * @property {number} high
 * @property {number[]} ticks in the chart's own coordinate
 * @property {(place: number) => string} label
 */

/**
 * An axis that shows all of `values`, which are finite and, if `log`, above 0.
 * @param {number[]} values @param {string} unit @param {boolean} log @param {number} [wanted] number of ticks
 * @returns {Axis}
 */
export function axis(values, unit, log, wanted = 6) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (!Number.isFinite(low)) [low, high] = log ? [1, 10] : [0, 1];
  const { name, factor } = scale(high, unit);
  const place = (/** @type {number} */ v) => (log ? Math.log10(v / factor) : v / factor);
  let [from, to] = [place(low), place(high)];
  const margin = to > from ? (to - from) * 0.06 : Math.abs(to) * 0.1 || 0.5;
  [from, to] = [from - margin, to + margin];
  if (!log && low >= 0 && from < 0) from = 0;
  const ticks = log ? logTicks(from, to, wanted) : linearTicks(from, to, wanted);
  return {
    unit: name,
    place,
    low: from,
    high: to,
    ticks,
    label: (at) => number(Number((log ? 10 ** at : at).toPrecision(4))),
  };
}

/** @param {number} low @param {number} high @param {number} wanted */
function linearTicks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) ?? 10);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Round numbers within a range of powers of ten: the finest set that is not too many. @param {number} low @param {number} high @param {number} wanted */
function logTicks(low, high, wanted) {
  for (const digits of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const digit of digits) {
        const at = power + Math.log10(digit);
        if (at >= low && at <= high) ticks.push(at);
      }
    }
    if (ticks.length <= wanted + 1 && ticks.length >= 2) return ticks;
  }
  const rounded = linearTicks(low, high, wanted);
  return rounded.length < 2 ? [low, high] : rounded;
}
