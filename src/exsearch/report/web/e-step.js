// The tab of the E-step: the samples of one training question with their weights.

import { data } from "./data.js";
import { absent, append, badge, el, select, svg } from "./dom.js";
import { fixed, isNumber, percent, plural, sum, words } from "./format.js";
import { backToTop, questionList } from "./question-list.js";
import { questionCard } from "./question.js";
import { table } from "./table.js";
import { glyph, trajectoryCard } from "./trajectory.js";

const ORDERS = [
  ["file", "As in the file"],
  ["peaked", "Most peaked weights"],
  ["flat", "Flattest weights"],
  ["best", "Best log p(y | x, z)"],
  ["worst", "Worst log p(y | x, z)"],
];

const CLASSES = [
  ["all", "All"],
  ["some", "At least one sample right"],
  ["none", "No sample right"],
  ["skipped", "Skipped: all weights 0"],
];

export function eStepTab() {
  const section = document.getElementById("panel-e-step");
  const eSteps = data.e_steps.filter((eStep) => eStep.explored.length);
  if (!eSteps.length) {
    section.append(absent("No E-step: no iter-N/trajectories.jsonl."));
    return;
  }
  const holder = el("div", {});
  const state = { eStep: eSteps[eSteps.length - 1], order: "file" };
  const show = () => holder.replaceChildren(eStepView(state.eStep, state.order));
  const names = eSteps.map(({ name }) => [name, name]);
  append(section, [
    el(
      "div",
      { class: "toolbar" },
      select("Iteration", names, state.eStep.name, (name) => {
        state.eStep = eSteps.find((eStep) => eStep.name === name);
        show();
      }),
      select("Order", ORDERS, state.order, (order) => {
        state.order = order;
        show();
      }),
      el(
        "p",
        { class: "faint" },
        "w = weight among the K samples of the same question; ESS = effective sample size. Bars in the list: weights, green if the answer is right.",
      ),
    ),
    holder,
  ]);
  show();
}

const COLUMNS = ["Sample", "Weight", "log p(y | x, z), nats", "EM", "F1, %", "Ended", "Answer", "Trained on"];

function eStepView(eStep, order) {
  const pane = el("div", { class: "main-pane" });
  const list = questionList({
    label: `Training questions of ${eStep.name}`,
    items: sorted(eStep.explored, order).map((each) => exploredItem(each, eStep.top_weight)),
    filters: [
      {
        label: "Samples",
        options: CLASSES,
        keep: (item, value) => value === "all" || classesOf(item.explored).includes(value),
      },
    ],
    onSelect: (item) => {
      pane.replaceChildren(
        ...(item ? exploredView(item.explored, eStep) : [absent("No question matches this filter.")]),
      );
      backToTop(pane);
    },
  });
  list.refresh();
  return el("div", { class: "split" }, list.node, pane);
}

function sorted(explored, order) {
  const keys = {
    peaked: ({ ess }) => (isNumber(ess) ? ess : Infinity),
    flat: ({ ess }) => -(ess || 0),
    best: (each) => -bestLogprob(each),
    worst: bestLogprob,
  };
  const key = keys[order];
  return key ? explored.toSorted((a, b) => (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0)) : explored;
}

function bestLogprob({ samples }) {
  return Math.max(...samples.map((sample) => (isNumber(sample.logprob) ? sample.logprob : -1e9)));
}

function classesOf({ samples, ess }) {
  const weighed = samples.some((sample) => isNumber(sample.weight));
  return [
    samples.some((sample) => sample.em >= 0.5) ? "some" : "none",
    weighed && ess === null ? "skipped" : null,
  ];
}

function exploredItem(explored, top) {
  const { question, samples, ess } = explored;
  const right = samples.filter((sample) => sample.em >= 0.5).length;
  return {
    key: question.id,
    explored,
    search: [question.text, ...question.answers, question.id].join("\n").toLowerCase(),
    render: () => [
      el("span", { class: "glyphs" }, weightStrip(samples, top)),
      el("span", { class: "text" }, question.text),
      el("span", { class: "faint" }, `${right} of ${samples.length} right · ESS ${fixed(ess, 1)}`),
    ],
  };
}

/** The weights of a question's samples as small bars; a right answer's bar is green. */
function weightStrip(samples, top) {
  const [pitch, height] = [Math.max(2, Math.min(6, 48 / samples.length)), 26];
  const strip = svg("svg", { class: "strip", width: pitch * samples.length, height, "aria-hidden": "true" });
  samples.forEach(({ weight, em }, i) => {
    const size = Math.max(1, (height * (weight || 0)) / top);
    strip.append(
      svg("rect", {
        class: em >= 0.5 ? "yes" : "no",
        x: pitch * i,
        y: height - size,
        width: pitch * 0.8,
        height: size,
      }),
    );
  });
  return strip;
}

