import { el, keepFocus, whenFree } from "./base.js";

const margin = 12; // rows that are made beyond the visible ones

// longTable is a table that makes elements for the visible rows only, so that 10,000 rows cost no more than 50. columns are
// {title, class}; row makes the cells of an item, and key names it. All rows have the height --row of the style sheet. If inside
// is set, the table scrolls by itself, otherwise with the page. ahead is called when the last rows become visible.
export function longTable({ label, columns, key, row, inside, ahead, open }) {
  const gap = () => el("tr", { class: "gap", "aria-hidden": "true" }, el("td"));
  const top = gap(), bottom = gap(), body = el("tbody");
  const table = el("table", { class: "long", "aria-label": label },
    el("thead", {}, el("tr", {}, ...columns.map((c) => el("th", { scope: "col", class: c.class }, c.title)))), el("tbody", {}, top), body, el("tbody", {}, bottom));
  const box = el("div", { class: inside ? "scroll inside" : "scroll", tabindex: inside ? "0" : null, role: inside ? "region" : null, "aria-label": inside ? label : null }, table);
  let items = [], range = "", height = 0;

  const draw = (changed) => {
    if (!table.isConnected) return;
    height = height || parseFloat(getComputedStyle(table).getPropertyValue("--row")) || 40;
    const begin = top.getBoundingClientRect().top, view = inside ? box.getBoundingClientRect().top : 0, size = inside ? box.clientHeight : innerHeight;
    const first = Math.max(0, Math.min(items.length, Math.floor((view - begin) / height) - margin));
    const last = Math.max(first, Math.min(items.length, Math.ceil((view + size - begin) / height) + margin));
    if (!changed && range === first + "-" + last) return;
    range = first + "-" + last;
    top.style.height = first * height + "px";
    bottom.style.height = (items.length - last) * height + "px";
    table.setAttribute("aria-rowcount", items.length + 1);
    keepFocus(body, () => body.replaceChildren(...items.slice(first, last).map((item, n) => {
      const tr = el("tr", { "aria-rowindex": first + n + 2, "data-row": key(item), class: open ? "opens" : null }, ...row(item).map((cell, c) => cell instanceof HTMLTableCellElement ? cell : el("td", { class: columns[c].class }, cell)));
      if (open) tr.addEventListener("click", (event) => { if (!event.target.closest("a, button, input") && !String(getSelection())) open(item); });
      return tr;
    })));
    if (ahead && last >= items.length) ahead();
  };
  let asked = false;
  const onScroll = () => {
    if (!table.isConnected) return removeEventListener("scroll", onScroll);
    if (!asked) requestAnimationFrame(() => { asked = false; draw(false); });
    asked = true;
  };
  if (inside) box.addEventListener("scroll", onScroll);
  else addEventListener("scroll", onScroll, { passive: true });
  new ResizeObserver(onScroll).observe(box);
  return { box, show: (list) => { items = list; whenFree(table, () => draw(true)); } };
}
