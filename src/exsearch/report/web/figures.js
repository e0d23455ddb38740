// The tab of figures with its two tables.

import { hopChart, searchesChart, stopChart } from "./breakdowns.js";
import { evidenceChart, scoreChart } from "./curves.js";
import { data, questionCount, scored } from "./data.js";
import { pairedSection } from "./differences.js";
import { absent, append, badge, el } from "./dom.js";
import { DASH, fixed, isNumber, percent, whole } from "./format.js";
import { bigNumbers } from "./headline.js";
import { lossCharts, weightCharts } from "./learning.js";
import { METRICS, metricText, rangeText } from "./metrics.js";
import { table, tableCard } from "./table.js";

export function figuresTab() {
  const isRun = data.kind === "run";
  append(document.getElementById("panel-figures"), [
    bigNumbers(),
    data.notices.length ? noticeBox() : null,
    isRun ? trainingSection() : null,
    data.paired ? pairedSection() : null,
    el("h2", {}, "All figures"),
    figureTable(),
    el("div", { class: "grid wide" }, hopChart("em"), hopChart("f1"), searchesChart(), stopChart()),
    isRun ? stepsSection() : null,
  ]);
}

function trainingSection() {
  return [
    el("h2", {}, "Training"),
    el("div", { class: "grid" }, scoreChart(), evidenceChart()),
    iterationTable(),
  ];
}

function stepsSection() {
  return [
    el("h2", {}, "Weights of the E-step"),
    weightCharts(),
    el("h2", {}, "Training losses"),
    lossCharts(),
  ];
}

function noticeBox() {
  return el(
    "ul",
    { class: "notices" },
    data.notices.map((text) => el("li", {}, text)),
  );
}

/** A cell of text rather than of a number. */
function prose(text) {
  return el("span", { class: "prose" }, text);
}

function plain(text) {
  return text;
}

/** Key, label, formatter of the value, and optional wrapper of the cell. */
const ITERATION_COLUMNS = [
  ["mean_answer_probability", "p(y | x, z)", (value) => fixed(value, 3)],
  ["malformed", "Malformed, %", (share) => percent(share)],
  ["effective_sample_size", "Effective sample size", (value) => fixed(value, 2)],
  ["weight_entropy", "Weight entropy, nats", (value) => fixed(value, 3)],
  ["questions", "Questions", whole],
  ["skipped", "Skipped", whole],
  ["sample_exact_match", "Samples right, %", (share) => percent(share)],
  ["any_exact_match", "Questions with a right sample, %", (share) => percent(share)],
  ["examples", "Trained on", whole],
  ["validation_em", "Validation EM, %", (share) => percent(share)],
  ["sources", "Weight from", weightSources, prose],
  ["guard", "Guard", (sentence) => sentence || DASH, prose],
];

/** Shares of the M-step's weight by E-step, with the effective sample size of the ratios of earlier E-steps. */
function weightSources(sources, { ratios_worth: worth }) {
  const shares = Object.entries(sources).map(([name, share]) => {
    const size = isNumber(worth[name]) ? ` (ratios worth ${fixed(worth[name], 2)} samples)` : "";
    return `${name} ${percent(share, 0)} %${size}`;
  });
  return shares.join(", ") || DASH;
}

/** Whether an iteration has this value. */
function isKnown(value) {
  return isNumber(value) || (typeof value === "string" ? value !== "" : Object.keys(value || {}).length > 0);
}

function iterationTable() {
  const columns = ITERATION_COLUMNS.filter(([key]) => data.iterations.some((row) => isKnown(row[key])));
  if (!columns.length) return null;
  const rows = data.iterations.map((row) => [
    modelLabel(row.name),
    ...columns.map(([key, , text, wrap = plain]) => wrap(text(row[key], row))),
  ]);
  return el(
    "div",
    { class: "card" },
    table(["Iteration", ...columns.map(([, label, , wrap = plain]) => wrap(label))], rows),
  );
}

function modelLabel(name) {
  return el("span", {}, name, name === data.best ? [" ", badge("best", "best")] : null);
}

function figureTable() {
  const models = scored();
  if (!models.length) return absent("No eval/NAME/scores.json yet.");
  const keys = [
    ...new Set([...Object.keys(METRICS), ...models.flatMap((model) => Object.keys(model.figures))]),
  ].filter((key) => models.some((model) => model.figures[key]));
  const head = [
    "Model",
    "n",
    ...keys.map((key) => {
      const { label, unit } = METRICS[key] || { label: key, unit: "" };
      return [label, el("span", { class: "unit" }, ` ${unit}`)];
    }),
  ];
  const rows = models.map((model) => [
    modelLabel(model.name),
    whole(questionCount(model)),
    ...keys.map((key) => figureCell(key, model.figures[key], questionCount(model))),
  ]);
  return tableCard(
    head,
    rows,
    "Mean over n questions, with its 95% bootstrap interval below; a different n is stated with the figure.",
  );
}

function figureCell(key, figure, n) {
  if (!figure) return DASH;
  return el(
    "span",
    { class: "figure" },
    el("b", {}, metricText(key, figure.mean)),
    el(
      "span",
      { class: "range" },
      `${rangeText(key, figure)}${figure.n === n ? "" : `, n = ${whole(figure.n)}`}`,
    ),
  );
}
