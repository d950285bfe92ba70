import { ask, begin, beginning, button, clock, drawer, durable, el, finished, instanceLink, instancePath, isLocal, keepFocus, plural, poll, progressBar, short, shows, spanText as span, statusOf, when, whenFree } from "./base.js";
import { startDialog } from "./list.js";
import { longTable } from "./table.js";
import { innermost, replaceTimeline, spansOf, timeline } from "./timeline.js";
import { copy, decoded, download, payload, unpack, written } from "./value.js";

// ---- steering

const withReason = (i, verb, operation, text, harm) => async () => {
  const answer = await ask(verb + " " + i.instanceId + "?", text, [{ name: "reason", label: "Reason" }], verb, harm);
  if (!answer) return "";
  await durable("POST", instancePath(i.instanceId) + "/" + operation + "?reason=" + encodeURIComponent(answer.reason));
  return "Done: the instance is told.";
};

const raise = (i) => async () => {
  const a = await ask("Raise an event", "The instance gets it when it next waits for that name.", [{ name: "event", label: "Name", required: true }, { name: "data", label: "Data (JSON)", value: "null", json: true, long: true }], "Raise");
  if (!a) return "";
  await durable("POST", instancePath(i.instanceId) + "/raiseEvent/" + encodeURIComponent(a.event), a.data.trim() || "null");
  return "The event was sent.";
};

const restart = (i) => async () => {
  if (!await ask("Start it again?", "A new instance with the same name and input.", [], "Restart")) return "";
  const { value } = await durable("POST", instancePath(i.instanceId) + "/restart");
  location.hash = instanceLink(value.id);
  return "Started again.";
};

const purge = (i) => async () => {
  if (!await ask("Purge " + i.instanceId + "?", "Its history, input and output are deleted for good.", [], "Purge", true)) return "";
  await durable("DELETE", instancePath(i.instanceId));
  location.hash = "#/";
  return "Purged.";
};

// changed starts the orchestration again with another input. The editor first shows the old input, decoded as the app reads it.
const changed = (i) => async () => {
  const input = await unpack(i.input);
  return startDialog([i.name], i.name, input === null ? "" : JSON.stringify(input, null, 2));
};

function steer(i) {
  const over = finished.has(i.runtimeStatus);
  const act = (label, enabled, run, harm) => button(label, run, { class: harm ? "harm" : null, disabled: !enabled });
  return el("div", { class: "bar steer", role: "group", "aria-label": "Steer" },
    act("Raise event", !over, raise(i)),
    i.runtimeStatus === "Suspended" ? act("Resume", true, withReason(i, "Resume", "resume", "")) : act("Suspend", !over, withReason(i, "Suspend", "suspend", "It does nothing until it is resumed.")),
    act("Rewind", i.runtimeStatus === "Failed", withReason(i, "Rewind", "rewind", "What failed is tried again; what was done stays done.")),
    act("Restart", true, restart(i)), act("Start with changed input", true, changed(i)), el("span", { class: "grow" }),
    over ? act("Purge", true, purge(i), true) : act("Terminate", true, withReason(i, "Terminate", "terminate", "It ends at once; what it was doing is not undone.", true), true));
}

// ---- the parts of the view

function facts(i) {
  const over = finished.has(i.runtimeStatus), fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  const duration = span(i);
  const bar = progressBar(i.customStatus);
  return el("dl", { class: "facts" }, fact("Status", statusOf(i.runtimeStatus)), fact("Orchestrator", i.name), fact("Created", when(i.createdTime)), fact(over ? "Ended" : "Updated", when(i.lastUpdatedTime)), fact("Duration", duration),
    bar ? fact("Progress", bar) : null, i.parentInstanceId ? fact("Parent", el("a", { href: instanceLink(i.parentInstanceId) }, i.parentInstanceId)) : null,
    i.tags ? fact("Tags", ...Object.entries(i.tags).map(([k, v]) => el("span", { class: "pill" }, k + ": " + v))) : null);
}

function failure(i) {
  const bad = i.runtimeStatus === "Failed" || i.runtimeStatus === "Terminated";
  if (!bad || i.output === null || i.output === "") return null;
  return el("section", { class: "card error", role: "alert" }, el("h2", {}, i.runtimeStatus === "Failed" ? "It failed" : "It was terminated"), el("pre", {}, typeof i.output === "string" ? i.output : i.output.message || written(i.output)));
}

