import { ago, ask, begin, button, call, durable, el, finished, instanceLink, instancePath, isLocal, plural, poll, progressBar, beginning, shows, spanText, soon, statuses, statusOf, time, toast } from "./base.js";
import { longTable } from "./table.js";

const since = { "Any time": 0, "Last 15 minutes": 15 * 60e3, "Last hour": 3600e3, "Last 24 hours": 86400e3, "Last 7 days": 7 * 86400e3 };
const pageSize = 100, refreshSize = 1000, maxLoaded = 10000;
const columns = [{ title: "", class: "tick" }, { title: "Status", class: "state" }, { title: "Name", class: "who" }, { title: "Instance", class: "id" },
  { title: "Created", class: "when" }, { title: "Duration", class: "took" }, { title: "Progress", class: "more" }];

// The filter comes from the page's address, so that a view can be bookmarked and the Back button works.
function readFilter(query) {
  const q = new URLSearchParams(query);
  return { status: new Set((q.get("status") || "").split(",").filter((s) => statuses.includes(s))), prefix: q.get("prefix") || "", search: q.get("search") || "", since: since[q.get("since")] ? q.get("since") : "Any time" };
}
function keepFilter(f) {
  const q = new URLSearchParams();
  if (f.status.size) q.set("status", [...f.status].join(","));
  for (const name of ["prefix", "search"]) if (f[name]) q.set(name, f[name]);
  if (since[f.since]) q.set("since", f.since);
  history.replaceState(null, "", "#/" + (String(q) ? "?" + q : ""));
}

// query makes the parameters of a request. A deployed app does not know the last three: it sorts by id and cannot search or
// count.
function query(f, top, next) {
  const q = new URLSearchParams({ top, showInput: "false" });
  if (f.status.size) q.set("runtimeStatus", [...f.status].join(","));
  if (f.prefix) q.set("instanceIdPrefix", f.prefix);
  if (since[f.since]) q.set("createdTimeFrom", new Date(Date.now() - since[f.since]).toISOString());
  if (isLocal) {
    q.set("newestFirst", "true");
    q.set("showTotals", "true");
    if (f.search) q.set("search", f.search);
  }
  return durable("GET", "/instances/?" + q, undefined, next ? { "x-ms-continuation-token": next } : {});
}

const totalsOf = (text) => text ? Object.fromEntries(text.split(", ").map((t) => t.split("=")).map(([s, n]) => [s, Number(n)])) : null;

export function startDialog(names, name = "", input = "", id = "") {
  return ask("Start an orchestration", "Without an instance id the host makes one.", [{ name: "name", label: "Orchestrator", value: name, required: true, choices: names },
    { name: "id", label: "Instance id", value: id }, { name: "input", label: "Input (JSON)", value: input, json: true, long: true }], "Start").then(async (a) => {
    if (!a) return "";
    const { value } = await durable("POST", "/orchestrators/" + encodeURIComponent(a.name.trim()) + (a.id ? "/" + encodeURIComponent(a.id) : ""), a.input.trim() || undefined);
    location.hash = instanceLink(value.id);
    return "Started.";
  });
}
async function orchestrators() {
  if (!isLocal) return [];
  try { return (await call("GET", "/local/functions")).value.functions.filter((f) => f.trigger === "orchestrationTrigger").map((f) => f.name); } catch { return []; }
}

