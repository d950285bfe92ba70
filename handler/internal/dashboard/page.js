"use strict";
// The page shows what the Durable HTTP API tells, of the local host or, through `dashboard`, of a deployed app. Whatever comes from there
// becomes text nodes, never markup.

const api = "/runtime/webhooks/durabletask";
const token = document.querySelector("meta[name=token]").content;
const statuses = ["Running", "Pending", "Suspended", "Failed", "Completed", "Terminated"];
const finished = new Set(["Completed", "Failed", "Terminated", "Canceled"]);
const main = document.getElementById("main");
const live = document.getElementById("live");

// el makes an element: el("a", {href: "#", class: "x", onclick: f}, "text", child, …).
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return e;
}

async function call(method, path, body, headers = {}) {
  if (method !== "GET") headers["X-Dashboard-Token"] = token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(api + path, { method, body, headers, cache: "no-store", redirect: "error" });
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* no JSON: the status says it */ }
  if (!answer.ok) {
    const why = typeof value === "string" ? value : value && (value.ExceptionMessage || value.Message);
    const known = { 404: "There is no such instance.", 410: "The instance has ended already.", 401: "The app refuses the key.", 403: "The host refuses this page: load it again." };
    const error = new Error(why || known[answer.status] || "The host answered " + answer.status + ".");
    error.status = answer.status;
    throw error;
  }
  return { value, next: answer.headers.get("x-ms-continuation-token") };
}

const instancePath = (id) => "/instances/" + encodeURIComponent(id);
const instanceLink = (id) => "#/i/" + encodeURIComponent(id);

function toast(text) {
  const t = document.getElementById("toast");
  t.textContent = text;
  t.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { t.hidden = true; }, 6000);
}

// ask shows a question with fields [{name, label, value, json, long}] and resolves to their values, null if it was cancelled.
function ask(title, text, fields, verb, harm) {
  const dialog = document.getElementById("dialog"), form = document.getElementById("form");
  const problem = el("p", { class: "Failed", role: "alert" });
  const inputs = fields.map((f) => {
    const input = el(f.long ? "textarea" : "input", { id: "f-" + f.name, type: f.long ? null : "text", spellcheck: "false", autocomplete: "off" });
    input.value = f.value || "";
    return input;
  });
  form.replaceChildren(el("h2", { id: "ask" }, title), text ? el("p", {}, text) : "",
    ...fields.flatMap((f, n) => [el("label", { for: "f-" + f.name }, f.label), inputs[n]]), problem,
    el("div", { class: "bar" }, el("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"), el("button", { value: "yes", class: harm ? "harm" : "main" }, verb)));
  dialog.setAttribute("aria-labelledby", "ask");
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      for (const [n, f] of fields.entries()) {
        if (!f.json || inputs[n].value.trim() === "") continue;
        try { JSON.parse(inputs[n].value); } catch (e) {
          event.preventDefault();
          problem.textContent = f.label + " is not JSON: " + e.message;
          inputs[n].focus();
          return;
        }
      }
    };
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? Object.fromEntries(fields.map((f, n) => [f.name, inputs[n].value])) : null);
    dialog.returnValue = "no";
    dialog.showModal();
    (inputs[0] || form.querySelector("button[value=yes]")).focus();
  });
}

const time = (text) => text ? new Date(text).toLocaleString() : "";
function short(ms) {
  if (ms < 1000) return Math.max(0, Math.round(ms)) + " ms";
  if (ms < 60000) return (ms / 1000).toFixed(1) + " s";
  const s = Math.round(ms / 1000);
  return s < 3600 ? Math.floor(s / 60) + " min " + (s % 60) + " s" : Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
}
const statusOf = (i) => el("span", { class: "status " + i.runtimeStatus }, i.runtimeStatus);

function beginning(value, n) {
  if (value === null || value === undefined || value === "") return "";
  const text = typeof value === "string" ? value : progress(value) || JSON.stringify(value);
  return text.length > n ? text.slice(0, n) + "…" : text;
}

// progress reads a custom status that is progress.
function progress(v) {
  const get = (name) => v && typeof v === "object" ? v[name] ?? v[name.toLowerCase()] : undefined;
  const total = get("Total"), done = get("Completed");
  return Number.isFinite(total) && Number.isFinite(done) ? done + " of " + total + (get("Failed") ? ", " + get("Failed") + " failed" : "") : "";
}

