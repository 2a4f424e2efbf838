// The page's colours for the charts, which draw on a canvas and see no style sheet.

/** @typedef {{ ink: string, muted: string, line: string, accent: string, accentSoft: string, faded: string, bad: string, surface: string, font: string }} Colours */

/** @returns {Colours} */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const get = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    ink: get("--ink"),
    muted: get("--muted"),
    line: get("--line"),
    accent: get("--accent"),
    accentSoft: get("--accent-soft"),
    faded: get("--faded"),
    bad: get("--bad"),
    surface: get("--surface"),
    font: getComputedStyle(document.body).fontFamily,
  };
}
