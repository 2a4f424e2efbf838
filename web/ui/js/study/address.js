// The view in the page's address, so that it can be shared and the back button works.

/** @typedef {import("./model.js").Model} Model */

/**
 * Takes axes, budgets and selection from the address.
 * @param {Model} model @param {URLSearchParams} query
 */
export function readAddress(model, query) {
  const known = (/** @type {string | null} */ name) => (name && model.vocabulary.has(name) ? name : null);
  model.x = known(query.get("x")) ?? model.x;
  model.y = known(query.get("y")) ?? model.y;
  const log = query.get("log") ?? "";
  if (query.has("log")) [model.xlog, model.ylog] = [log.includes("x"), log.includes("y")];
  model.close = query.get("fit") === "front";
  model.rule = query.get("rule") ?? model.rule;
  if (query.has("where")) {
    model.budgets.clear();
    for (const where of query.getAll("where")) {
      const [, metric = "", operator, limit] = /^(\w+)(<=|>=)(.+)$/.exec(where) ?? [];
      const value = Number(limit);
      if (!known(metric) || !Number.isFinite(value)) continue;
      const budget = model.budgets.get(metric) ?? { min: null, max: null };
      budget[operator === "<=" ? "max" : "min"] = value;
      model.budgets.set(metric, budget);
    }
  }
  const pins = (query.get("pin") ?? "").split(",").map(Number);
  model.pinned = pins.filter((id) => Number.isInteger(id) && id > 0).slice(0, 4);
}

/**
 * Writes them back; nothing is written for what is as it comes.
 * @param {Model} model @param {{ x: string, y: string, log: string, wheres: string[] }} usual the first view's axes and budgets
 */
export function writeAddress(model, usual) {
  const query = new URLSearchParams();
  if (model.x !== usual.x) query.set("x", model.x);
  if (model.y !== usual.y) query.set("y", model.y);
  const log = `${model.xlog ? "x" : ""}${model.ylog ? "y" : ""}`;
  if (log !== usual.log) query.set("log", log);
  if (model.close) query.set("fit", "front");
  if (model.rule !== "knee") query.set("rule", model.rule);
  const wheres = model.wheres();
  if (wheres.join() !== usual.wheres.join()) {
    // an empty one says that even the study's own limits are off
    for (const where of wheres.length ? wheres : [""]) query.append("where", where);
  }
  if (model.pinned.length) query.set("pin", model.pinned.join(","));
  const text = query.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}
