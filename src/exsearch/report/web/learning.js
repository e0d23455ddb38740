// Figures of the E-step and the M-step: distributions of weights, and training losses.

import { bar, chartCard, plot, polyline, withTip, xTick, xTitle } from "./charts.js";
import { data } from "./data.js";
import { absent, el, select, svg } from "./dom.js";
import { fixed, isNumber, plural, sum, whole } from "./format.js";
import { linear, niceTicks, tickDigits } from "./scales.js";

const LOSSES = [
  { key: "loss", label: "Loss", tone: "tone-1" },
  { key: "search_loss", label: "Search part", tone: "tone-2", dashed: true },
  { key: "answer_loss", label: "Answer part", tone: "tone-3", dashed: true },
];

export function weightCharts() {
  const eSteps = data.e_steps.filter((eStep) => eStep.weights);
  if (!eSteps.length) return absent("No weights: no iter-N/weights.jsonl.");
  const holder = el("div", { class: "grid" });
  const show = (name) => {
    const eStep = eSteps.find((candidate) => candidate.name === name);
    holder.replaceChildren(weightHistogram(eStep), essHistogram(eStep));
  };
  const last = eSteps[eSteps.length - 1].name;
  show(last);
  const choice =
    eSteps.length > 1
      ? select(
          "Iteration",
          eSteps.map(({ name }) => [name, name]),
          last,
          show,
        )
      : null;
  return el("div", {}, choice ? el("div", { class: "toolbar" }, choice) : null, holder);
}

function weightHistogram(eStep) {
  const total = sum(eStep.weights.counts);
  const branches = eStep.largest > eStep.k ? `, up to ${eStep.largest} trajectories with branches` : "";
  return histogramCard(eStep.weights, {
    title: `Weights of ${plural(total, "trajectory")}, ${eStep.name}`,
    note: `K = ${eStep.k} samples per question${branches}. ${whole(eStep.zero_weights)} weights are exactly 0; the dashed line is 1/K.`,
    axis: "Weight of a trajectory",
    unit: "Trajectories",
    digits: 2,
    guide: 1 / eStep.k,
  });
}

function essHistogram(eStep) {
  if (!eStep.ess) return absent("No effective sample size: all weights are 0.");
  const total = sum(eStep.ess.counts);
  const skipped = eStep.skipped ? ` Not counted: ${plural(eStep.skipped, "question")} whose weights are all 0.` : "";
  return histogramCard(eStep.ess, {
    title: `Effective sample size of ${plural(total, "question")}, ${eStep.name}`,
    note: `(Σw)² / Σw²: 1 if one trajectory has all the weight, ${eStep.largest} if all have the same.${skipped}`,
    axis: "Effective sample size, trajectories",
    unit: "Questions",
    digits: 1,
  });
}

function histogramCard(histogram, options) {
  const { edges, counts } = histogram;
  const spans = counts.map(
    (_, i) => `${fixed(edges[i], options.digits)} to ${fixed(edges[i + 1], options.digits)}`,
  );
  return chartCard({
    title: options.title,
    note: options.note,
    draw: (width) => drawHistogram(width, histogram, spans, options),
    values: { head: [options.axis, options.unit], rows: counts.map((count, i) => [spans[i], whole(count)]) },
  });
}

