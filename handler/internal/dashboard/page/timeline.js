import { beginning, clock, el, finished, instanceLink, isLocal, keepFocus, short } from "./base.js";

// innermost returns the failure that caused the others, without the words that the host puts around the app's own.
export function innermost(f) {
  while (f && f.InnerFailure) f = f.InnerFailure;
  if (!f) return f;
  const own = /^Response status code does not indicate success: \d+ \((?:durable\/failed: )?([^]*)\)\.$/.exec(f.ErrorMessage || "");
  return own ? { ...f, ErrorMessage: own[1] } : f;
}

const ms = (t) => Date.parse(t);
const ofChild = (e) => e.EventType.startsWith("SubOrchestration");

// spanOf describes an event as {name, kind, from, to, begun, …}. A span without an end is still open. kind is done, failed, open
// (running), queued (waiting for a worker), wait (for a time, for a child or until it is resumed) or mark (a single moment).
function spanOf(e, ended) {
  const at = ms(e.Timestamp);
  switch (e.EventType) {
    case "TaskCompleted": case "TaskFailed": case "SubOrchestrationInstanceCompleted": case "SubOrchestrationInstanceFailed": {
      const bad = e.EventType.endsWith("Failed"), why = bad ? innermost(e.FailureDetails)?.ErrorMessage || e.Reason || "failed" : "";
      return { name: e.FunctionName || "?", from: e.ScheduledTime ? ms(e.ScheduledTime) : at, begun: e.StartedTime && ms(e.StartedTime), to: at, kind: bad ? "failed" : "done", why, link: e.InstanceId, child: ofChild(e), event: e };
    }
    case "TaskScheduled": case "SubOrchestrationInstanceCreated": {
      const begun = e.StartedTime && ms(e.StartedTime);
      return { name: e.Name || "?", from: at, begun, to: ended ? at : undefined, kind: ended ? "wait" : ofChild(e) || begun || !isLocal ? "open" : "queued", link: e.InstanceId, child: ofChild(e), event: e };
    }
    case "TimerCreated": return { name: "Timer", from: at, fire: ms(e.FireAt), kind: "wait", event: e };
    case "EventRaised": return { name: "Event " + e.Name, from: at, to: at, kind: "mark", event: e };
    case "ExecutionSuspended": return { name: "Suspended", from: at, kind: "wait", pause: true, event: e };
  }
  return null;
}

// spansOf lists the spans of an instance in the order in which they began.
export function spansOf(i) {
  const list = [], timers = new Map(), ended = finished.has(i.runtimeStatus);
  let pause = null;
  for (const e of i.historyEvents || []) {
    const s = spanOf(e, ended);
    if (s) list.push(s);
    if (s?.fire) timers.set(s.fire, [...timers.get(s.fire) || [], s]);
    if (s?.pause) pause = s;
    if (e.EventType === "ExecutionResumed" && pause) pause = void (pause.to = ms(e.Timestamp));
    if (e.EventType === "TimerFired") {
      const fired = timers.get(ms(e.FireAt))?.shift();
      if (fired) fired.to = ms(e.Timestamp);
    }
  }
  if (ended) {
    const end = Math.max(ms(i.lastUpdatedTime), ...[0].concat(list.map((s) => s.to || 0).reduce((a, b) => Math.max(a, b), 0)));
    for (const s of list) s.to ??= Math.max(s.from, Math.min(end, s.fire || end));
  }
  return list.sort((a, b) => a.from - b.from);
}

const many = 6, shownOfEach = 3, maxLines = 250, maxBars = 200;

// fold joins many spans with the same name into one line. The first ones that failed or are running stay separate.
export function fold(list, open) {
  const count = new Map(), folded = new Map(), alone = new Map(), lines = [];
  for (const s of list) count.set(s.name, (count.get(s.name) || 0) + 1);
  for (const s of list) {
    const key = s.name + " " + s.kind, special = s.kind === "failed" || s.kind === "open";
    const stands = count.get(s.name) <= many || open.has(s.name) || special && (alone.get(key) || 0) < shownOfEach;
    if (stands) {
      alone.set(key, (alone.get(key) || 0) + 1);
      lines.push({ name: s.name, spans: [s] });
    } else if (folded.has(key)) folded.get(key).spans.push(s);
    else {
      const line = { name: s.name, kind: s.kind, spans: [s], folded: true };
      folded.set(key, line);
      lines.push(line);
    }
  }
  return lines;
}

// merged joins spans that are too close to each other to be seen separately.
function merged(spans, least) {
  const list = [];
  for (const s of spans) {
    const before = list.at(-1);
    if (before && before.kind === s.kind && before.to !== undefined && s.to !== undefined && s.from <= before.to + least) before.to = Math.max(before.to, s.to);
    else if (list.length < maxBars) list.push({ ...s });
  }
  return list;
}