function exploredView({ question, samples, ess }, eStep) {
  const ranked = samples.toSorted(
    (a, b) =>
      (b.weight || 0) - (a.weight || 0) ||
      a.trajectory.sample - b.trajectory.sample ||
      (a.trajectory.branch ?? 0) - (b.trajectory.branch ?? 0),
  );
  const detail = el("div", {});
  const rows = new Map();
  const choose = (sample) => {
    for (const [other, row] of rows) {
      row.classList.toggle("chosen", other === sample);
      row.querySelector("button").setAttribute("aria-pressed", String(other === sample));
    }
    const { trajectory, em } = sample;
    const right = isNumber(em) ? em >= 0.5 : null;
    const heading = describe(trajectory);
    detail.replaceChildren(trajectoryCard({ label: heading, heading, trajectory, score: null, right, question }));
  };
  for (const sample of ranked)
    rows.set(
      sample,
      sampleRow(sample, { uniform: uniformWeight(sample.trajectory, samples), top: eStep.top_weight }, () =>
        choose(sample),
      ),
    );
  choose(ranked[0]);
  const note = isNumber(ess)
    ? `Effective sample size ${fixed(ess, 2)} of ${samples.length}. The tick on each bar is the uniform weight.`
    : samples.some((sample) => isNumber(sample.weight))
      ? "All weights are 0: the M-step skips this question."
      : `${eStep.name} has no weights for this question yet.`;
  return [
    questionCard(question, []),
    el(
      "div",
      { class: "card" },
      el("h4", {}, `${countOf(samples)}, by weight`),
      el("p", { class: "note" }, note),
      table(COLUMNS, [...rows.values()], "samples"),
    ),
    detail,
  ];
}

/** The number of samples, and of branches if there are any, as text. */
function countOf(samples) {
  const branches = samples.filter(({ trajectory }) => trajectory.branch).length;
  const own = plural(samples.length - branches, "sample");
  return branches ? `${own} and ${plural(branches, "branch")}` : own;
}

/** The name of a trajectory among those of its question: SAMPLE, or SAMPLE.BRANCH. */
function nameOf({ sample, branch = 0 }) {
  return branch ? `${sample}.${branch}` : `${sample}`;
}

/** The same name in words. */
function describe({ sample, branch = 0 }) {
  return branch ? `Sample #${sample}, branch ${branch}` : `Sample #${sample}`;
}

/** The uniform weight of a trajectory: equal for all samples, each divided among its continuations. */
function uniformWeight({ share = 1 }, samples) {
  return share / sum(samples.map(({ trajectory }) => trajectory.share ?? 1));
}

function sampleRow(sample, scale, choose) {
  const { trajectory, weight, logprob, em, f1, target } = sample;
  return el(
    "tr",
    { click: choose },
    el(
      "th",
      { scope: "row" },
      el(
        "button",
        { type: "button", class: "link", "aria-pressed": "false", "aria-label": describe(trajectory) },
        `#${nameOf(trajectory)}`,
      ),
      trajectory.branch ? el("span", { class: "faint" }, " branch") : null,
    ),
    el("td", {}, weightBar(weight, scale)),
    el("td", {}, fixed(logprob, 2)),
    el("td", {}, glyph(isNumber(em) ? em >= 0.5 : null)),
    el("td", {}, percent(f1)),
    el("td", { class: "textual" }, words(trajectory.stop_reason)),
    el("td", { class: "textual" }, trajectory.answer || el("span", { class: "faint" }, "none")),
    el(
      "td",
      { class: "textual" },
      target
        ? badge("answer", target)
        : el("span", { class: "faint" }, em >= 0.5 ? "its own answer" : "none"),
    ),
  );
}

function weightBar(weight, { uniform, top }) {
  const bar = el("span", { class: "weight-fill" });
  bar.style.width = `${(100 * (weight || 0)) / top}%`;
  const tick = el("span", { class: "weight-tick" });
  tick.style.left = `${(100 * uniform) / top}%`;
  return el(
    "span",
    { class: "weight" },
    el("span", { class: "weight-track", "aria-hidden": "true" }, bar, tick),
    el("span", {}, fixed(weight, 3)),
  );
}
