// Which trials no other trial beats. The same definition as the server's, redone here so that a change of budgets or
// axes shows within a frame.

/** @typedef {{ id: number, values: Float64Array }} Row values turned so that less is better */

/**
 * Ids of the rows that no other row dominates. Equal rows are all kept.
 * @param {Row[]} rows @returns {Set<number>}
 */
export function front(rows) {
  const order = rows.slice().sort((a, b) => compare(a.values, b.values));
  /** @type {Row[]} */
  const kept = [];
  // in lexicographic order a row can only be dominated by one before it, and then by one that was kept
  for (const row of order) {
    if (!kept.some((other) => dominates(other.values, row.values))) kept.push(row);
  }
  return new Set(kept.map((row) => row.id));
}

/** @param {Float64Array} a @param {Float64Array} b */
function compare(a, b) {
  for (let i = 0; i < a.length; i++) {
    const difference = /** @type {number} */ (a[i]) - /** @type {number} */ (b[i]);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @param {Float64Array} a @param {Float64Array} b */
function dominates(a, b) {
  let better = false;
  for (let i = 0; i < a.length; i++) {
    const x = /** @type {number} */ (a[i]);
    const y = /** @type {number} */ (b[i]);
    if (x > y) return false;
    if (x < y) better = true;
  }
  return better;
}
