// A list of questions that can be searched, filtered and navigated with the keyboard.

import { el, select } from "./dom.js";
import { plural, whole } from "./format.js";

/**
 * `items` are {key, search, render}; `filters` are {label, options, keep(item, value)}.
 * Returns {node, refresh, choose}; `onSelect(item)` is called whenever the selection changes.
 */
export function questionList({ label, items, filters, onSelect }) {
  const state = { values: filters.map((filter) => filter.options[0][0]), text: "", matches: [], current: null };
  const count = el("p", { class: "count", "aria-live": "polite" });
  const list = el("ul", { class: "question-list", role: "listbox", tabindex: 0, "aria-label": label });
  const rows = new Map(items.map((item, i) => [item, listRow(item, i, label)]));

  const refresh = () => {
    const text = state.text.toLowerCase();
    state.matches = items.filter(
      (item) =>
        item.search.includes(text) && filters.every((filter, i) => filter.keep(item, state.values[i])),
    );
    for (const item of state.matches) rows.get(item).replaceChildren(...item.render());
    list.replaceChildren(...state.matches.map((item) => rows.get(item)));
    count.textContent = `${whole(state.matches.length)} of ${plural(items.length, "question")}`;
    if (!state.matches.includes(state.current)) pick(state.matches[0] || null);
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
    onSelect(item);
  };

  const step = (event) => {
    const target = keyTarget(event, state.matches, state.matches.indexOf(state.current));
    if (target === null) return;
    event.preventDefault();
    if (state.matches[target]) pick(state.matches[target]);
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

/** Scroll the top of a pane back into view, below the tabs, after its content has changed. */
export function backToTop(pane) {
  const top = pane.getBoundingClientRect().top - 60;
  if (top < 0) window.scrollBy(0, top);
}

/** The index that a key moves to, or null if it is not a navigation key. */
function keyTarget(event, items, at) {
  const last = items.length - 1;
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

/** The options `all` and each distinct value. */
export function valueOptions(values, text = (value) => value) {
  return [["all", "All"], ...[...new Set(values)].map((value) => [String(value), text(value)])];
}
