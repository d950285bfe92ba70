import { ask, begin, button, call, drawer, el, instanceLink, plural, poll, shows, time } from "./base.js";
import { startDialog } from "./list.js";
import { decoded, payload } from "./value.js";

const kinds = [["httpTrigger", "HTTP"], ["timerTrigger", "Timer"], ["serviceBusTrigger", "Service Bus"], ["queueTrigger", "Queue"], ["blobTrigger", "Blob"], ["eventHubTrigger", "Event hub"], ["eventGridTrigger", "Event grid"],
  ["orchestrationTrigger", "Orchestrator"], ["activityTrigger", "Activity"], ["entityTrigger", "Entity"]];
const kindOf = (f) => kinds.find(([type]) => type.toLowerCase() === f.trigger.toLowerCase())?.[1] || f.trigger;
const isA = (f, type) => f.trigger.toLowerCase() === type.toLowerCase();

export async function send(functions, name) {
  const a = await ask("Send a message", "It is kept until the function takes it; after ten deliveries in vain it is a dead letter.", [name ? { name: "to", label: "Function", options: [name] } : { name: "to", label: "Function", options: functions },
    { name: "body", label: "Message", long: true }], "Send");
  if (!a) return "";
  await call("POST", "/admin/functions/" + encodeURIComponent(a.to), JSON.stringify({ input: a.body }));
  return "The message is on its way to " + a.to + ".";
}

async function runNow(f) {
  const { value } = await call("POST", "/local/timers/" + encodeURIComponent(f.name));
  if (!value.started.length) return f.name + " ran.";
  drawer(f.name + " ran", el("p", {}, "It started:"), el("ul", { class: "plainlist" }, ...value.started.map((id) => el("li", {}, el("a", { href: instanceLink(id) }, id)))));
  return "";
}

// callHTTP calls an HTTP function of this host. It refuses any other address.
async function callHTTP(f) {
  const a = await ask("Call " + f.name, f.path.includes("{") ? "Put values in place of what is in braces." : "", [{ name: "method", label: "Method", options: f.methods || ["GET", "POST", "PUT", "PATCH", "DELETE"] },
    { name: "path", label: "Path and query", value: f.path, required: true }, { name: "type", label: "Content type", value: "application/json" }, { name: "body", label: "Body", long: true }], "Call");
  if (!a) return "";
  const url = new URL(a.path, location.origin);
  if (url.origin !== location.origin) throw new Error("The path must begin with one slash.");
  const hasBody = a.body !== "" && a.method !== "GET" && a.method !== "HEAD", began = performance.now();
  const answer = await fetch(url, { method: a.method, body: hasBody ? a.body : undefined, headers: hasBody ? { "Content-Type": a.type } : {}, cache: "no-store", redirect: "manual" });
  const text = await answer.text(), value = decoded(text);
  drawer(f.name + " answered", el("dl", { class: "facts" }, ...[["Status", el("span", { class: answer.ok ? "Completed" : "Failed" }, answer.status + " " + answer.statusText)], ["Took", Math.round(performance.now() - began) + " ms"], ["Content type", answer.headers.get("content-type") || "none"]].map(([t, d]) => el("div", {}, el("dt", {}, t), el("dd", {}, d)))),
    typeof value === "object" && typeof value?.id === "string" && value.statusQueryGetUri ? el("p", {}, el("a", { href: instanceLink(value.id) }, "Open the instance " + value.id)) : null,
    payload("Body", value) || el("p", { class: "quiet" }, "The body is empty."), payload("Headers", Object.fromEntries(answer.headers)));
  return "";
}

const callers = { orchestrationtrigger: "a client, or another orchestrator", activitytrigger: "orchestrators", entitytrigger: "signals and calls" };

