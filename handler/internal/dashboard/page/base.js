// Shared by all views: making elements, calling the host, asking questions and reporting results. Whatever the host sends becomes
// text nodes, never markup.

const meta = (name) => document.querySelector("meta[name=" + name + "]").content;
const token = meta("token");

// isLocal: the page belongs to the local host, which can do more than the Durable HTTP API.
export const isLocal = meta("local") === "true";
export const api = "/runtime/webhooks/durabletask";
export const statuses = ["Running", "Pending", "Suspended", "Failed", "Completed", "Terminated"];
export const finished = new Set(["Completed", "Failed", "Terminated", "Canceled"]);

// el makes an element: el("a", {href: "#", class: "x", onclick: f}, "text", child, …).
export function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

// keepFocus lets f rebuild the content of root. If the focused element is still there, found by its data-key, it gets the focus
// again.
export function keepFocus(root, f) {
  const active = document.activeElement, key = root.contains(active) ? active.dataset.key : undefined;
  f();
  if (key !== undefined && document.activeElement !== active) root.querySelector('[data-key="' + CSS.escape(key) + '"]')?.focus({ preventScroll: true });
}

// whenFree runs f when no pointer button is pressed: an element that is rebuilt during a press would not get the click.
let pressed = false, deferred = new Map();
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => setTimeout(() => {
    pressed = false;
    const list = [...deferred.values()];
    deferred = new Map();
    for (const f of list) f();
  }), true);
}
export function whenFree(who, f) { pressed ? deferred.set(who, f) : f(); }

// ---- the host

// parse keeps numbers that JavaScript would change, such as 1.0 and 12345678901234567890, as they are written.
export function parse(text) {
  if (!JSON.rawJSON) return JSON.parse(text);
  return JSON.parse(text, (_, v, context) => typeof v === "number" && context && String(v) !== context.source ? JSON.rawJSON(context.source) : v);
}
export const isExact = (v) => Boolean(JSON.isRawJSON && JSON.isRawJSON(v));

const known = { 401: "The app refuses the key.", 403: "The host refuses this page: load it again.", 404: "There is no such thing here: it may be gone.", 410: "The instance has ended already.", 413: "That is too large for the host." };

// call returns {value, text, headers}. The status of its error is the answer's, or 0 if there was no answer.
export async function call(method, path, body, headers = {}) {
  if (method !== "GET") headers["X-Dashboard-Token"] = token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(path, { method, body, headers, cache: "no-store", redirect: "error" });
    text = await answer.text();
  } catch {
    throw Object.assign(new Error("The host does not answer."), { status: 0 });
  }
  let value = null;
  try { value = parse(text); } catch { /* no JSON: the status says it */ }
  if (answer.ok) return { value, text, headers: answer.headers };
  const why = typeof value === "string" ? value : value && (value.ExceptionMessage || value.Message);
  throw Object.assign(new Error(why || known[answer.status] || "The host answered " + answer.status + "."), { status: answer.status });
}
export const durable = (method, path, body, headers) => call(method, api + path, body, headers);
export const instancePath = (id) => "/instances/" + encodeURIComponent(id);
export const instanceLink = (id) => "#/i/" + encodeURIComponent(id);

// ---- reporting and asking

export function toast(text, bad) {
  const t = document.getElementById("toast");
  t.textContent = text;
  t.className = bad ? "bad" : "";
  t.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { t.hidden = true; }, bad ? 10000 : 5000);
}

// button makes a button. A toast says what its action did, or why it failed.
export function button(label, action, attributes = {}) {
  return el("button", { type: "button", "data-key": label, ...attributes, onclick: async (event) => {
    try {
      const said = await action(event);
      if (said) toast(said);
    } catch (e) { toast(e.message, true); }
    soon();
  } }, label);
}

// field makes an input element from {name, label, value, json, long, options, choices}.
function field(f) {
  const attributes = { id: "f-" + f.name, spellcheck: "false", autocomplete: "off", required: f.required, list: f.choices ? "f-" + f.name + "-list" : null };
  let control;
  if (f.options) control = el("select", attributes, ...f.options.map((o) => el("option", {}, o)));
  else control = el(f.long ? "textarea" : "input", { ...attributes, type: f.long ? null : "text" });
  if (f.value !== undefined) control.value = f.value;
  return { control, nodes: [el("label", { for: attributes.id }, f.label), control, f.choices ? el("datalist", { id: attributes.list }, ...f.choices.map((c) => el("option", { value: c }))) : null] };
}

// ask shows a question. It resolves to the values of the fields, or to null if it is cancelled. A JSON field is checked while the
// user types.
export function ask(title, text, fields, verb, harm) {
  const dialog = document.getElementById("dialog"), form = document.getElementById("form");
  const problem = el("p", { class: "problem", role: "alert" });
  const made = fields.map(field);
  const wrong = () => {
    for (const [n, f] of fields.entries()) {
      const { control } = made[n];
      control.removeAttribute("aria-invalid");
      if (!f.json || control.value.trim() === "") continue;
      try { JSON.parse(control.value); } catch (e) {
        control.setAttribute("aria-invalid", "true");
        return { control, text: f.label + " is not JSON: " + e.message };
      }
    }
    return null;
  };
  form.oninput = () => { problem.textContent = wrong()?.text || ""; };
  form.replaceChildren(el("h2", { id: "ask" }, title), text ? el("p", { class: "quiet" }, text) : "", ...made.flatMap((m) => m.nodes.filter(Boolean)), problem,
    el("div", { class: "bar end" }, el("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"), el("button", { value: "yes", class: harm ? "main harm" : "main" }, verb)));
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      const w = wrong();
      if (!w) return;
      event.preventDefault();
      problem.textContent = w.text;
      w.control.focus();
    };
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? Object.fromEntries(fields.map((f, n) => [f.name, made[n].control.value])) : null);
    dialog.returnValue = "no";
    dialog.showModal();
    (made[0]?.control || form.querySelector("button[value=yes]")).focus();
  });
}