// ---- polling

let view = null; // {load, pause}: what is shown, and how long until it is loaded again
async function poll(shown, changed) {
  while (view === shown) {
    const pause = document.hidden ? 1000 : shown.pause;
    await new Promise((resolve) => { shown.wake = resolve; setTimeout(resolve, pause); });
    if (view !== shown || document.hidden) continue;
    try {
      shown.pause = (await changed()) ? 1000 : Math.min(shown.pause * 1.5, 10000);
      live.textContent = "live";
    } catch (e) {
      shown.pause = 5000;
      live.textContent = "no answer: " + e.message;
    }
  }
}
const soon = () => { if (view) { view.pause = 300; if (view.wake) view.wake(); } };

// ---- the list

const filter = { status: new Set(), prefix: "", search: "", from: "" };
const maxShown = 500;

async function showList() {
  const shown = view = { pause: 1000 };
  document.title = "Instances";
  const selected = new Set();
  let list = [], pages = 1, more = false, last = "";
  const totals = el("div", { class: "bar", role: "group", "aria-label": "Filter by status" });
  const body = el("tbody"), foot = el("p", { class: "quiet" });
  const all = el("input", { type: "checkbox", "aria-label": "Select all that are shown", onchange: () => { for (const i of matching()) all.checked ? selected.add(i.instanceId) : selected.delete(i.instanceId); render(); } });
  const terminate = el("button", { class: "harm", onclick: () => bulk("terminate") }, "Terminate");
  const purge = el("button", { class: "harm", onclick: () => bulk("purge") }, "Purge");
  const field = (label, name, type) => {
    const input = el("input", { type, "aria-label": label, placeholder: label, oninput: () => { filter[name] = input.value; name === "search" ? render() : reload(); } });
    input.value = filter[name];
    return input;
  };
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, all), ...["Instance", "Name", "Status", "Created", "Updated", "Custom status"].map((t) => el("th", { scope: "col" }, t)))), body);
  main.replaceChildren(el("h1", {}, "Instances"), totals,
    el("div", { class: "bar" }, field("Id begins with", "prefix", "text"), field("Name or id contains", "search", "search"),
      el("label", { class: "quiet" }, "Created since ", field("Created since", "from", "datetime-local")), el("span", { class: "grow" }), terminate, purge),
    el("div", { class: "card" }, table, foot));

  const query = (next) => {
    const q = new URLSearchParams({ top: "100", showInput: "false" });
    if (filter.status.size) q.set("runtimeStatus", [...filter.status].join(","));
    if (filter.prefix) q.set("instanceIdPrefix", filter.prefix);
    if (filter.from) q.set("createdTimeFrom", new Date(filter.from).toISOString());
    return call("GET", "/instances/?" + q, undefined, next ? { "x-ms-continuation-token": next } : {});
  };
  const load = async () => {
    let found = [], next = null;
    for (let n = 0; n < pages; n++) {
      const page = await query(next);
      found = found.concat(page.value);
      next = page.next;
      if (!next) break;
    }
    if (view !== shown) return false;
    more = Boolean(next);
    const text = JSON.stringify(found);
    const changed = text !== last;
    last = text;
    list = found;
    if (changed) render();
    return changed;
  };
  const reload = () => { clearTimeout(reload.timer); reload.timer = setTimeout(() => load().catch((e) => toast(e.message)), 200); };
  const matching = () => {
    const words = filter.search.toLowerCase();
    return list.filter((i) => !words || i.name.toLowerCase().includes(words) || i.instanceId.toLowerCase().includes(words))
      .sort((a, b) => a.createdTime < b.createdTime ? 1 : a.createdTime > b.createdTime ? -1 : a.instanceId < b.instanceId ? -1 : 1);
  };
  function render() {
    const rows = matching();
    const count = (s) => list.filter((i) => i.runtimeStatus === s).length;
    totals.replaceChildren(...statuses.map((s) => el("button", {
      class: "chip", "aria-pressed": String(filter.status.has(s)),
      onclick: () => { filter.status.has(s) ? filter.status.delete(s) : filter.status.add(s); reload(); render(); },
    }, s + " " + count(s) + (more ? "+" : ""))));
    body.replaceChildren(...rows.slice(0, maxShown).map((i) => el("tr", {},
      el("td", {}, el("input", { type: "checkbox", checked: selected.has(i.instanceId), "aria-label": "Select " + i.instanceId, onchange: (e) => { e.target.checked ? selected.add(i.instanceId) : selected.delete(i.instanceId); buttons(); } })),
      el("td", { class: "id" }, el("a", { href: instanceLink(i.instanceId) }, i.instanceId)), el("td", {}, i.name), el("td", {}, statusOf(i)),
      el("td", {}, time(i.createdTime)), el("td", {}, time(i.lastUpdatedTime)), el("td", {}, beginning(i.customStatus, 80)))));
    foot.replaceChildren(rows.length ? rows.length + (more ? " of the first " + list.length : "") + " instances " : "No instances. ",
      more ? el("button", { onclick: () => { pages += 5; load().catch((e) => toast(e.message)); } }, "Load more") : "");
    buttons();
  }
  function buttons() {
    const n = selected.size;
    for (const b of [terminate, purge]) b.disabled = !n;
    terminate.textContent = n ? "Terminate " + n : "Terminate";
    purge.textContent = n ? "Purge " + n : "Purge";
  }
  async function bulk(what) {
    const chosen = list.filter((i) => selected.has(i.instanceId) && finished.has(i.runtimeStatus) === (what === "purge"));
    if (!chosen.length) return toast(what === "purge" ? "Only instances that have ended can be purged." : "What is selected has ended already.");
    const answer = await ask((what === "purge" ? "Purge " : "Terminate ") + chosen.length + " instances?", what === "purge" ? "Their histories, inputs and outputs are deleted for good." : "They end at once; what they were doing is not undone.",
      what === "purge" ? [] : [{ name: "reason", label: "Reason" }], what === "purge" ? "Purge" : "Terminate", true);
    if (!answer) return;
    let failed = 0;
    for (const i of chosen) {
      try {
        if (what === "purge") await call("DELETE", instancePath(i.instanceId));
        else await call("POST", instancePath(i.instanceId) + "/terminate?reason=" + encodeURIComponent(answer.reason));
        selected.delete(i.instanceId);
      } catch { failed++; }
    }
    toast(failed ? failed + " of " + chosen.length + " could not be done." : "Done: " + chosen.length + ".");
    soon();
  }
  try { await load(); } catch (e) { if (view === shown) foot.textContent = e.message; }
  render();
  poll(shown, load);
}

