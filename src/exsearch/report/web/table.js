// Tables.

import { el } from "./dom.js";

/** A table that scrolls if there is too little room: a column of text, then numbers. A row is a list of cells or an element. */
export function table(columns, rows, kind = null) {
  const titles = columns.map((cell) => el("th", { scope: "col" }, cell));
  const lines = rows.map((row) => (row instanceof Node ? row : el("tr", {}, row.map(tableCell))));
  const head = el("thead", {}, el("tr", {}, titles));
  return el("div", { class: "scroll" }, el("table", { class: kind }, head, el("tbody", {}, lines)));
}

function tableCell(content, column) {
  return column ? el("td", {}, content) : el("th", { scope: "row" }, content);
}

/** A table on a card, with a note below it. */
export function tableCard(columns, rows, note) {
  return el("div", { class: "card" }, table(columns, rows), el("p", { class: "note" }, note));
}

export function valueTable({ head, rows }) {
  return el("details", { class: "values" }, el("summary", {}, "Values"), table(head, rows));
}
