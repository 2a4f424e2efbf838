// A strip of bars above a budget's slider: how many results lie where, and which of them the budget keeps.

const BARS = 36;
const NS = "http://www.w3.org/2000/svg";

export function histogram() {
  const element = document.createElementNS(NS, "svg");
  element.setAttribute("viewBox", `0 0 ${BARS} 1`);
  element.setAttribute("preserveAspectRatio", "none");
  // the number box and the count below the rail say the same in words
  element.setAttribute("aria-hidden", "true");

  /**
   * @param {number[]} places of the values, from 0 to 1 along the slider
   * @param {(number | null)[]} limits lower and upper place, where there is one
   */
  function draw(places, [from = null, to = null]) {
    const counts = new Array(BARS).fill(0);
    for (const place of places) counts[Math.min(BARS - 1, Math.floor(place * BARS))]++;
    const most = Math.max(1, ...counts);
    const bars = counts.flatMap((count, i) => {
      if (count === 0) return [];
      const bar = document.createElementNS(NS, "rect");
      const height = Math.max(0.08, count / most);
      const middle = (i + 0.5) / BARS;
      for (const [name, value] of Object.entries({ x: i + 0.08, y: 1 - height, width: 0.84, height })) bar.setAttribute(name, String(value));
      if ((from !== null && middle < from) || (to !== null && middle > to)) bar.setAttribute("class", "out");
      return [bar];
    });
    element.replaceChildren(...bars);
  }

  return { element, draw };
}