function howOf(f) {
  if (f.disabled) return el("span", { class: "quiet" }, "It is switched off, or host.json leaves it out.");
  if (f.path) return el("span", {}, ...(f.methods || ["any method"]).map((m) => el("span", { class: "pill" }, m)), el("span", { class: "mono" }, f.path));
  const detail = (f.bindings.find((b) => b.type === f.trigger)?.detail || callers[f.trigger.toLowerCase()] || "").replace(/, connection .*/, "").replace(/^schedule /, "").replace(/\b(queue|topic|subscription|eventHub)Name /g, "$1 ");
  return el("span", {}, el("span", { class: callers[f.trigger.toLowerCase()] ? "quiet" : "mono" }, detail), f.next ? el("span", { class: "quiet" }, " next " + time(f.next)) : null, f.why ? el("div", { class: "quiet" }, el("span", { class: "pill warn" }, "not here"), f.why) : null);
}

function actionOf(f) {
  const key = (what) => ({ "data-key": what + " " + f.name, "aria-label": what + ": " + f.name });
  if (f.disabled) return "";
  if (f.path) return button("Call", () => callHTTP(f), key("Call"));
  if (f.next) return button("Run now", () => runNow(f), key("Run now"));
  if (isA(f, "orchestrationTrigger")) return button("Start", () => startDialog([f.name], f.name), key("Start"));
  return f.sends ? button("Send a message", () => send([], f.name), key("Send a message")) : "";
}

const bindings = (f) => drawer(f.name, el("table", {}, el("thead", {}, el("tr", {}, ...["Binding", "Type", "Direction", "Detail"].map((t) => el("th", { scope: "col" }, t)))),
  el("tbody", {}, ...f.bindings.map((b) => el("tr", {}, el("td", {}, b.name), el("td", {}, b.type), el("td", {}, b.direction), el("td", { class: "wrap" }, b.detail || ""))))));

export async function showFunctions() {
  const shown = begin("Functions"), main = document.getElementById("main"), place = el("div"), problems = el("div");
  let last = "";
  const order = (f) => f.disabled ? 99 : kinds.findIndex(([, kind]) => kind === kindOf(f));
  const load = async () => {
    const { value, text } = await call("GET", "/local/functions");
    if (!shows(shown) || text === last) return false;
    const plain = (t) => t.replace(/"next":"[^"]*"/g, "");
    const changed = plain(text) !== plain(last);
    last = text;
    if (!changed) return false;
    const list = value.functions.sort((a, b) => order(a) - order(b));
    const errors = value.problems.filter((p) => !p.warning).length;
    problems.replaceChildren(el("section", { class: "card flush" }, el("div", { class: "bar inset" }, el("h2", { class: "grow" }, "What to mend before it runs in Azure"), errors ? el("span", { class: "pill bad" }, plural(errors, "error")) : null, value.problems.length > errors ? el("span", { class: "pill warn" }, plural(value.problems.length - errors, "warning")) : null),
      value.problems.length ? el("table", { class: "stack", "aria-label": "Problems" }, el("tbody", {}, ...value.problems.map((p) => el("tr", {}, el("td", {}, el("span", { class: p.warning ? "pill warn" : "pill bad" }, p.warning ? "warning" : "error")), el("td", { class: "mono place" }, p.place), el("td", { class: "wrap" }, p.text))))) : el("p", { class: "quiet foot" }, "Nothing: the files and the settings that they name are as the host wants them.")));
    place.replaceChildren(el("section", { class: "card flush" }, el("table", { class: "stack", "aria-label": "Functions" }, el("thead", {}, el("tr", {}, ...["Function", "Trigger", "Called by", ""].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, ...list.map((f) => el("tr", {}, el("td", {}, f.bindings.length ? el("button", { type: "button", class: "plain", "data-key": f.name, title: "Show its bindings", onclick: () => bindings(f) }, el("b", {}, f.name)) : el("b", {}, f.name)),
        el("td", {}, f.disabled ? el("span", { class: "pill" }, "disabled") : kindOf(f)), el("td", { class: "wrap" }, howOf(f)), el("td", { class: "do" }, actionOf(f))))))));
    return true;
  };
  main.replaceChildren(el("div", { class: "bar title" }, el("h1", {}, "Functions")), place, problems);
  try { await load(); } catch (e) { place.replaceChildren(el("section", { class: "card error" }, el("h2", {}, e.message))); }
  if (shows(shown)) poll(shown, load);
}
