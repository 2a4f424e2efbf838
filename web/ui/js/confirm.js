// A question before something that cannot be undone.
import { h } from "./dom.js";

/**
 * @param {string} question @param {string} verb what the button does @returns {Promise<boolean>}
 */
export function confirmed(question, verb) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question" },
      h("p", { id: "question" }, question),
      h(
        "form",
        { method: "dialog", class: "actions" },
        h("button", { value: "no", autofocus: true }, "Keep"),
        h("button", { value: "yes", class: "danger" }, verb),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