export async function showList(search) {
  const shown = begin("Instances"), main = document.getElementById("main"), filter = readFilter(search), selected = new Map();
  let list = [], next = null, totals = null, last = "", loading = false;

  const matching = () => {
    if (isLocal) return list;
    const words = filter.search.toLowerCase();
    return list.filter((i) => !words || i.name.toLowerCase().includes(words) || i.instanceId.toLowerCase().includes(words))
      .sort((a, b) => a.createdTime < b.createdTime ? 1 : a.createdTime > b.createdTime ? -1 : a.instanceId < b.instanceId ? -1 : 1);
  };
  // load reloads as many rows as are loaded already.
  const load = async () => {
    let found = [], token = null, text = "", counted = null;
    const want = Math.max(pageSize, list.length);
    do {
      const page = await query(filter, Math.min(refreshSize, want - found.length), token);
      found = found.concat(page.value);
      text += page.text;
      counted = counted || totalsOf(page.headers.get("x-totals"));
      token = page.headers.get("x-ms-continuation-token");
      if (token && token.trim() === "bnVsbA==") token = null;
    } while (token && found.length < want);
    if (!shows(shown)) return false;
    const changed = text !== last || JSON.stringify(counted) !== JSON.stringify(totals);
    last = text; list = found; next = token; totals = counted;
    render();
    return changed;
  };
  const ahead = async () => {
    if (!next || loading || list.length >= maxLoaded) return;
    loading = true;
    try {
      const page = await query(filter, pageSize * 5, next);
      if (!shows(shown)) return;
      list = list.concat(page.value);
      next = page.headers.get("x-ms-continuation-token");
      last = "";
      render();
    } catch (e) { toast(e.message, true); } finally { loading = false; }
  };
  const reload = () => {
    keepFilter(filter);
    list = []; // these rows belong to the old filter
    clearTimeout(reload.timer);
    reload.timer = setTimeout(() => load().catch((e) => toast(e.message, true)), 150);
  };

  const tiles = el("div", { class: "tiles", role: "group", "aria-label": "Filter by status" });
  const counts = new Map(statuses.map((s) => [s, el("b", {})]));
  const tile = new Map(statuses.map((s) => [s, el("button", { type: "button", class: "tile", "aria-pressed": "false", onclick: () => {
    filter.status.has(s) ? filter.status.delete(s) : filter.status.add(s);
    showTiles();
    reload();
  } }, counts.get(s), el("span", { class: "status " + s }, s))]));
  tiles.append(...tile.values());
  const showTiles = () => {
    for (const s of statuses) {
      const n = totals ? totals[s] || 0 : list.filter((i) => i.runtimeStatus === s).length;
      counts.get(s).textContent = n.toLocaleString() + (!totals && next ? "+" : "");
      tile.get(s).setAttribute("aria-pressed", String(filter.status.has(s)));
      tile.get(s).classList.toggle("none", n === 0);
    }
  };
  const input = (name, label, type, attributes) => {
    const control = el("input", { type, "aria-label": label, placeholder: label, spellcheck: "false", autocomplete: "off", oninput: () => { filter[name] = control.value; !isLocal && name === "search" ? (keepFilter(filter), render()) : reload(); }, ...attributes });
    control.value = filter[name];
    return control;
  };
  const times = el("select", { "aria-label": "Created", onchange: () => { filter.since = times.value; reload(); } }, ...Object.keys(since).map((s) => el("option", {}, s)));
  times.value = filter.since;

  const all = el("input", { type: "checkbox", "aria-label": "Select all that are loaded", onchange: () => { for (const i of matching()) all.checked ? selected.set(i.instanceId, i) : selected.delete(i.instanceId); render(); } });
  const table = longTable({ label: "Instances", columns: columns.map((c, n) => n ? c : { ...c, title: all }), key: (i) => i.instanceId, row: (i) => [
    el("input", { type: "checkbox", "data-key": "select " + i.instanceId, checked: selected.has(i.instanceId), "aria-label": "Select " + i.instanceId, onchange: (e) => { e.target.checked ? selected.set(i.instanceId, i) : selected.delete(i.instanceId); showActions(); } }),
    statusOf(i.runtimeStatus), i.name, el("a", { href: instanceLink(i.instanceId), "data-key": i.instanceId, title: i.instanceId }, i.instanceId),
    el("time", { datetime: i.createdTime, title: time(i.createdTime) }, ago(i.createdTime)),
    spanText(i),
    progressBar(i.customStatus) || beginning(i.customStatus, 80),
  ], ahead });
  const foot = el("p", { class: "quiet foot", role: "status" }), empty = el("div", { class: "empty", hidden: true });

  const terminate = button("Terminate", () => bulk("terminate"), { class: "harm" }), purge = button("Purge", () => bulk("purge"), { class: "harm" });
  const chosen = el("span", { role: "status" });
  const actions = el("div", { class: "selection bar", hidden: true, role: "group", "aria-label": "Do to what is selected" }, chosen, el("span", { class: "grow" }), terminate, purge,
    button("Clear", () => { selected.clear(); all.checked = false; render(); return ""; }));
  const showActions = () => {
    const known = new Map(list.map((i) => [i.instanceId, i]));
    for (const [id] of selected) known.has(id) ? selected.set(id, known.get(id)) : selected.delete(id);
    const ended = [...selected.values()].filter((i) => finished.has(i.runtimeStatus)).length;
    actions.hidden = !selected.size;
    chosen.textContent = plural(selected.size, "instance") + " selected";
    terminate.textContent = "Terminate " + (selected.size - ended);
    terminate.disabled = selected.size === ended;
    purge.textContent = "Purge " + ended;
    purge.disabled = !ended;
  };
  async function bulk(what) {
    const purges = what === "purge", list = [...selected.values()].filter((i) => finished.has(i.runtimeStatus) === purges);
    const answer = await ask((purges ? "Purge " : "Terminate ") + plural(list.length, "instance") + "?", purges ? "Their histories, inputs and outputs are deleted for good." : "They end at once; what they were doing is not undone.",
      purges ? [] : [{ name: "reason", label: "Reason" }], purges ? "Purge" : "Terminate", true);
    if (!answer) return "";
    let failed = 0;
    for (const i of list) {
      try {
        if (purges) await durable("DELETE", instancePath(i.instanceId));
        else await durable("POST", instancePath(i.instanceId) + "/terminate?reason=" + encodeURIComponent(answer.reason));
        if (purges) selected.delete(i.instanceId);
      } catch { failed++; }
    }
    showActions();
    if (failed) throw new Error(failed + " of " + list.length + " could not be done.");
    return (purges ? "Purged " : "Told to end: ") + plural(list.length, "instance") + ".";
  }

  const filtered = () => filter.status.size || filter.prefix || filter.search || since[filter.since];
  function render() {
    const rows = matching();
    showTiles();
    table.show(rows);
    const total = totals && (filter.status.size ? [...filter.status].reduce((n, s) => n + (totals[s] || 0), 0) : Object.values(totals).reduce((n, t) => n + t, 0));
    foot.textContent = !rows.length ? "" : next ? plural(rows.length, "instance") + " loaded" + (total ? " of " + total.toLocaleString() : list.length >= maxLoaded ? ": filter to see others" : "") : plural(rows.length, "instance");
    table.box.hidden = !rows.length;
    empty.hidden = Boolean(rows.length);
    empty.replaceChildren(el("b", {}, filtered() ? "Nothing matches" : "No instances yet"), el("p", {}, filtered() ? "No instance has what the filter asks for." : "Start an orchestration, or send a message to a function that starts one."));
    showActions();
  }

  main.replaceChildren(el("div", { class: "bar title" }, el("h1", { class: "grow" }, "Instances"), button("Start an orchestration", async () => startDialog(await orchestrators()), { class: "main" })),
    tiles, el("div", { class: "bar filters" }, input("search", "Search name or id", "search", { class: "grow", "data-search": true }), input("prefix", "Id begins with", "text"), times),
    actions, el("section", { class: "card flush", "aria-label": "Instances" }, table.box, empty, foot));
  showTiles();
  try { await load(); } catch (e) { if (shows(shown)) { empty.hidden = false; empty.replaceChildren(el("b", {}, "The instances cannot be shown"), el("p", {}, e.message)); } }
  if (shows(shown)) poll(shown, load);
  soon();
}