const isEmpty = (v) => v === null || v === undefined || v === "";

// pick shows one activity, child or other step of the instance, with its input, output and error.
function pick(s) {
  const e = s.event, why = innermost(e.FailureDetails), queued = s.begun ? s.begun - s.from : 0;
  const input = decoded(e.Input), now = Date.now();
  const fact = (name, value) => value ? el("div", {}, el("dt", {}, name), el("dd", {}, value)) : null;
  drawer(s.name, el("dl", { class: "facts" }, fact("What", e.EventType), fact("Scheduled", clock(s.from)), fact("Waited for a worker", queued > 0 ? short(queued) : ""),
    s.kind === "mark" ? null : fact(s.to === undefined ? "So far" : "Took", short((s.to ?? now) - (s.begun || s.from))), fact("Until", s.fire ? new Date(s.fire).toLocaleString() : "")),
    s.link ? el("p", {}, el("a", { href: instanceLink(s.link) }, "Open the instance " + s.link)) : null,
    s.why ? el("section", { class: "card error" }, el("h3", {}, why?.ErrorType || "Error"), el("pre", {}, s.why)) : null,
    payload("Input", input), payload("Output", e.Result),
    s.kind !== "wait" && s.kind !== "mark" && isEmpty(input) ? el("p", { class: "quiet" }, isLocal ? "No input is kept: it had none, or one larger than 64 KB." : "The app's storage keeps no inputs of activities.") : null);
}

// ---- the history

const detailOf = (e) => {
  const why = innermost(e.FailureDetails);
  if (why) return why.ErrorMessage;
  if (e.FireAt) return "until " + new Date(e.FireAt).toLocaleString();
  return beginning(isEmpty(e.Result) ? e.Input ?? e.Reason : e.Result, 200);
};
const nameOf = (e) => e.FunctionName || e.Name || e.InstanceId || "";

function pickEvent(e) {
  const { Input, Result, ...rest } = e;
  drawer(e.EventType, payload("Event", rest), payload("Input", decoded(Input)), payload("Output", Result));
}

function historyView(id) {
  let events = [], asJSON = false, search = "";
  const table = longTable({ label: "History", inside: true, key: (e) => e.n, open: pickEvent, columns: [{ title: "Time", class: "at" }, { title: "Event", class: "event" }, { title: "Name", class: "name" }, { title: "Detail", class: "detail" }],
    row: (e) => [el("button", { type: "button", class: "plain", "data-key": e.n, "aria-label": "Show event " + (e.n + 1), onclick: () => pickEvent(e) }, clock(e.Timestamp)), e.EventType, nameOf(e), el("td", { class: e.FailureDetails ? "detail Failed" : "detail" }, detailOf(e))] });
  const count = el("span", { class: "quiet", role: "status" }), json = el("pre", { tabindex: "0", class: "raw", hidden: true });
  const toggle = el("button", { type: "button", "aria-pressed": "false", onclick: () => { asJSON = !asJSON; toggle.setAttribute("aria-pressed", String(asJSON)); render(); } }, "JSON");
  const find = el("input", { type: "search", "aria-label": "Find in the history", placeholder: "Find", oninput: () => { search = find.value.toLowerCase(); render(); } });
  const save = el("button", { type: "button", onclick: () => download(id + "-history.json", JSON.stringify(events.map(({ n, ...e }) => e), null, 2)) }, "Download");
  function render() {
    const found = search ? events.filter((e) => [e.EventType, nameOf(e), detailOf(e)].some((t) => String(t).toLowerCase().includes(search))) : events;
    count.textContent = plural(found.length, "event") + (search ? " of " + events.length.toLocaleString() : "");
    table.box.hidden = asJSON;
    json.hidden = !asJSON;
    if (!asJSON) return table.show(found);
    const text = JSON.stringify(found.slice(0, 500).map(({ n, ...e }) => e), null, 2);
    json.textContent = text.slice(0, 200000) + (found.length > 500 || text.length > 200000 ? "\n… download it to see all." : "");
  }
  return { element: el("section", { class: "card flush" }, el("div", { class: "bar inset" }, el("h2", {}, "History"), count, el("span", { class: "grow" }), find, toggle, save), table.box, json),
    show: (list) => { events = list.map((e, n) => ({ ...e, n })); render(); } };
}

