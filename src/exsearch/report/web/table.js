// Tables.

import { el } from "./dom.js";

/** A table; the first column is text, the others are numbers. */
export function table(head, rows) {
  return el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head.map((cell) => el("th", { scope: "col" }, cell)),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          row.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell)),
        ),
      ),
    ),
  );
}

export function valueTable({ head, rows }) {
  return el(
    "details",
    { class: "values" },
    el("summary", {}, "Values"),
    el("div", { class: "scroll" }, table(head, rows)),
  );
}
