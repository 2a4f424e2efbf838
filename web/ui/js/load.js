// Loading what a page starts from, in the pages' own form.
import { get } from "./api.js";

/** @typedef {import("./types.js").Trial} Trial */
/** @typedef {import("./types.js").Study} Study */
/** @typedef {import("./types.js").MetricInfo} MetricInfo */

/** Every metric by name, with unit and direction. @returns {Promise<Map<string, MetricInfo>>} */
export async function vocabulary() {
  const catalog = await get("/catalog");
  return new Map(catalog.metrics.map((/** @type {MetricInfo} */ m) => [m.name, m]));
}

/** @param {string} path @returns {Promise<Study>} */
export async function loadStudy(path) {
  return get(path);
}

/** Every trial of a study, a page at a time. @param {string} path @returns {Promise<Trial[]>} */
export async function loadTrials(path) {
  /** @type {Trial[]} */
  const all = [];
  let after = "";
  for (;;) {
    const page = await get(`${path}/trials?limit=2000${after}`);
    all.push(...page.trials);
    if (page.next === null || page.next === undefined) return all;
    after = `&after=${page.next}`;
  }
}
