import { el, isExact, parse, toast } from "./base.js";

const maxUnpacked = 32 << 20, maxText = 20000, maxChildren = 100, maxString = 400;

// unpack decompresses a value of the app's codec: base64 of four bytes of length and gzip. Any other value, and one that is
// larger than the limit, stays as it is.
export async function unpack(value) {
  if (typeof value !== "string" || value.length < 20 || value.length > maxUnpacked || !/^[A-Za-z0-9+/]+=*$/.test(value)) return value;
  try {
    const bytes = Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
    if (bytes[4] !== 0x1f || bytes[5] !== 0x8b) return value;
    const reader = new Blob([bytes.slice(4)]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
    const parts = [];
    for (let size = 0; ;) {
      const { value: part, done } = await reader.read();
      if (done) break;
      if ((size += part.length) > maxUnpacked) {
        await reader.cancel();
        return value;
      }
      parts.push(part);
    }
    return decoded(await new Blob(parts).text());
  } catch { return value; }
}

// decoded returns the value of a JSON text, or the text itself if it is not JSON.
export function decoded(text) {
  if (typeof text !== "string") return text;
  try { return parse(text); } catch { return text; }
}

const isEmpty = (v) => v === null || v === undefined || v === "";
export const written = (v) => typeof v === "string" ? v : JSON.stringify(v, null, 2);

// size is the number of bytes of a value in JSON.
function size(text) {
  const n = new Blob([text]).size;
  if (n < 1024) return n + " B";
  return n < 1 << 20 ? (n / 1024).toFixed(1) + " KB" : (n / (1 << 20)).toFixed(1) + " MB";
}

export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function leaf(v) {
  if (isExact(v)) return el("span", { class: "v number" }, v.rawJSON);
  if (typeof v !== "string") return el("span", { class: "v " + (v === null ? "null" : typeof v) }, String(v));
  const text = el("span", { class: "v string" }, '"' + v.slice(0, maxString) + (v.length > maxString ? "…" : "") + '"');
  if (v.length <= maxString) return text;
  return el("span", {}, text, " ", el("button", { type: "button", class: "small", onclick: (event) => { text.textContent = '"' + v.slice(0, maxText) + (v.length > maxText ? "…" : "") + '"'; event.target.remove(); } }, "more"));
}

// node shows a value under its name. The content of an object or an array is made when the user opens it.
function node(name, v, open) {
  const label = name === null ? null : el("span", { class: "k" }, String(name) + ": ");
  const inner = v !== null && typeof v === "object" && !isExact(v);
  if (!inner) return el("div", { class: "leaf" }, label, leaf(v));
  const entries = Object.entries(v), isList = Array.isArray(v);
  if (!entries.length) return el("div", { class: "leaf" }, label, el("span", { class: "v null" }, isList ? "[]" : "{}"));
  const below = el("div", { class: "below" });
  const add = (from) => {
    below.append(...entries.slice(from, from + maxChildren).map(([k, child]) => node(k, child, open && entries.length <= 20)));
    if (entries.length > from + maxChildren) below.append(el("button", { type: "button", class: "small", onclick: (event) => { event.target.remove(); add(from + maxChildren); } }, (entries.length - from - maxChildren) + " more"));
  };
  const details = el("details", { open }, el("summary", {}, label, el("span", { class: "quiet" }, isList ? "[ " + entries.length + " ]" : "{ " + entries.length + " }")), below);
  if (open) add(0);
  else details.addEventListener("toggle", () => { if (!below.childNodes.length) add(0); }, { once: true });
  return details;
}

function tree(v) {
  const shown = typeof v === "string" ? el("pre", {}, v.slice(0, maxText)) : node(null, v, true);
  return el("div", { class: "tree" }, shown);
}

// payload shows a value as a tree, with buttons to copy and to download its text. It returns null if there is no value.
export function payload(title, value, attributes = {}) {
  if (isEmpty(value)) return null;
  const content = el("div", { class: "content", tabindex: "0", role: "group", "aria-label": title }), tools = el("span", { class: "tools" });
  const show = (v, note) => {
    const text = written(v), isTree = v !== null && typeof v === "object" && !isExact(v);
    const raw = el("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => {
      const on = raw.getAttribute("aria-pressed") !== "true";
      raw.setAttribute("aria-pressed", String(on));
      content.replaceChildren(on ? el("pre", {}, cut(text)) : tree(v));
    } }, "Text");
    content.replaceChildren(tree(v), text.length > maxText && !isTree ? el("p", { class: "quiet" }, cutNote(text)) : "");
    tools.replaceChildren(...[note ? el("span", { class: "pill" }, note) : null, el("span", { class: "quiet" }, size(text)), isTree ? raw : null,
      el("button", { type: "button", class: "small", onclick: () => copy(text) }, "Copy"),
      text.length > maxText ? el("button", { type: "button", class: "small", onclick: () => download(title.toLowerCase().replaceAll(" ", "-") + ".json", text) }, "Download") : null].filter(Boolean));
  };
  show(value);
  unpack(value).then((v) => { if (v !== value) show(v, "was compressed"); });
  return el("section", { class: "payload", ...attributes }, el("div", { class: "bar" }, el("h3", { class: "grow" }, title), tools), content);
}
const cut = (text) => text.length > maxText ? text.slice(0, maxText) + "\n" + cutNote(text) : text;
const cutNote = (text) => "… " + (text.length - maxText).toLocaleString() + " characters more: download it to see all.";

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch { toast("The browser does not let this page copy.", true); }
}