// drawer shows content beside the view until the user closes it.
export function drawer(title, ...content) {
  const d = document.getElementById("drawer");
  d.replaceChildren(el("div", { class: "bar" }, el("h2", { id: "drawer-title", class: "grow" }, title), el("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => d.close() }, "✕")), ...content.flat(3).filter(Boolean));
  d.onclick = (event) => { if (event.target === d) d.close(); };
  if (!d.open) d.showModal();
  d.scrollTop = 0;
}
export const closeDrawer = () => document.getElementById("drawer").close();

// ---- words

export const time = (t) => t ? new Date(t).toLocaleString() : "";
export const clock = (t) => new Date(t).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
export function short(ms) {
  if (ms < 1000) return Math.max(0, Math.round(ms)) + " ms";
  if (ms < 60000) return (ms / 1000).toFixed(1) + " s";
  const s = Math.round(ms / 1000);
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  return s < 86400 ? Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min" : Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}
export function ago(t) {
  const s = Math.round((Date.now() - Date.parse(t)) / 1000);
  if (s < 5) return "just now";
  if (s < 60) return s + " s ago";
  if (s < 3600) return Math.floor(s / 60) + " min ago";
  return s < 86400 ? Math.floor(s / 3600) + " h ago" : new Date(t).toLocaleDateString();
}
export const when = (t) => el("time", { datetime: t, title: time(t) }, ago(t));
// spanText is how long an instance ran or has been running. The API gives whole seconds.
export function spanText(i) {
  const over = finished.has(i.runtimeStatus), ms = (over ? Date.parse(i.lastUpdatedTime) : Date.now()) - Date.parse(i.createdTime);
  return ms < 1000 ? "under 1 s" : over && ms < 60000 ? Math.round(ms / 1000) + " s" : short(ms);
}
export const plural = (n, one, many = one + "s") => n.toLocaleString() + " " + (n === 1 ? one : many);
export const statusOf = (status) => el("span", { class: "status " + status }, status);

export function beginning(value, n) {
  if (value === null || value === undefined || value === "") return "";
  const text = typeof value === "string" ? value : progressOf(value)?.text || JSON.stringify(value);
  return text.length > n ? text.slice(0, n) + "…" : text;
}

// progressOf reads a custom status that describes progress, and returns null for any other.
export function progressOf(v) {
  const get = (name) => Number(v && typeof v === "object" ? v[name] ?? v[name.toLowerCase()] : undefined);
  const total = get("Total"), done = get("Completed"), failed = get("Failed") || 0;
  if (!Number.isFinite(total) || !Number.isFinite(done) || total <= 0) return null;
  return { total, done, failed, text: done.toLocaleString() + " of " + total.toLocaleString() + (failed ? ", " + failed.toLocaleString() + " failed" : "") };
}
export function progressBar(v) {
  const p = progressOf(v);
  if (!p) return null;
  const part = (n, kind) => {
    const bar = el("i", { class: kind });
    bar.style.width = Math.max(0, Math.min(100, 100 * n / p.total)) + "%";
    return bar;
  };
  return el("span", { class: "progress", role: "progressbar", "aria-valuenow": p.done, "aria-valuemax": p.total, "aria-label": p.text }, el("span", { class: "groove" }, part(p.done - p.failed, ""), part(p.failed, "bad")), p.text);
}

// ---- views

let view = null;
const live = document.getElementById("live");

// begin starts a new view, which ends the polling of the old one, and returns it.
export function begin(title) {
  document.title = title + " · Durable Functions";
  live.textContent = "";
  live.className = "live";
  return view = { pause: 1000 };
}
export const shows = (v) => view === v;

// poll calls load again and again while the view is shown. It slows down while nothing changes and while loading takes long.
export async function poll(shown, load) {
  while (view === shown) {
    await new Promise((resolve) => { shown.wake = resolve; setTimeout(resolve, document.hidden ? 1000 : shown.pause); });
    if (view !== shown || document.hidden) continue;
    const began = performance.now();
    try {
      const changed = await load();
      const least = Math.max(1000, 4 * (performance.now() - began));
      shown.pause = changed ? least : Math.min(Math.max(shown.pause * 1.5, least), Math.max(10000, least));
      say("live", "Live");
    } catch (e) {
      shown.pause = 5000;
      say("live lost", e.message);
    }
  }
}
function say(kind, text) {
  if (live.textContent !== text) live.textContent = text; // a screen reader would read the same text again
  live.className = kind;
}
export const soon = () => { if (view) { view.pause = 300; if (view.wake) view.wake(); } };
document.addEventListener("visibilitychange", soon);
