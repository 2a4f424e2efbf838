// The chart by keyboard: what the pointer can do, in the front's own order.

/** @typedef {import("./model.js").Model} Model */

/**
 * @param {HTMLElement} element the focusable chart
 * @param {Model} model
 * @param {{ near: (id: number | null, spoken: boolean) => void, pin: (id: number) => void, open: (id: number) => void,
 *   clear: () => void, compare: (a: number, b: number) => void }} act
 */
export function keys(element, model, act) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const walk = model.walk;
    const here = walk.findIndex((t) => t.id === model.near);
    const go = (/** @type {number} */ to) => {
      const trial = walk[Math.max(0, Math.min(walk.length - 1, to))];
      if (trial) act.near(trial.id, true);
    };
    const start = () => Math.max(0, walk.findIndex((t) => t.id === (model.pinned.at(-1) ?? model.recommended?.trial.id)));
    switch (event.key) {
      case "ArrowRight":
      case "ArrowUp":
        go(here < 0 ? start() : here + 1);
        break;
      case "ArrowLeft":
      case "ArrowDown":
        go(here < 0 ? start() : here - 1);
        break;
      case "Home":
        go(0);
        break;
      case "End":
        go(walk.length - 1);
        break;
      case "Enter":
        if (model.near === null) return;
        if (model.pinned.includes(model.near)) act.open(model.near);
        else act.pin(model.near);
        break;
      case "Escape":
        act.clear();
        break;
      case "c":
      case "C": {
        const other = model.pinned.findLast((id) => id !== model.near) ?? model.recommended?.trial.id;
        if (model.near === null || other === undefined || other === model.near) return;
        act.compare(other, model.near);
        break;
      }
      default:
        return;
    }
    event.preventDefault();
  });
}
