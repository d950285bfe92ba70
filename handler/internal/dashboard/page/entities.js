import { ask, begin, beginning, button, closeDrawer, drawer, durable, el, plural, poll, shows, time, ago } from "./base.js";
import { longTable } from "./table.js";
import { payload } from "./value.js";

const pageSize = 1000, maxPages = 10;
const pathOf = (id) => "/entities/" + encodeURIComponent(id.name) + "/" + encodeURIComponent(id.key || "$");
const nameOf = (id) => "@" + id.name + "@" + id.key;

async function signal(id) {
  const a = await ask("Signal " + nameOf(id), "The entity does it when its turn comes; there is no answer.", [{ name: "operation", label: "Operation", required: true }, { name: "input", label: "Input (JSON)", json: true, long: true }], "Signal");
  if (!a) return "";
  await durable("POST", pathOf(id) + "?op=" + encodeURIComponent(a.operation), a.input.trim() || undefined);
  closeDrawer();
  return "The signal is on its way.";
}

async function remove(id) {
  if (!await ask("Delete " + nameOf(id) + "?", "It gets the operation delete, upon which its state is gone unless its code does something else.", [], "Delete", true)) return "";
  await durable("DELETE", pathOf(id));
  closeDrawer();
  return "The entity is told.";
}

const open = (e) => drawer(nameOf(e.entityId), el("dl", { class: "facts" }, el("div", {}, el("dt", {}, "Last operation"), el("dd", {}, time(e.lastOperationTime)))),
  el("div", { class: "bar" }, button("Signal", () => signal(e.entityId), { class: "main" }), button("Delete", () => remove(e.entityId), { class: "harm" })), payload("State", e.state) || el("p", { class: "quiet" }, "Its state is empty."));

export async function showEntities() {
  const shown = begin("Entities"), main = document.getElementById("main");
  let last = "", list = [], search = "";
  const table = longTable({ label: "Entities", key: (e) => nameOf(e.entityId), open, columns: [{ title: "Entity", class: "name" }, { title: "Key", class: "id" }, { title: "State", class: "detail" }, { title: "Last operation", class: "at" }],
    row: (e) => [el("button", { type: "button", class: "plain", "data-key": nameOf(e.entityId), onclick: () => open(e) }, e.entityId.name), e.entityId.key, el("span", { class: "mono" }, typeof e.state === "string" ? e.state : beginning(e.state, 120)), el("time", { datetime: e.lastOperationTime, title: time(e.lastOperationTime) }, ago(e.lastOperationTime))] });
  const foot = el("p", { class: "quiet foot", role: "status" }), empty = el("div", { class: "empty" });
  const find = el("input", { type: "search", class: "grow", "aria-label": "Search name or key", placeholder: "Search name or key", "data-search": true, oninput: () => { search = find.value.toLowerCase(); render(); } });
  const render = () => {
    const found = list.filter((e) => nameOf(e.entityId).toLowerCase().includes(search));
    table.show(found);
    table.box.hidden = !found.length;
    empty.hidden = Boolean(found.length);
    foot.textContent = found.length ? plural(found.length, "entity", "entities") : "";
    empty.replaceChildren(el("b", {}, search ? "Nothing matches" : "No entities"), el("p", {}, search ? "No entity has that in its name or key." : "An entity is here once an operation has given it a state."));
  };
  const load = async () => {
    let found = [], next = null, text = "";
    for (let n = 0; n < maxPages; n++) {
      const page = await durable("GET", "/entities?fetchState=true&top=" + pageSize, undefined, next ? { "x-ms-continuation-token": next } : {});
      found = found.concat(page.value);
      text += page.text;
      next = page.headers.get("x-ms-continuation-token");
      if (!next || next.trim() === "bnVsbA==") break;
    }
    if (!shows(shown)) return false;
    const changed = text !== last;
    last = text;
    list = found;
    render();
    return changed;
  };
  main.replaceChildren(el("div", { class: "bar title" }, el("h1", {}, "Entities")), el("div", { class: "bar filters" }, find), el("section", { class: "card flush" }, table.box, empty, foot));
  try { await load(); } catch (e) { if (shows(shown)) empty.replaceChildren(el("b", {}, "The entities cannot be shown"), el("p", {}, e.message)); }
  if (shows(shown)) poll(shown, load);
}
