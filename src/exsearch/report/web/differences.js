// Two evaluations on the same questions: differences with their intervals, and the questions that they come from.

import { chartCard, markShape, rowPlot, withTip } from "./charts.js";
import { data } from "./data.js";
import { badge, el, svg } from "./dom.js";
import { MINUS, plural, whole, words } from "./format.js";
import { differenceText, differenceUnit, intervalText, metricLabel, metricText } from "./metrics.js";
import { niceTicks } from "./scales.js";
import { tableCard } from "./table.js";

export function pairedSection() {
  const { differences, metric, breakdowns, wins, losses, ties } = data.paired;
  const [a, b] = data.models;
  const shares = differences.filter(({ metric: key }) => differenceUnit(key) === "points");
  return [
    el("h2", {}, "Differences"),
    shares.length ? differenceChart(shares, a, b) : null,
    differenceTable(differences),
    el("h2", {}, `Where the differences come from: ${metricLabel(metric)}`),
    el(
      "p",
      {},
      badge("right", plural(wins, "win")),
      ` where ${b.name} is higher, `,
      badge("wrong", plural(losses, "loss")),
      ` where ${a.name} is, ${plural(ties, "tie")}.`,
    ),
    el(
      "div",
      { class: "grid wide" },
      Object.entries(breakdowns).map(([kind, groups]) => breakdownCard(kind, groups, metric)),
    ),
  ];
}

function differenceChart(differences, a, b) {
  return forestCard({
    title: `${b.name} minus ${a.name}`,
    note: "Means over the same questions, with 95% intervals of the paired bootstrap.",
    legend: [
      { label: "significant", tone: "tone-1", mark: "circle" },
      { label: "not significant", tone: "baseline-0", mark: "circle", hollow: true },
    ],
    axis: "Difference, points",
    key: differences[0].metric,
    rows: differences.map(({ metric, difference, told_apart: significant }) => ({
      label: metricLabel(metric),
      figure: difference,
      hollow: !significant,
    })),
  });
}

function differenceTable(differences) {
  const [a, b] = data.models;
  const head = ["Metric", `A: ${a.name}`, `B: ${b.name}`, "B − A", "95% interval", "n", ""];
  const rows = differences.map((each) => [
    [metricLabel(each.metric), el("span", { class: "unit" }, ` ${differenceUnit(each.metric)}`)],
    metricText(each.metric, each.a),
    metricText(each.metric, each.b),
    el("b", {}, differenceText(each.metric, each.difference.mean)),
    intervalText(each.metric, each.difference),
    whole(each.difference.n),
    each.told_apart ? badge("best", "significant") : badge("plain", "not significant"),
  ]);
  return tableCard(
    head,
    rows,
    "Significant: the interval excludes zero, and at least six questions differ. n is lower if one of the two lacks the metric for some questions.",
  );
}

const BREAKDOWN_TITLES = {
  hops: "By hops of the question",
  type: "By type of question",
  "stop reason": "By stop reason, A → B",
  "more searches": "By number of searches, B − A",
};

/** `answered -> max_steps` as `answered → max steps`, -2 with a true minus sign. */
function groupLabel(name) {
  return words(name).replace("->", "→").replace(/^-/, MINUS);
}

function breakdownCard(kind, groups, key) {
  return forestCard({
    title: BREAKDOWN_TITLES[kind] || `By ${kind}`,
    note: "Difference within each group, with its 95% interval; the number of questions is in brackets.",
    axis: `Difference, ${differenceUnit(key)}`,
    key,
    rows: groups.map(({ name, difference }) => ({
      label: `${groupLabel(name)}  (${difference.n})`,
      figure: difference,
    })),
    values: {
      head: ["Group", "n", "A", "B", "B − A", "95% interval", "Wins", "Losses", "Ties", "Contribution"],
      rows: groups.map((group) => [
        groupLabel(group.name),
        whole(group.difference.n),
        metricText(key, group.a),
        metricText(key, group.b),
        differenceText(key, group.difference.mean),
        intervalText(key, group.difference),
        whole(group.wins),
        whole(group.losses),
        whole(group.ties),
        differenceText(key, group.share),
      ]),
    },
  });
}

/** Intervals around zero, one per row; `rows` are {label, figure, hollow}. */
function forestCard({ title, note, legend, axis, key, rows, values }) {
  return chartCard({
    title,
    note,
    legend,
    draw: (width) => drawForest(width, { title, axis, key, rows }),
    values,
  });
}

function drawForest(width, { title, axis, key, rows }) {
  const scale = differenceUnit(key) === "points" ? 100 : 1;
  const reach = rows.flatMap(({ figure }) => [figure.low * scale, figure.high * scale, 0]);
  const { root, x, y } = rowPlot({
    width,
    label: title,
    labels: rows.map(({ label }) => label),
    row: 30,
    xTicks: niceTicks(Math.min(...reach), Math.max(...reach)),
    xTitle: axis,
  });
  rows.forEach((row, i) => forestRow(root, row, { x: (value) => x(value * scale), y: y(i), key }));
  return root;
}

function forestRow(root, { label, figure, hollow }, { x, y, key }) {
  const [low, middle, high] = [x(figure.low), x(figure.mean), x(figure.high)];
  const group = svg(
    "g",
    { class: hollow ? "point baseline-0" : "point tone-1" },
    svg("line", { class: "whisker", x1: low, x2: high, y1: y, y2: y }),
    svg("line", { class: "whisker", x1: low, x2: low, y1: y - 4, y2: y + 4 }),
    svg("line", { class: "whisker", x1: high, x2: high, y1: y - 4, y2: y + 4 }),
    markShape("circle", middle, y, hollow),
    svg("rect", { class: "target", x: low - 8, y: y - 12, width: high - low + 16, height: 24 }),
  );
  withTip(
    group,
    `${label}: ${differenceText(key, figure.mean)} ${differenceUnit(key)}, 95% interval ${intervalText(key, figure)}, n = ${figure.n}`,
  );
  root.append(group);
}
