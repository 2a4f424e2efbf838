// The buttons that steer a study: pause, resume, cancel, delete.
import { post, remove } from "./api.js";

/** @type {Record<string, { question?: string, verb?: string }>} */
const QUESTIONS = {
  cancel: { question: "Cancel the study? Trials that run are stopped; what has finished is kept.", verb: "Cancel the study" },
  delete: { question: "Delete the study with all its trials and models? This cannot be undone.", verb: "Delete for ever" },
};

/** When each is of use. @type {Record<string, (state: string) => boolean>} */
const USEFUL = {
  pause: (state) => state === "running",
  resume: (state) => state === "paused",
  cancel: (state) => state === "running" || state === "paused",
  delete: (state) => state !== "running" && state !== "paused",
};

/** Shows the buttons that are of use in a state. @param {HTMLElement} root @param {string} state */
export function offer(root, state) {
  for (const button of root.querySelectorAll("button[data-steer]")) {
    const { dataset } = /** @type {HTMLElement} */ (button);
    /** @type {HTMLElement} */ (button).hidden = !USEFUL[dataset["steer"] ?? ""]?.(state);
  }
}

/**
 * Gives a meaning to each button below `root` that has `data-steer`.
 * @param {HTMLElement} root
 * @param {{ path: string, confirmed: (question: string, verb: string) => Promise<boolean>, complain: (e: unknown) => void }} means
 */
export function steer(root, { path, confirmed, complain }) {
  for (const button of root.querySelectorAll("button[data-steer]")) {
    const action = /** @type {HTMLElement} */ (button).dataset["steer"] ?? "";
    button.addEventListener("click", async () => {
      const { question, verb } = QUESTIONS[action] ?? {};
      if (question && verb && !(await confirmed(question, verb))) return;
      try {
        if (action === "delete") {
          await remove(path);
          location.assign("/");
        } else {
          await post(`${path}/${action}`);
        }
      } catch (e) {
        complain(e);
      }
    });
  }
}
