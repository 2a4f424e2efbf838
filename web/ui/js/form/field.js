// One labelled input and the place where its error stands.
import { h } from "../dom.js";

/** The id of the input at a place in the study. @param {string} path */
export function idOf(path) {
  return `f-${path.replace(/[^A-Za-z0-9_]+/g, "-").replace(/-$/, "")}`;
}

/**
 * @param {string} path where it stands in the study, such as `search.trials`
 * @param {string} label
 * @param {HTMLElement} input
 * @param {{ doc?: string, unit?: string }} [more]
 */
export function field(path, label, input, { doc = "", unit = "" } = {}) {
  const id = idOf(path);
  input.id = id;
  input.dataset["path"] = path;
  const described = [doc ? `${id}-doc` : "", `${id}-error`].filter(Boolean).join(" ");
  input.setAttribute("aria-describedby", described);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    unit ? h("span", { class: "with-unit" }, input, h("span", { class: "muted small" }, unit)) : input,
    doc ? h("span", { class: "doc", id: `${id}-doc` }, doc) : null,
    errorPlace(path),
  );
}

/** @param {string} path */
export function errorPlace(path) {
  return h("span", { class: "error", id: `${idOf(path)}-error`, hidden: true });
}

/**
 * A text input bound to a draft.
 * @param {string} value @param {(value: string) => void} keep @param {Record<string, unknown>} [attributes]
 */
export function text(value, keep, attributes = {}) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes, value });
  input.addEventListener("input", () => keep(input.value));
  return input;
}

/**
 * A text of some lines bound to a draft.
 * @param {string} value @param {(value: string) => void} keep @param {Record<string, unknown>} [attributes]
 */
export function lines(value, keep, attributes = {}) {
  const input = h("textarea", { rows: 3, spellcheck: "false", ...attributes });
  input.value = value;
  input.addEventListener("input", () => keep(input.value));
  return input;
}

/**
 * A choice bound to a draft.
 * @param {string} value @param {[string, string][]} options value and words @param {(value: string) => void} keep
 */
export function select(value, options, keep) {
  const known = options.some(([v]) => v === value);
  const shown = known ? options : [...options, /** @type {[string, string]} */ ([value, value])];
  const input = h("select", {}, shown.map(([v, words]) => h("option", { value: v }, words)));
  input.value = value;
  input.addEventListener("change", () => keep(input.value));
  return input;
}

/**
 * Shows errors at their fields and in a summary whose links lead there.
 * @param {HTMLElement} summary @param {import("../api.js").FieldError[]} errors @param {string} lead
 * @param {(error: import("../api.js").FieldError) => HTMLElement | null} [elsewhere] the place of an error that has no field
 */
export function showErrors(summary, errors, lead, elsewhere = () => null) {
  clearErrors();
  summary.hidden = errors.length === 0;
  const items = errors.map((error) => {
    const input = fieldOf(error.path);
    const place = document.getElementById(`${input?.id}-error`);
    if (input && place) {
      input.setAttribute("aria-invalid", "true");
      place.hidden = false;
      place.textContent = place.textContent ? `${place.textContent}; ${error.message}` : error.message;
      reveal(input);
    }
    const target = elsewhere(error) ?? input;
    const where = error.line ? `line ${error.line}` : (target && nameOf(target)) || error.path;
    return h("li", {}, target
      ? h("a", { href: `#${target.id}`, onclick: (/** @type {Event} */ e) => {
          e.preventDefault();
          reveal(target);
          target.focus();
          target.scrollIntoView({ block: "center" });
        } }, where)
      : where || "study", `: ${error.message}`);
  });
  summary.replaceChildren(...(errors.length ? [h("strong", {}, lead), h("ul", {}, items)] : []));
}

export function clearErrors() {
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const place of document.querySelectorAll(".error")) {
    place.textContent = "";
    /** @type {HTMLElement} */ (place).hidden = true;
  }
}

/** What a field is called on the page. @param {HTMLElement} input */
function nameOf(input) {
  const label = document.querySelector(`label[for="${CSS.escape(input.id)}"]`) ?? input.closest("label") ?? input.closest("fieldset")?.querySelector("legend");
  return input.getAttribute("aria-label") ?? label?.textContent?.trim() ?? "";
}

/** The input at the path, or at the nearest place around it. @param {string} path @returns {HTMLElement | null} */
function fieldOf(path) {
  for (let at = path; at !== ""; at = at.replace(/[.[]?[^.[]+$/, "")) {
    const found = document.querySelector(`[data-path="${CSS.escape(at)}"]`);
    if (found) return /** @type {HTMLElement} */ (found);
  }
  return null;
}

/** Opens what hides an input. @param {HTMLElement} input */
function reveal(input) {
  for (let at = input.closest("details"); at; at = at.parentElement?.closest("details") ?? null) at.open = true;
}