const words = { queued: "waits for a worker", open: "runs", wait: "waits", failed: "failed", done: "ran" };

// timeline draws an instance and returns {element, tick}: tick extends the open spans to a time.
export function timeline(i, spans, open, pick, again) {
  const ended = finished.has(i.runtimeStatus);
  if (!spans.length) return { element: el("p", { class: "quiet" }, i.runtimeStatus === "Pending" ? "It has not begun yet." : ended ? "Nothing but its own turns." : "Nothing is under way: it waits for an event, or its turn runs."), tick: () => {} };
  const begin = spans[0].from, moving = [], ticks = [0, 1, 2, 3, 4].map(() => el("span", {}));
  const endAt = (now) => {
    if (ended) return spans.reduce((m, s) => Math.max(m, s.to), begin);
    const due = spans.filter((s) => s.fire && s.to === undefined).reduce((m, s) => Math.max(m, Math.min(s.fire, now + (now - begin) + 5000)), 0);
    return Math.max(now, due);
  };
  const bar = (track, s, kind, from, to) => {
    const b = el("i", { class: "span " + kind, "aria-hidden": "true" });
    track.append(b);
    moving.push((now, total) => {
      b.style.left = Math.min(99.6, 100 * (from - begin) / total) + "%";
      if (kind !== "mark") b.style.width = Math.max(0, Math.min(100, 100 * ((to ?? Math.min(s.fire ?? now, begin + total)) - from) / total)) + "%";
    });
  };
  const total0 = Math.max(endAt(Date.now()) - begin, 1), lines = fold(spans, open);
  const rows = lines.slice(0, maxLines).map((line, n) => {
    const track = el("span", { class: "track" }), first = line.spans[0], key = line.name + " " + n;
    const bars = line.folded ? merged(line.spans, total0 / 400) : line.spans;
    for (const s of bars) {
      if (!line.folded && s.begun && s.kind !== "queued") {
        bar(track, s, "queued", s.from, s.begun);
        bar(track, s, s.kind, s.begun, s.to);
      } else bar(track, s, s.child && s.kind === "open" ? "open child" : s.kind, s.from, s.to);
    }
    const took = el("span", { class: "time" });
    moving.push((now) => {
      const left = first.fire && first.to === undefined ? first.fire - now : 0;
      const last = line.spans.reduce((m, s) => Math.max(m, s.to ?? now), 0);
      took.textContent = first.kind === "mark" ? clock(first.from) : left > 0 ? "for " + short(left) + " more" : short(last - first.from);
    });
    const what = (line.folded ? line.spans.length + " × " : "") + line.name + ": " + (words[first.kind] || "");
    const name = line.folded ? el("button", { type: "button", class: "plain fold", "data-key": "unfold " + key, "aria-expanded": "false", onclick: () => { open.add(line.name); again(); } }, line.name, el("span", { class: "pill" }, "×" + line.spans.length.toLocaleString()))
      : el("button", { type: "button", class: "plain", "data-key": key, title: "Show input and output", onclick: () => pick(first) }, line.name);
    const child = !line.folded && first.link ? el("a", { href: instanceLink(first.link), "data-key": "child " + key, title: "Open " + first.link, "aria-label": "Open the instance " + first.link }, "↳ open") : null;
    return el("div", { class: "line " + first.kind, role: "listitem", title: what }, el("span", { class: "name" }, name, child), track, took, first.why && !line.folded ? el("span", { class: "why" }, beginning(first.why, 500)) : null);
  });
  const legend = el("div", { class: "legend", "aria-hidden": "true" }, ...[["done", "ran"], ["open", "runs"], ...(isLocal ? [["queued", "waits for a worker"]] : []), ["wait", "waits"], ["failed", "failed"]].map(([c, t]) => el("span", {}, el("i", { class: "span " + c }), t)));
  const refold = open.size ? el("button", { type: "button", class: "small", "data-key": "fold", onclick: () => { open.clear(); again(); } }, "Fold") : null;
  const element = el("div", {}, el("div", { class: "gantt", role: "list", "aria-label": "Timeline" }, el("div", { class: "axis", "aria-hidden": "true" }, el("span", { class: "name" }), el("span", { class: "track" }, ...ticks), el("span", { class: "time" })), ...rows),
    lines.length > maxLines ? el("p", { class: "quiet" }, (lines.length - maxLines).toLocaleString() + " lines more: the history has them all.") : null, el("div", { class: "bar" }, legend, el("span", { class: "grow" }), refold));
  const tick = (now) => {
    const total = Math.max(endAt(now) - begin, 1);
    ticks.forEach((t, n) => { t.textContent = n ? "+" + short(total * n / 4) : "0"; });
    for (const m of moving) m(now, total);
  };
  tick(Date.now());
  return { element, tick };
}

export const replaceTimeline = (place, made) => keepFocus(place, () => place.replaceChildren(made.element));