function drawHistogram(width, { edges, counts }, spans, { axis, unit, guide }) {
  const ticks = niceTicks(0, Math.max(1, ...counts), 4).filter((tick) => Number.isInteger(tick));
  const frame = plot({
    width,
    height: 240,
    label: `Histogram: ${axis}`,
    yTicks: ticks,
    yTitle: unit,
    bottom: 48,
    format: whole,
  });
  const x = linear([edges[0], edges[edges.length - 1]], [frame.box.left, frame.box.right]);
  counts.forEach((count, i) => {
    const [from, to] = [x(edges[i]), x(edges[i + 1])];
    const group = bar(frame.root, {
      x: from + 0.5,
      y: frame.y(count),
      width: to - from - 1,
      height: frame.box.bottom - frame.y(count),
      tone: "tone-1",
      tip: `${spans[i]}: ${whole(count)} ${unit.toLowerCase()}`,
    });
    const { top, bottom } = frame.box;
    group.prepend(svg("rect", { class: "hover-area", x: from, y: top, width: to - from, height: bottom - top }));
  });
  const [first, last] = [edges[0], edges[edges.length - 1]];
  const marks = niceTicks(first, last, Math.max(2, Math.floor(width / 70))).filter(
    (tick) => tick >= first && tick <= last,
  );
  for (const tick of marks) xTick(frame, x(tick), fixed(tick, tickDigits(marks)));
  if (guide)
    frame.root.append(
      svg("line", { class: "guide", x1: x(guide), x2: x(guide), y1: frame.box.top, y2: frame.box.bottom }),
    );
  xTitle(frame, axis);
  return frame.root;
}

export function lossCharts() {
  if (!data.losses.length) return absent("No losses: metrics.jsonl is absent or has none.");
  return el("div", { class: "grid" }, data.losses.map(lossCard));
}

function lossCard(curve) {
  const series = LOSSES.filter(({ key }) => curve[key].some(isNumber));
  const last = (key) => curve[key].findLast(isNumber);
  return chartCard({
    title: curve.stage,
    note:
      curve.averaged > 1
        ? `Each point is the mean of ${curve.averaged} logged steps.`
        : `${plural(curve.step.length, "logged step")}.`,
    legend: series.map((line) => ({
      ...line,
      line: true,
      mark: series.length && curve.step.length < 2 ? "circle" : "none",
    })),
    draw: (width) => drawLosses(width, curve, series),
    values: {
      head: ["Series", "First", "Last"],
      rows: series.map(({ key, label }) => [label, fixed(curve[key].find(isNumber), 4), fixed(last(key), 4)]),
    },
  });
}

function drawLosses(width, curve, series) {
  const values = series.flatMap(({ key }) => curve[key]).filter(isNumber);
  const frame = plot({
    width,
    height: 230,
    label: `Training losses of ${curve.stage} by step`,
    yTicks: niceTicks(Math.min(0, ...values), Math.max(...values)),
    yTitle: "Loss, nats per token",
    bottom: 48,
  });
  const [first, last] = [curve.step[0], curve.step[curve.step.length - 1]];
  const x = linear(first === last ? [first - 1, last + 1] : [first, last], [
    frame.box.left + 4,
    frame.box.right - 4,
  ]);
  const ticks = niceTicks(first, last, Math.max(2, Math.floor(width / 90)));
  for (const tick of ticks.filter((step) => step >= first && step <= last && Number.isInteger(step)))
    xTick(frame, x(tick), whole(tick));
  for (const { key, tone, dashed, label } of series) {
    const points = curve.step.map((step, i) => [step, curve[key][i]]).filter(([, loss]) => isNumber(loss));
    polyline(
      frame.root,
      points.map(([step, loss]) => [x(step), frame.y(loss)]),
      tone,
      dashed,
    );
    for (const [step, loss] of points)
      lossPoint(frame, {
        x: x(step),
        y: frame.y(loss),
        tone,
        few: points.length <= 12,
        tip: `Step ${step}: ${label} ${fixed(loss, 4)}`,
      });
  }
  xTitle(frame, "Optimiser step");
  return frame.root;
}

/** A target for the pointer, drawn if there are few points. */
function lossPoint({ root }, { x, y, tone, few, tip }) {
  const spot = svg("g", { class: tone }, few ? svg("circle", { class: "mark", cx: x, cy: y, r: 2.5 }) : null);
  spot.append(svg("circle", { class: "target", cx: x, cy: y, r: 5 }));
  withTip(spot, tip);
  root.append(spot);
}