// ---- values

// unpack shows what the app's codec has compressed: base64 of four bytes of length and gzip.
async function unpack(value) {
  if (typeof value !== "string" || value.length < 20 || !/^[A-Za-z0-9+/]+=*$/.test(value)) return value;
  try {
    const bytes = Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
    if (bytes[4] !== 0x1f || bytes[5] !== 0x8b) return value;
    const reader = new Blob([bytes.slice(4)]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    const parts = [];
    for (let size = 0; ;) {
      const { value: part, done } = await reader.read();
      if (done) break;
      if ((size += part.length) > 32 << 20) return value;
      parts.push(part);
    }
    const text = await new Blob(parts).text();
    try { return JSON.parse(text); } catch { return text; }
  } catch { return value; }
}

const maxText = 20000;
function payload(title, value) {
  if (value === null || value === undefined || value === "") return null;
  const pre = el("pre", { tabindex: "0" }), bar = el("div", { class: "bar" }, el("h2", {}, title));
  const show = (v) => {
    const text = typeof v === "string" ? v : JSON.stringify(v, null, 2);
    pre.textContent = text.length > maxText ? text.slice(0, maxText) + "\n… " + (text.length - maxText) + " characters more" : text;
    if (text.length > maxText && !bar.querySelector("button")) {
      bar.append(el("button", { onclick: () => {
        const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
        el("a", { href: url, download: title.toLowerCase() + ".json" }).click();
        setTimeout(() => URL.revokeObjectURL(url), 1000);
      } }, "Download"));
    }
  };
  show(value);
  unpack(value).then((v) => { if (v !== value) { bar.append(el("span", { class: "quiet" }, "was compressed")); show(v); } });
  return el("section", { class: "card" }, bar, pre);
}

// ---- an instance

// innermost is the failure that the others come from, without the words that the host puts around an app's own.
function innermost(f) {
  while (f && f.InnerFailure) f = f.InnerFailure;
  if (!f) return f;
  const own = /^Response status code does not indicate success: \d+ \((?:durable\/failed: )?([^]*)\)\.$/.exec(f.ErrorMessage || "");
  return own ? { ...f, ErrorMessage: own[1] } : f;
}

// spansOf are what an instance did, in the order in which it began.
function spansOf(i, now) {
  const list = [], ms = (t) => Date.parse(t);
  const ended = finished.has(i.runtimeStatus);
  for (const e of i.historyEvents || []) {
    const at = ms(e.Timestamp);
    switch (e.EventType) {
      case "TaskCompleted": case "TaskFailed": case "SubOrchestrationInstanceCompleted": case "SubOrchestrationInstanceFailed": {
        const failure = innermost(e.FailureDetails);
        list.push({ name: e.FunctionName || "?", from: e.ScheduledTime ? ms(e.ScheduledTime) : at, to: at, result: e.Result, input: e.Input,
          kind: e.EventType.endsWith("Failed") ? "failed" : "done", why: e.EventType.endsWith("Failed") ? (failure && failure.ErrorMessage) || e.Reason || "failed" : "" });
        break;
      }
      case "TaskScheduled": case "SubOrchestrationInstanceCreated":
        list.push({ name: e.Name || "?", from: at, to: now, kind: ended ? "wait" : "open", link: e.InstanceId, live: !ended });
        break;
      case "TimerCreated": list.push({ name: "timer", from: at, to: ms(e.FireAt), kind: "wait", fire: ms(e.FireAt), live: !ended }); break;
      case "TimerFired": {
        const t = list.find((s) => s.fire === ms(e.FireAt) && s.live !== undefined && !s.fired);
        if (t) { t.to = at; t.live = false; t.fired = true; }
        break;
      }
      case "EventRaised": list.push({ name: "event " + e.Name, from: at, to: at, kind: "mark" }); break;
      case "ExecutionSuspended": list.push({ name: "suspended", from: at, to: now, kind: "wait", pause: true, live: !ended }); break;
      case "ExecutionResumed": for (const s of list) if (s.pause && s.live) { s.to = at; s.live = false; } break;
    }
  }
  if (ended) {
    const end = Math.max(ms(i.lastUpdatedTime) + 1000, ...list.filter((s) => !s.fire && !s.pause).map((s) => s.kind === "wait" ? s.from : s.to));
    for (const s of list) s.to = Math.max(s.from, Math.min(s.to, end));
  }
  return list.sort((a, b) => a.from - b.from);
}

// fold makes one line of many spans with one name, but for those that failed or run.
function fold(list, open) {
  const count = new Map(), lines = [], at = new Map();
  for (const s of list) count.set(s.name, (count.get(s.name) || 0) + 1);
  for (const s of list) {
    if (count.get(s.name) <= 6 || open.has(s.name) || s.kind === "failed" || s.kind === "open") { lines.push({ name: s.name, spans: [s], foldable: count.get(s.name) > 6 }); continue; }
    if (!at.has(s.name)) { const line = { name: s.name, spans: [], folded: true }; at.set(s.name, line); lines.push(line); }
    at.get(s.name).spans.push(s);
  }
  return lines;
}

const maxLines = 300;
function gantt(i, open, again) {
  const now = Date.now(), list = spansOf(i, now);
  if (!list.length) return el("p", { class: "quiet" }, i.runtimeStatus === "Pending" ? "It has not begun yet." : "Nothing but its own turns.");
  const begin = list[0].from;
  const ended = finished.has(i.runtimeStatus);
  const end = ended ? Math.max(...list.map((s) => s.to)) : Math.max(now, ...list.filter((s) => s.fire && s.live).map((s) => Math.min(s.to, now + (now - begin) + 5000)));
  const total = Math.max(end - begin, 1);
  const grid = el("div", { class: "gantt", role: "list", "aria-label": "Timeline" });
  const lines = fold(list, open);
  for (const line of lines.slice(0, maxLines)) {
    const track = el("div", { class: "track" });
    for (const s of line.spans.slice(0, 400)) {
      const bar = el("div", { class: "span " + s.kind, title: s.name + ": " + short(s.to - s.from) + (s.why ? ", " + s.why : "") + (s.result !== undefined ? ", " + beginning(s.result, 200) : "") });
      bar.style.left = (100 * (s.from - begin) / total) + "%";
      if (s.kind !== "mark") bar.style.width = Math.max(0, Math.min(100, 100 * (Math.min(s.to, end) - s.from) / total)) + "%";
      track.append(bar);
    }
    const first = line.spans[0], last = Math.max(...line.spans.map((s) => s.to));
    const name = line.folded ? [line.name + " ×" + line.spans.length + " ", el("button", { onclick: () => { open.add(line.name); again(); } }, "unfold")]
      : first.link ? [el("a", { href: instanceLink(first.link) }, line.name)] : [line.name];
    const left = first.live && first.fire ? first.fire - now : 0;
    grid.append(el("div", { class: "name", role: "listitem", title: line.name }, ...name), track,
      el("div", { class: "time" }, first.kind === "mark" ? new Date(first.from).toLocaleTimeString() : left > 0 ? "for " + short(left) + " more" : short(last - first.from)));
    if (first.why) grid.append(el("div", { class: "why" }, beginning(first.why, 500)));
  }
  const legend = el("div", { class: "legend" }, ...[["", "ran"], ["open", "is running"], ["wait", "waits"], ["failed", "failed"]].map(([c, t]) => el("span", {}, el("i", { class: c }), t)));
  return el("div", {}, grid, lines.length > maxLines ? el("p", { class: "quiet" }, (lines.length - maxLines) + " lines more: see the history") : "", legend);
}

function historyTable(events, all, showAll) {
  const shown = all ? events : events.slice(-200);
  return el("div", {}, shown.length < events.length ? el("p", { class: "quiet" }, "The last 200 of " + events.length + " events. ", el("button", { onclick: showAll }, "Show all")) : "",
    el("table", {}, el("thead", {}, el("tr", {}, ...["Time", "Event", "Name", "Detail"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, ...shown.map((e) => {
        const failure = innermost(e.FailureDetails);
        const detail = failure ? failure.ErrorMessage : e.FireAt ? "until " + time(e.FireAt) : e.Result !== undefined && e.Result !== null ? beginning(e.Result, 300) : beginning(e.Input ?? e.Reason, 300);
        return el("tr", {}, el("td", {}, new Date(e.Timestamp).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 })), el("td", {}, e.EventType), el("td", {}, e.FunctionName || e.Name || e.InstanceId || ""), el("td", { class: failure ? "Failed" : "" }, detail));
      }))));
}

function steer(i) {
  const id = i.instanceId, over = finished.has(i.runtimeStatus);
  const act = (label, enabled, run, harm) => el("button", { class: harm ? "harm" : null, disabled: !enabled, onclick: async () => {
    try { const said = await run(); if (said) toast(said); } catch (e) { toast(e.message); }
    soon();
  } }, label);
  const withReason = (verb, operation, text, harm) => async () => {
    const answer = await ask(verb + " " + id + "?", text, [{ name: "reason", label: "Reason" }], verb, harm);
    if (!answer) return "";
    await call("POST", instancePath(id) + "/" + operation + "?reason=" + encodeURIComponent(answer.reason));
    return "Done: the instance is told.";
  };
  return el("div", { class: "bar", role: "group", "aria-label": "Steer" },
    act("Raise event", !over, async () => {
      const a = await ask("Raise an event", "The instance gets it when it next waits for that name.", [{ name: "event", label: "Name" }, { name: "data", label: "Data", value: "null", json: true, long: true }], "Raise");
      if (!a || !a.event) return "";
      await call("POST", instancePath(id) + "/raiseEvent/" + encodeURIComponent(a.event), a.data.trim() || "null");
      return "The event was sent.";
    }),
    i.runtimeStatus === "Suspended" ? act("Resume", true, withReason("Resume", "resume", "")) : act("Suspend", !over, withReason("Suspend", "suspend", "It does nothing until it is resumed.")),
    act("Rewind", i.runtimeStatus === "Failed", withReason("Rewind", "rewind", "What failed is tried again; what was done stays done.")),
    act("Restart", true, async () => {
      if (!await ask("Start it again?", "A new instance with the same name and input.", [], "Restart")) return "";
      const { value } = await call("POST", instancePath(id) + "/restart");
      location.hash = instanceLink(value.id);
      return "Started again.";
    }),
    act("Start with changed input", true, async () => {
      const input = await unpack(i.input);
      const a = await ask("Start " + i.name, "", [{ name: "input", label: "Input", value: input === null ? "" : JSON.stringify(input, null, 2), json: true, long: true }], "Start");
      if (!a) return "";
      const { value } = await call("POST", "/orchestrators/" + encodeURIComponent(i.name), a.input.trim() || undefined);
      location.hash = instanceLink(value.id);
      return "Started.";
    }),
    el("span", { class: "grow" }),
    over ? act("Purge", true, async () => {
      if (!await ask("Purge " + id + "?", "Its history, input and output are deleted for good.", [], "Purge", true)) return "";
      await call("DELETE", instancePath(id));
      location.hash = "#/";
      return "Purged.";
    }, true) : act("Terminate", true, withReason("Terminate", "terminate", "It ends at once; what it was doing is not undone.", true), true));
}

async function showInstance(id) {
  const shown = view = { pause: 1000 };
  document.title = id;
  let i = null, last = "", asJSON = false, all = false;
  const open = new Set(), timeline = el("div"), events = el("div"), head = el("div"), values = el("div");
  const toggle = el("button", { "aria-pressed": "false", onclick: () => { asJSON = !asJSON; toggle.setAttribute("aria-pressed", String(asJSON)); renderHistory(); } }, "JSON");
  main.replaceChildren(head, el("section", { class: "card" }, el("h2", {}, "Timeline"), timeline), values,
    el("section", { class: "card" }, el("div", { class: "bar" }, el("h2", {}, "History"), el("span", { class: "grow" }), toggle), events));
  const renderTimeline = () => { if (i) timeline.replaceChildren(gantt(i, open, renderTimeline)); };
  const renderHistory = () => events.replaceChildren(asJSON ? el("pre", { tabindex: "0" }, JSON.stringify(i.historyEvents || [], null, 2)) : historyTable(i.historyEvents || [], all, () => { all = true; renderHistory(); }));
  const load = async () => {
    const { value } = await call("GET", instancePath(id) + "?showHistory=true&showHistoryOutput=true");
    if (view !== shown) return false;
    const text = JSON.stringify(value);
    if (text === last) return false;
    last = text;
    i = value;
    const bad = i.runtimeStatus === "Failed" || i.runtimeStatus === "Terminated";
    head.replaceChildren(el("p", { class: "quiet" }, el("a", { href: "#/" }, "Instances"), i.parentInstanceId ? [" / ", el("a", { href: instanceLink(i.parentInstanceId) }, i.parentInstanceId)] : null),
      el("h1", {}, i.instanceId), bad && i.output !== null ? el("section", { class: "card error" }, el("h2", {}, i.runtimeStatus === "Failed" ? "It failed" : "It was terminated"), el("pre", {}, typeof i.output === "string" ? i.output : i.output.message || JSON.stringify(i.output, null, 2))) : "",
      el("section", { class: "card" }, steer(i), el("dl", {}, el("dt", {}, "Status"), el("dd", {}, statusOf(i)), el("dt", {}, "Name"), el("dd", {}, i.name),
        el("dt", {}, "Created"), el("dd", {}, time(i.createdTime)), el("dt", {}, "Updated"), el("dd", {}, time(i.lastUpdatedTime)),
        ...(progress(i.customStatus) ? [el("dt", {}, "Progress"), el("dd", {}, progress(i.customStatus))] : []))));
    values.replaceChildren(el("div", { class: "two" }, payload("Input", i.input), bad ? null : payload("Output", i.output), payload("Custom status", i.customStatus)));
    renderTimeline();
    renderHistory();
    return true;
  };
  try { await load(); } catch (e) { if (view === shown) main.replaceChildren(el("p", {}, el("a", { href: "#/" }, "Instances")), el("section", { class: "card error" }, el("h2", {}, e.message), id)); return; }
  const clock = setInterval(() => { if (view !== shown) clearInterval(clock); else if (i && !finished.has(i.runtimeStatus) && !document.hidden) renderTimeline(); }, 500);
  poll(shown, load);
}

function route() {
  const id = location.hash.startsWith("#/i/") ? location.hash.slice(4) : "";
  live.textContent = "";
  let name = "";
  try { name = decodeURIComponent(id); } catch { /* not ours */ }
  name ? showInstance(name) : showList();
  main.focus({ preventScroll: true });
}
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", soon);
route();
