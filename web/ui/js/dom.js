// Building the page: elements from plain values. Text goes in as text, so nothing a user wrote can become markup.

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

/**
 * An element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes] `on*` functions become listeners, `class`, `data-*`, `aria-*` and the rest attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name === "value" || name === "checked" || name === "disabled") {
      Object.assign(element, { [name]: value });
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

/** @param {Node} parent @param {Child[]} children */
function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/**
 * Replaces what an element holds.
 * @param {Element} element @param {...Child} children
 */
export function fill(element, ...children) {
  const fresh = document.createDocumentFragment();
  append(fresh, children);
  element.replaceChildren(fresh);
}

/**
 * The element of that id, which the server's page has.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id @returns {T}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element '${id}'`);
  return /** @type {T} */ (element);
}

/** Says that the page shows its data; tests and screenshots wait for it. */
export function ready() {
  performance.mark("shown");
  document.body.dataset["ready"] = "1";
}

let said = 0;
let waiting = "";
/**
 * Says a sentence to screen readers: politely, and at most one a second, the latest.
 * @param {string} sentence
 */
export function announce(sentence) {
  const region = byId("status");
  const pending = waiting !== "";
  waiting = sentence;
  if (pending) return;
  setTimeout(
    () => {
      said = performance.now();
      if (region.textContent !== waiting) region.textContent = waiting;
      waiting = "";
    },
    Math.max(0, 1000 - (performance.now() - said)),
  );
}

/**
 * Runs `action` once things have been quiet for `pause` milliseconds.
 * @param {number} pause @param {() => void} action @returns {() => void}
 */
export function debounce(pause, action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, pause);
  };
}

/**
 * Runs `action` with the next frame, once however often it is asked.
 * @param {() => void} action @returns {() => void}
 */
export function eachFrame(action) {
  let asked = false;
  const run = () => {
    if (!asked) return;
    asked = false;
    action();
  };
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(run);
    // a hidden tab gets no frames
    setTimeout(run, 250);
  };
}
