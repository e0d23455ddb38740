// Curves over training: the scores of each model, and the probability of the gold answers after its searches.

import { chartCard, ends, interval, plot, polyline, xTick } from "./charts.js";
import { data, iterationOf, scored } from "./data.js";
import { absent } from "./dom.js";
import { DASH, fixed, isNumber } from "./format.js";
import { bands, niceTicks } from "./scales.js";

const SCORE_SERIES = [
  {
    label: "Exact match, with 95% interval",
    tone: "tone-1",
    mark: "circle",
    key: "em",
    get: (model) => model.figures.em,
    whiskers: true,
  },
  { label: "F1", tone: "tone-2", mark: "square", key: "f1", get: (model) => model.figures.f1 },
  {
    label: "Passage recall",
    tone: "tone-3",
    mark: "diamond",
    key: "recall",
    get: (model) => model.figures.recall,
  },
  {
    label: "Exact match, validation",
    tone: "tone-4",
    mark: "triangle",
    dashed: true,
    hollow: true,
    get: validationOf,
  },
];

const EVIDENCE_SERIES = [
  {
    label: "Test questions",
    tone: "tone-1",
    mark: "circle",
    get: (model) => model.figures.answer_probability,
    whiskers: true,
  },
  {
    label: "Training questions",
    tone: "tone-3",
    mark: "diamond",
    get: (model) => model.train_probability,
    whiskers: true,
  },
  {
    label: "Samples of the E-step",
    tone: "tone-4",
    mark: "triangle",
    dashed: true,
    hollow: true,
    get: sampledEvidence,
  },
];

function validationOf(model) {
  const { validation_em: em } = iterationOf(model);
  return model.validation || (isNumber(em) ? { mean: em } : undefined);
}

function sampledEvidence(model) {
  const { mean_answer_probability: mean } = iterationOf(model);
  return isNumber(mean) ? { mean } : undefined;
}

export function scoreChart() {
  const models = scored();
  const series = SCORE_SERIES.filter(({ get }) => models.some(get));
  if (!series.length) return absent("No score curve: no eval/NAME/scores.json.");
  const figures = models
    .flatMap((model) => series.map(({ get, whiskers }) => ends(get(model), whiskers)))
    .flat();
  return curveCard({
    title: "Scores over training",
    note: "On test questions unless stated otherwise; baselines are not connected to the curve.",
    models,
    series,
    yTicks: niceTicks(0, 100 * Math.min(1, Math.max(0.1, ...figures))),
    yTitle: "Share or score, %",
    scale: 100,
    unit: "%",
    digits: 1,
  });
}

export function evidenceChart() {
  const models = data.models.filter((model) => EVIDENCE_SERIES.some(({ get }) => get(model)));
  const series = EVIDENCE_SERIES.filter(({ get }) => models.some(get));
  if (!series.length) return absent("No p(y | x, z): neither scores nor weights contain it.");
  const figures = models
    .flatMap((model) => series.map(({ get, whiskers }) => ends(get(model), whiskers)))
    .flat();
  const sampled = models.some(sampledEvidence) ? " The samples of an E-step are from the previous model." : "";
  return curveCard({
    title: "Mean p(y | x, z)",
    note: `Probability of the gold answer after a trajectory, 0 if the trajectory has no answer; higher is better.${sampled}`,
    models,
    series,
    yTicks: niceTicks(0, Math.min(1, Math.max(0.1, ...figures))),
    yTitle: "p(y | x, z)",
    scale: 1,
    unit: "",
    digits: 3,
  });
}

function curveCard(chart) {
  const { models, series, scale, unit, digits } = chart;
  return chartCard({
    title: chart.title,
    note: chart.note,
    legend: series.map((each) => ({ ...each, line: true })),
    draw: (width) => drawCurves(width, chart),
    values: {
      head: [
        "Model",
        ...series.map(
          ({ label }) => `${label.replace(", with 95% interval", "")}${unit ? `, ${unit}` : ""}`,
        ),
      ],
      rows: models.map((model) => [
        model.name,
        ...series.map(({ get }) => (get(model) ? fixed(scale * get(model).mean, digits) : DASH)),
      ]),
    },
  });
}

function drawCurves(width, chart) {
  const { models, series, scale } = chart;
  const slanted = (width - 70) / models.length < 7.5 * Math.max(...models.map(({ name }) => name.length));
  const frame = plot({
    width,
    height: slanted ? 330 : 300,
    label: chart.title,
    yTicks: chart.yTicks,
    yTitle: chart.yTitle,
    bottom: slanted ? 74 : 34,
  });
  const x = bands(frame.box, models.length);
  models.forEach((model, i) => xTick(frame, x(i), model.name, null, slanted));
  const lane = Math.min(9, (frame.box.right - frame.box.left) / models.length / 8);
  series.forEach((each, i) => {
    const shift = (i - (series.length - 1) / 2) * lane;
    const at = models
      .map((model, j) => ({ model, figure: each.get(model), px: x(j) + shift }))
      .filter(({ figure }) => figure);
    const line = at
      .filter(({ model }) => model.trained)
      .map(({ figure, px }) => [px, frame.y(scale * figure.mean)]);
    polyline(frame.root, line, each.tone, each.dashed);
    for (const point of at) curvePoint(frame, chart, each, point);
  });
  return frame.root;
}

function curvePoint(frame, { scale, unit, digits }, series, { model, figure, px }) {
  const text = (value) => fixed(scale * value, digits);
  const range = isNumber(figure.low)
    ? `, 95% interval ${text(figure.low)} to ${text(figure.high)}, n = ${figure.n}`
    : "";
  interval(frame.root, {
    x: px,
    y: (value) => frame.y(scale * value),
    figure: series.whiskers ? figure : { mean: figure.mean },
    tone: series.tone,
    mark: series.mark,
    hollow: series.hollow,
    tip: `${model.name}, ${series.label.replace(", with 95% interval", "")}: ${text(figure.mean)}${unit}${range}`,
  });
}
