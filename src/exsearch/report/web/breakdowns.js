// Where the scores come from: how trajectories ended, how often they searched, and scores by number of hops.

import { bar, chartCard, ends, interval, MARKS, plot, rowPlot, xTick, xTitle } from "./charts.js";
import { data } from "./data.js";
import { absent } from "./dom.js";
import { DASH, fixed, percent, plural, sum, whole, words } from "./format.js";
import { METRICS } from "./metrics.js";
import { bands, niceTicks } from "./scales.js";

const STOP_ORDER = [
  "answered",
  "max_steps",
  "context_full",
  "malformed",
  "retrieval_failed",
  "engine_failed",
];

function stopTone(reason) {
  return `stop-${STOP_ORDER.includes(reason) ? reason.replace("_", "-") : "other"}`;
}

export function stopChart() {
  const models = data.models.filter((model) => Object.keys(model.stop_reasons).length);
  if (!models.length) return absent("No stop reasons: no eval/NAME/scores.json has any.");
  const present = new Set(
    models.flatMap((model) => Object.keys(model.stop_reasons).filter((key) => model.stop_reasons[key])),
  );
  const reasons = [
    ...STOP_ORDER.filter((reason) => present.has(reason)),
    ...[...present].filter((reason) => !STOP_ORDER.includes(reason)),
  ];
  return chartCard({
    title: "How trajectories ended",
    note: "Share of the questions; the numbers are counts. Only answered ones can be right.",
    legend: reasons.map((reason) => ({ label: words(reason), tone: stopTone(reason) })),
    draw: (width) => drawStops(width, models, reasons),
    values: {
      head: ["Model", ...reasons.map(words)],
      rows: models.map((model) => [
        model.name,
        ...reasons.map((reason) => whole(model.stop_reasons[reason] || 0)),
      ]),
    },
  });
}

function drawStops(width, models, reasons) {
  const { root, x, y } = rowPlot({
    width,
    label: "Stop reasons by model, as shares",
    labels: models.map(({ name }) => name),
    row: 34,
    xTicks: [0, 0.25, 0.5, 0.75, 1],
    xTitle: "Share of questions, %",
    format: (tick) => percent(tick, 0),
  });
  models.forEach((model, i) => stopRow(root, model, reasons, x, y(i) - 12));
  return root;
}

function stopRow(root, model, reasons, x, y) {
  const questions = sum(Object.values(model.stop_reasons));
  let before = 0;
  for (const reason of reasons) {
    const count = model.stop_reasons[reason] || 0;
    if (!count) continue;
    const [from, to] = [x(before / questions), x((before + count) / questions)];
    const tip = `${model.name}: ${words(reason)}, ${count} of ${questions} (${percent(count / questions)}%)`;
    const tone = stopTone(reason);
    bar(root, { x: from, y, width: to - from - 1, height: 24, tone, tip, text: whole(count) });
    before += count;
  }
}

function modelTone(model) {
  if (data.kind !== "run") return `tone-${data.models.indexOf(model) ? 4 : 1}`;
  if (!model.trained)
    return `baseline-${Math.min(data.models.filter((other) => !other.trained).indexOf(model), 1)}`;
  const stage = data.models.filter((other) => other.trained).indexOf(model);
  return `stage-${Math.min(stage, 5)}`;
}

/** A model's figures by number of hops; `key` is em or f1. */
function byHops(model, key) {
  return key === "em" ? model.by_hops : model.f1_by_hops;
}

export function hopChart(key) {
  const { label } = METRICS[key];
  const models = data.models.filter((model) =>
    Object.keys(byHops(model, key)).some((hop) => hop !== "unknown"),
  );
  if (!models.length) return absent(`No ${label} by hops: no question has a number of hops, or there are no scores.`);
  const hops = [...new Set(models.flatMap((model) => Object.keys(byHops(model, key))))].toSorted(
    (a, b) => Number(a) - Number(b) || a.localeCompare(b),
  );
  const marks = models.map((_, i) => MARKS[i % MARKS.length]);
  return chartCard({
    title: `${label} by number of hops`,
    note: "With 95% intervals; n is the number of questions.",
    legend: models.map((model, i) => ({ label: model.name, tone: modelTone(model), mark: marks[i] })),
    draw: (width) => drawHops(width, key, models, hops, marks),
    values: {
      head: ["Model", ...hops.map((hop) => `${hop} hops, %`)],
      rows: models.map((model) => [model.name, ...hops.map((hop) => hopText(byHops(model, key)[hop]))]),
    },
  });
}

