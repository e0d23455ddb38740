// The setup tab: the protocol, the configuration, and the time of each stage.

import { data } from "./data.js";
import { absent, append, el } from "./dom.js";
import { duration, percent, sum } from "./format.js";
import { table } from "./table.js";

export function setupTab() {
  const section = document.getElementById("panel-setup");
  const isRun = data.kind === "run";
  append(section, [
    el("h2", {}, "Setup"),
    data.notices.length
      ? el(
          "ul",
          { class: "notices" },
          data.notices.map((text) => el("li", {}, text)),
        )
      : null,
    el(
      "div",
      { class: "grid" },
      isRun ? secondsTable() : null,
      keyTable("Protocol", data.protocol, "protocol.json is absent."),
    ),
    isRun ? keyTable("Configuration", data.config, "config.toml is absent.") : null,
  ]);
}

function secondsTable() {
  const rows = Object.entries(data.seconds);
  const total = sum(Object.values(data.seconds));
  const body = rows.map(([stage, seconds]) => [stage, duration(seconds), percent(seconds / total, 0)]);
  return el(
    "div",
    { class: "card" },
    el("h3", {}, "Time by stage"),
    rows.length
      ? table(["Stage", "Time", "Share, %"], [...body, ["Total", duration(total), ""]])
      : absent("No times: summary.json is absent or has none."),
  );
}

function keyTable(title, rows, notice) {
  const body = rows.map(([key, value]) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, value)));
  return el(
    "div",
    { class: "card" },
    el("h3", {}, title),
    rows.length
      ? el("div", { class: "scroll" }, el("table", { class: "keys" }, el("tbody", {}, body)))
      : absent(notice),
  );
}