// childrenOf finds the children of an instance of a deployed app. The host's history tells neither the id of an ended child nor
// its place.
async function childrenOf(i) {
  let found = [], next = null;
  for (let n = 0; n < 10; n++) {
    const page = await durable("GET", "/instances/?top=1000&showInput=false&createdTimeFrom=" + encodeURIComponent(i.createdTime), undefined, next ? { "x-ms-continuation-token": next } : {});
    found = found.concat(page.value.filter((c) => c.parentInstanceId === i.instanceId));
    next = page.headers.get("x-ms-continuation-token");
    if (!next || next.trim() === "bnVsbA==") break;
  }
  drawer("Children of " + i.instanceId, found.length ? el("ul", { class: "plainlist" }, ...found.map((c) => el("li", {}, statusOf(c.runtimeStatus), " ", c.name, " ", el("a", { href: instanceLink(c.instanceId) }, c.instanceId)))) : el("p", { class: "quiet" }, "None was found among the instances that were created since."));
}

export async function showInstance(id) {
  const shown = begin(id), main = document.getElementById("main"), open = new Set();
  let i = null, last = "", drawn = null, spans = [], values = "", shownFor = "";
  const head = el("div"), error = el("div"), place = el("div"), payloads = el("div", { class: "two" }), children = el("span"), past = historyView(id);
  const draw = () => { if (i) replaceTimeline(place, drawn = timeline(i, spans, open, pick, draw)); };
  const showHead = () => keepFocus(head, () => head.replaceChildren(
    el("nav", { class: "crumbs", "aria-label": "Where this is" }, el("a", { href: "#/" }, "Instances"), i.parentInstanceId ? [" / ", el("a", { href: instanceLink(i.parentInstanceId) }, i.parentInstanceId)] : null, " / ", el("span", { "aria-current": "page" }, i.instanceId)),
    el("div", { class: "bar title" }, el("h1", {}, i.instanceId), el("button", { type: "button", class: "small", "data-key": "copy", onclick: () => copy(i.instanceId) }, "Copy id")), el("section", { class: "card" }, facts(i), steer(i))));
  const showValues = () => {
    const bad = i.runtimeStatus === "Failed" || i.runtimeStatus === "Terminated", text = JSON.stringify([i.input, i.output, i.customStatus]);
    if (text === values) return;
    values = text;
    payloads.replaceChildren(...[payload("Input", i.input), bad ? null : payload(finished.has(i.runtimeStatus) ? "Output" : "Reason", i.output), payload("Custom status", i.customStatus)].filter(Boolean));
  };
  const render = () => {
    spans = spansOf(i);
    showHead();
    const state = i.runtimeStatus + JSON.stringify(i.output);
    if (state !== shownFor) error.replaceChildren(failure(i) || "");
    shownFor = state;
    draw();
    showValues();
    past.show(i.historyEvents || []);
    children.replaceChildren(spans.some((s) => s.child && !s.link) ? button("Find its children", () => childrenOf(i)) : "");
  };
  const load = async () => {
    const { value, text } = await durable("GET", instancePath(id) + "?showHistory=true&showHistoryOutput=true" + (isLocal ? "&showDetails=true" : ""));
    if (!shows(shown) || text === last) return false;
    last = text;
    i = value;
    whenFree(shown, render);
    return true;
  };
  main.replaceChildren(el("p", { class: "quiet" }, "Loading …"));
  try { await load(); } catch (e) { if (shows(shown)) main.replaceChildren(el("nav", { class: "crumbs" }, el("a", { href: "#/" }, "Instances")), el("section", { class: "card error" }, el("h2", {}, e.message), id)); return; }
  if (!shows(shown)) return;
  main.replaceChildren(head, error, el("section", { class: "card" }, el("div", { class: "bar" }, el("h2", { class: "grow" }, "Timeline"), children), place), payloads, past.element);
  render();
  const moves = setInterval(() => {
    if (!shows(shown)) return clearInterval(moves);
    if (drawn && i && !finished.has(i.runtimeStatus) && !document.hidden) drawn.tick(Date.now());
  }, 500);
  poll(shown, load);
}
