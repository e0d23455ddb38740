// A list of questions that can be searched, filtered and walked through with the keyboard.

import { el, select } from "./dom.js";
import { plural, whole } from "./format.js";

/**
 * `items` are {key, search, render}; `filters` are {label, options, keep(item, value)}.
 * Returns {node, refresh, choose}; `chosen(item)` is called whenever the selection changes.
 */
export function questionList({ label, items, filters, chosen }) {
  const state = { values: filters.map((filter) => filter.options[0][0]), text: "", shown: [], current: null };
  const count = el("p", { class: "count", "aria-live": "polite" });
  const list = el("ul", { class: "question-list", role: "listbox", tabindex: 0, "aria-label": label });
  const rows = new Map(items.map((item, i) => [item, listRow(item, i, label)]));

  const refresh = () => {
    const text = state.text.toLowerCase();
    state.shown = items.filter(
      (item) =>
        item.search.includes(text) && filters.every((filter, i) => filter.keep(item, state.values[i])),
    );
    for (const item of state.shown) rows.get(item).replaceChildren(...item.render());
    list.replaceChildren(...state.shown.map((item) => rows.get(item)));
    count.textContent = `${whole(state.shown.length)} of ${plural(items.length, "question")}`;
    if (!state.shown.includes(state.current)) pick(state.shown[0] || null);
  };

  const pick = (item) => {
    if (state.current) rows.get(state.current).setAttribute("aria-selected", "false");
    state.current = item;
    if (item) {
      const row = rows.get(item);
      row.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", row.id);
      reveal(list, row);
    } else list.removeAttribute("aria-activedescendant");
    chosen(item);
  };

  const step = (event) => {
    const target = keyTarget(event, state.shown, state.shown.indexOf(state.current));
    if (target === null) return;
    event.preventDefault();
    if (state.shown[target]) pick(state.shown[target]);
  };

  list.addEventListener("keydown", step);
  for (const [item, row] of rows) row.addEventListener("click", () => pick(item));
  const search = el("input", {
    type: "search",
    placeholder: "Search questions and answers",
    "aria-label": "Search questions and answers",
    input: (event) => {
      state.text = event.target.value;
      refresh();
    },
    keydown: (event) => {
      if (!["Home", "End"].includes(event.key)) step(event);
    },
  });
  const boxes = filters.map((filter, i) =>
    select(filter.label, filter.options, state.values[i], (value) => {
      state.values[i] = value;
      refresh();
    }),
  );
  const node = el("div", { class: "list-pane" }, search, el("div", { class: "filters" }, boxes), count, list);
  return { node, refresh, choose: (key) => pick(items.find((item) => item.key === key) || state.current) };
}

function listRow(item, i, label) {
  return el("li", { role: "option", id: `${label.replaceAll(/\W+/g, "-")}-${i}`, "aria-selected": "false" });
}

/** Scroll the list, never the page. */
function reveal(list, row) {
  const [top, bottom] = [row.offsetTop - list.offsetTop, row.offsetTop - list.offsetTop + row.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}

/** Bring the top of a pane back into sight, below the tabs, after its content has changed. */
export function backToTop(pane) {
  const top = pane.getBoundingClientRect().top - 60;
  if (top < 0) window.scrollBy(0, top);
}

/** The index that a key leads to, or null for another key. */
function keyTarget(event, shown, at) {
  const last = shown.length - 1;
  const targets = {
    ArrowDown: at + 1,
    ArrowUp: at - 1,
    PageDown: at + 10,
    PageUp: at - 10,
    Home: 0,
    End: last,
  };
  if (!(event.key in targets) || event.altKey || event.ctrlKey || event.metaKey) return null;
  return Math.min(Math.max(targets[event.key], 0), last);
}

/** Options `all` and each distinct value. */
export function valueOptions(values, text = (value) => value) {
  return [["all", "All"], ...[...new Set(values)].map((value) => [String(value), text(value)])];
}
