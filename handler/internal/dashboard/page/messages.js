import { ask, ago, begin, button, call, closeDrawer, drawer, el, isLocal, plural, poll, shows, time } from "./base.js";
import { send } from "./functions.js";
import { longTable } from "./table.js";
import { decoded, payload, written } from "./value.js";

const badge = document.getElementById("dead");
function count(n) {
  badge.hidden = !n;
  badge.textContent = n;
  badge.setAttribute("aria-label", plural(n, "dead letter"));
}

// watchDead keeps the number of dead letters in the navigation up to date.
export async function watchDead() {
  if (!isLocal) return;
  try { count((await call("GET", "/local/messages")).value.deadTotal); } catch { /* the view says it */ }
}
if (isLocal) setInterval(() => { if (!document.hidden) watchDead(); }, 10000);

const putBack = (number, body) => call("POST", "/local/messages/" + number, body === undefined ? undefined : JSON.stringify({ body }));

async function edit(m) {
  const value = decoded(m.body), text = typeof value === "object" && value !== null ? written(value) : m.body;
  const a = await ask("Edit and put back", "It goes to " + m.function + " again, its deliveries counted anew.", [{ name: "body", label: "Message", value: text, long: true }], "Put back");
  if (!a) return "";
  await putBack(m.number, a.body === text ? undefined : a.body);
  closeDrawer();
  return "The message is back in the inbox.";
}

async function open(number) {
  const m = (await call("GET", "/local/messages/" + number)).value, value = m.binary ? m.body : decoded(m.body);
  const fact = (name, text) => text ? el("div", {}, el("dt", {}, name), el("dd", {}, text)) : null;
  drawer((m.dead ? "Dead letter " : "Message ") + m.number, el("dl", { class: "facts" }, fact("Function", m.function), fact("Id", m.id), fact("Came", time(m.enqueued)), fact("Deliveries", String(m.deliveries)), fact(m.dead ? "Last delivery" : "Next delivery", time(m.time))),
    m.reason ? el("section", { class: "card error" }, el("h3", {}, "Why the function did not take it"), el("pre", {}, m.reason)) : null,
    m.dead ? el("div", { class: "bar" }, button("Put back", async () => { await putBack(m.number); closeDrawer(); return "The message is back in the inbox."; }, { class: "main" }), m.binary ? el("span", { class: "quiet" }, "It is no text: it cannot be edited.") : button("Edit and put back", () => edit(m))) : null,
    payload(m.binary ? "Body (base64)" : "Body", value) || el("p", { class: "quiet" }, "The body is empty."));
}

const show = (m) => open(m.number).catch((e) => drawer("Message " + m.number, el("p", {}, e.message)));

export async function showMessages() {
  const shown = begin("Messages"), main = document.getElementById("main"), selected = new Set();
  let last = "", dead = [];
  const tick = (m) => el("input", { type: "checkbox", "data-key": "select " + m.number, "aria-label": "Select dead letter " + m.number, checked: selected.has(m.number), onchange: (e) => { e.target.checked ? selected.add(m.number) : selected.delete(m.number); bulk(); } });
  const cells = (m, at) => [el("button", { type: "button", class: "plain", "data-key": m.number, onclick: () => show(m) }, m.function), el("span", { class: "mono" }, m.body), m.reason || "", String(m.deliveries), at ? el("time", { datetime: at, title: time(at) }, Date.parse(at) > Date.now() ? time(at) : ago(at)) : "now"];
  const columns = (when) => [{ title: "Function", class: "name" }, { title: "Message", class: "detail" }, { title: "Why not", class: "reason" }, { title: "Deliveries", class: "number" }, { title: when, class: "when" }];
  const all = el("input", { type: "checkbox", "aria-label": "Select all dead letters", onchange: () => { for (const m of dead) all.checked ? selected.add(m.number) : selected.delete(m.number); bulk(); deadTable.show(dead); } });
  const deadTable = longTable({ label: "Dead letters", inside: true, key: (m) => m.number, open: show, columns: [{ title: all, class: "tick" }, ...columns("Died")], row: (m) => [tick(m), ...cells(m, m.time)] });
  const waitTable = longTable({ label: "Waiting messages", inside: true, key: (m) => m.number, open: show, columns: columns("Next delivery"), row: (m) => cells(m, m.time) });
  const back = button("Put back", async () => {
    let failed = 0;
    const numbers = [...selected];
    for (const n of numbers) {
      try { await putBack(n); selected.delete(n); } catch { failed++; }
    }
    bulk();
    if (failed) throw new Error(failed + " of " + numbers.length + " could not be put back.");
    return plural(numbers.length, "message") + " back in the inbox.";
  }, { class: "main", disabled: true });
  const bulk = () => { back.disabled = !selected.size; back.textContent = selected.size ? "Put back " + selected.size : "Put back"; };
  const part = (title, table, what) => {
    const total = el("span", { class: "quiet", role: "status" }), empty = el("div", { class: "empty" }, el("b", {}, what[0]), el("p", {}, what[1]));
    return { element: el("section", { class: "card flush" }, el("div", { class: "bar inset" }, el("h2", {}, title), total, el("span", { class: "grow" }), table === deadTable ? back : null), table.box, empty),
      show: (list, n) => { total.textContent = n ? n.toLocaleString() + (n > list.length ? ", the first " + list.length.toLocaleString() + " are shown" : "") : ""; table.box.hidden = !list.length; empty.hidden = Boolean(list.length); table.show(list); } };
  };
  const deadPart = part("Dead letters", deadTable, ["No dead letters", "A message that its function does not take in ten deliveries ends here, and can be edited and put back."]);
  const waitPart = part("Waiting", waitTable, ["Nothing waits", "Messages stand here until their function has taken them."]);
  const load = async () => {
    const { value, text } = await call("GET", "/local/messages");
    if (!shows(shown)) return false;
    const changed = text !== last;
    last = text;
    dead = value.dead;
    for (const n of selected) if (!dead.some((m) => m.number === n)) selected.delete(n);
    count(value.deadTotal);
    bulk();
    deadPart.show(dead, value.deadTotal);
    waitPart.show(value.waiting, value.waitingTotal);
    return changed;
  };
  const receivers = async () => (await call("GET", "/local/functions")).value.functions.filter((f) => f.sends).map((f) => f.name);
  main.replaceChildren(el("div", { class: "bar title" }, el("h1", { class: "grow" }, "Messages"), button("Send a message", async () => {
    const list = await receivers();
    if (!list.length) throw new Error("The app has no function that takes messages.");
    return send(list);
  }, { class: "main" })), deadPart.element, waitPart.element);
  try { await load(); } catch (e) { deadPart.element.replaceChildren(el("p", { class: "inset" }, e.message)); }
  if (shows(shown)) poll(shown, load);
}