function hopText(figure) {
  return figure ? `${percent(figure.mean)} [${percent(figure.low)}, ${percent(figure.high)}]` : DASH;
}

function drawHops(width, key, models, hops, marks) {
  const top = Math.min(
    1,
    Math.max(
      0.1,
      ...models.flatMap((model) => Object.values(byHops(model, key))).flatMap((figure) => ends(figure, true)),
    ),
  );
  const frame = plot({
    width,
    height: 280,
    label: `${METRICS[key].label} by hops and model, in percent`,
    yTicks: niceTicks(0, 100 * top),
    yTitle: `${METRICS[key].label}, %`,
    format: (tick) => fixed(tick, 0),
    bottom: 56,
  });
  const x = bands(frame.box, hops.length);
  const step = Math.min(22, ((frame.box.right - frame.box.left) / hops.length) * (0.7 / models.length));
  hops.forEach((hop, i) => {
    const counts = [
      ...new Set(
        models
          .map((model) => byHops(model, key)[hop])
          .filter(Boolean)
          .map((figure) => figure.n),
      ),
    ];
    xTick(frame, x(i), hop, `n = ${counts.join(" / ")}`);
    models.forEach((model, j) => {
      const figure = byHops(model, key)[hop];
      if (!figure) return;
      interval(frame.root, {
        x: x(i) + (j - (models.length - 1) / 2) * step,
        y: (value) => frame.y(100 * value),
        figure,
        tone: modelTone(model),
        mark: marks[j],
        tip: `${model.name}, ${hop} hops: ${percent(figure.mean)}%, 95% interval ${percent(figure.low)} to ${percent(figure.high)}, n = ${figure.n}`,
      });
    });
  });
  xTitle(frame, "Hops of the question", 50);
  return frame.root;
}

export function searchesChart() {
  const models = data.models.filter((model) => Object.keys(model.searches).length);
  if (!models.length) return absent("No searches: there are no scores.");
  const highest = Math.max(...models.flatMap((model) => Object.keys(model.searches).map(Number)));
  const numbers = Array.from({ length: highest + 1 }, (_, number) => number);
  return chartCard({
    title: "Searches per question",
    note: "Share of each model's questions, by number of searches.",
    legend: models.map((model) => ({ label: model.name, tone: modelTone(model) })),
    draw: (width) => drawSearches(width, models, numbers),
    values: {
      head: ["Model", ...numbers.map((number) => plural(number, "search"))],
      rows: models.map((model) => [
        model.name,
        ...numbers.map((number) => whole(model.searches[number] || 0)),
      ]),
    },
  });
}

/** The share of its questions on which a model searched `number` times. */
function searchShare(model, number) {
  return (model.searches[number] || 0) / sum(Object.values(model.searches));
}

function drawSearches(width, models, numbers) {
  const top = Math.max(...models.flatMap((model) => numbers.map((number) => searchShare(model, number))));
  const frame = plot({
    width,
    height: 280,
    label: "Searches per question and model, as shares",
    yTicks: niceTicks(0, 100 * top),
    yTitle: "Share of questions, %",
    format: (tick) => fixed(tick, 0),
    bottom: 56,
  });
  const x = bands(frame.box, numbers.length);
  const step = Math.min(34, ((frame.box.right - frame.box.left) / numbers.length) * (0.8 / models.length));
  numbers.forEach((number, i) => {
    xTick(frame, x(i), number);
    models.forEach((model, j) => {
      const value = searchShare(model, number);
      if (!value) return;
      const y = frame.y(100 * value);
      const from = x(i) + (j - models.length / 2) * step;
      bar(frame.root, {
        x: from,
        y,
        width: step - 1,
        height: frame.box.bottom - y,
        tone: modelTone(model),
        tip: `${model.name}: ${plural(number, "search")} on ${plural(model.searches[number], "question")} (${percent(value)}%)`,
      });
    });
  });
  xTitle(frame, "Searches", 40);
  return frame.root;
}
