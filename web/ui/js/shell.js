// What every page has: the theme switch and the log-out button.
import { announce } from "./dom.js";

const root = document.documentElement;
const toggle = document.getElementById("theme");

/** Dark or light, whether chosen or the system's. */
export function isDark() {
  const chosen = root.dataset["theme"];
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function show() {
  toggle?.setAttribute("aria-pressed", String(isDark()));
}

toggle?.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  root.dataset["theme"] = theme;
  // a cookie, so that the server's page comes in the right colours from the first frame
  document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=strict`;
  show();
  dispatchEvent(new Event("themechange"));
  announce(`${theme} theme`);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  show();
  dispatchEvent(new Event("themechange"));
});
show();

document.getElementById("logout")?.addEventListener("click", async () => {
  const csrf = document.querySelector('meta[name="csrf"]')?.getAttribute("content") ?? "";
  await fetch("/logout", { method: "POST", headers: { "x-csrf-token": csrf } });
  location.assign("/login");
});

// menus close on Escape and on a click beside them
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.removeAttribute("open");
    menu.querySelector("summary")?.focus();
  }
});
addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(/** @type {Node} */ (event.target))) menu.removeAttribute("open");
  }
});
