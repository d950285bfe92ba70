// The page shows what the Durable HTTP API tells: of the local host or, with `dashboard`, of a deployed app. For the local host
// it also shows what the endpoints below /local tell.
import { closeDrawer, isLocal } from "./base.js";
import { showEntities } from "./entities.js";
import { showFunctions } from "./functions.js";
import { showInstance } from "./instance.js";
import { showList } from "./list.js";
import { showMessages, watchDead } from "./messages.js";

const main = document.getElementById("main");

function route(event) {
  const [path, query] = [location.hash.replace(/\?.*/, ""), location.hash.includes("?") ? location.hash.slice(location.hash.indexOf("?") + 1) : ""];
  closeDrawer();
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.hash === "#/" ? path === "" || path === "#/" || path.startsWith("#/i/") : link.hash === path;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  let name = "";
  try { name = path.startsWith("#/i/") ? decodeURIComponent(path.slice(4)) : ""; } catch { /* not ours */ }
  if (name) showInstance(name);
  else if (path === "#/entities") showEntities();
  else if (isLocal && path === "#/functions") showFunctions();
  else if (isLocal && path === "#/messages") showMessages();
  else showList(query);
  if (event) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}
addEventListener("hashchange", route);

// The key / moves the focus to the search.
addEventListener("keydown", (event) => {
  const field = document.querySelector("[data-search]");
  if (event.key !== "/" || !field || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  field.focus();
});

// The link may not change the part after #, which names a view.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

// The theme is light, dark, or the one that the system uses.
const theme = document.getElementById("theme"), themes = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };
function setTheme(name) {
  name === "auto" ? delete document.documentElement.dataset.theme : document.documentElement.dataset.theme = name;
  theme.textContent = themes[name];
  theme.setAttribute("aria-label", "Colours: " + name);
}
let chosen = "auto";
try { chosen = localStorage.getItem("theme") in themes ? localStorage.getItem("theme") : "auto"; } catch { /* storage is blocked */ }
theme.addEventListener("click", () => {
  const names = Object.keys(themes);
  chosen = names[(names.indexOf(chosen) + 1) % names.length];
  try { localStorage.setItem("theme", chosen); } catch { /* as above */ }
  setTheme(chosen);
});
setTheme(chosen);
watchDead();
route();
