// The tab of trajectories: two models side by side on each question, or one.

import { comparedModels, data, isRight, modelNamed } from "./data.js";
import { absent, append, el, select } from "./dom.js";
import { isNumber, plural, words } from "./format.js";
import { metricLabel } from "./metrics.js";
import { remember } from "./place.js";
import { backToTop, questionList, valueOptions } from "./question-list.js";
import { questionCard } from "./question.js";
import { glyph, trajectoryCard } from "./trajectory.js";

const OUTCOMES = [
  ["fixed", "Fixed: wrong in A, right in B"],
  ["broken", "Broken: right in A, wrong in B"],
  ["right", "Right in both"],
  ["wrong", "Wrong in both"],
];

const SINGLE_OUTCOMES = [
  ["right", "Right"],
  ["wrong", "Wrong"],
];

const PAIRED_OUTCOMES = [
  ["all", "All"],
  ["win", "Wins: B higher"],
  ["loss", "Losses: A higher"],
  ["tie", "Ties"],
];

export function trajectoriesTab() {
  const section = document.getElementById("panel-trajectories");
  const [first, second] = comparedModels();
  if (!first || !data.questions.length) {
    section.append(absent("No trajectories: no eval/NAME/trajectories.jsonl."));
    return null;
  }
  const pair = data.models.length > 1 ? [first, second] : [first];
  const state = { models: pair.map(modelNamed), item: null };
  const pane = el("div", { class: "main-pane" });
  const show = () =>
    pane.replaceChildren(
      ...(state.item
        ? comparison(state.item.index, state.models)
        : [absent("No question matches these filters.")]),
    );
  const list = questionList({
    label: "Questions",
    items: data.questions.map((question, index) => questionItem(question, index, state)),
    filters: questionFilters(state),
    onSelect: (item) => {
      state.item = item;
      show();
      backToTop(pane);
      if (item) remember(`trajectories/${encodeURIComponent(item.key)}`);
    },
  });
  const pick = (place) => (name) => {
    state.models[place] = modelNamed(name);
    list.refresh();
    show();
  };
  const names = data.models.map(({ name }) => [name, name]);
  append(section, [
    el(
      "div",
      { class: "toolbar" },
      data.kind === "run"
        ? [select("Model A", names, first, pick(0)), select("Model B", names, second, pick(1))]
        : null,
      data.paired ? el("p", {}, `A is ${first}, B is ${second}.`) : null,
      markKey(state.models),
    ),
    el("div", { class: "split" }, list.node, pane),
  ]);
  list.refresh();
  return list;
}

function markKey(models) {
  return el(
    "p",
    { class: "faint" },
    models.length > 1 ? "In the list: A then B, " : "In the list: ",
    glyph(true),
    " right, ",
    glyph(false),
    " wrong, ",
    glyph(null),
    " not scored.",
  );
}

function questionItem(question, index, state) {
  return {
    key: question.id,
    index,
    question,
    search: [question.text, ...question.answers, question.id].join("\n").toLowerCase(),
    render: () => [
      el(
        "span",
        { class: "glyphs" },
        state.models.map((model) => glyph(isRight(model, index))),
      ),
      el("span", { class: "text" }, question.text),
      el(
        "span",
        { class: "faint" },
        [question.hops ? plural(question.hops, "hop") : null, question.type].filter(Boolean).join(" · "),
      ),
    ],
  };
}

function questionFilters(state) {
  const stops = data.models
    .flatMap((model) => data.questions.map((_, index) => stopOf(model, index)))
    .filter(Boolean);
  const hops = data.questions
    .map((question) => question.hops)
    .filter(isNumber)
    .toSorted((a, b) => a - b);
  const types = data.questions.map((question) => question.type).filter(Boolean);
  const shared = data.models.length > 1;
  return [
    data.paired
      ? {
          label: `By ${metricLabel(data.paired.metric)}`,
          options: PAIRED_OUTCOMES,
          keep: ({ index }, value) => value === "all" || data.paired.outcomes[index] === value,
        }
      : null,
    {
      label: "Outcome",
      options: [["all", "All"], ...(shared ? OUTCOMES : SINGLE_OUTCOMES)],
      keep: (item, value) => value === "all" || outcome(state.models, item.index) === value,
    },
    {
      label: shared ? "Ended (A or B)" : "Ended",
      options: valueOptions(stops, words),
      keep: (item, value) =>
        value === "all" || state.models.some((model) => stopOf(model, item.index) === value),
    },
    {
      label: "Hops",
      options: valueOptions(hops),
      keep: ({ question }, value) => value === "all" || String(question.hops) === value,
    },
    {
      label: "Type",
      options: valueOptions(types),
      keep: ({ question }, value) => value === "all" || question.type === value,
    },
  ].filter((filter) => filter && filter.options.length > 2);
}

function stopOf(model, index) {
  const record = model.trajectories[index] || model.scores[index];
  return record ? record.stop_reason : null;
}

function outcome([a, b = a], index) {
  const [before, after] = [isRight(a, index), isRight(b, index)];
  if (before === null || after === null) return "unknown";
  if (before === after) return before ? "right" : "wrong";
  return after ? "fixed" : "broken";
}

function comparison(index, models) {
  const question = data.questions[index];
  const sides = [...new Set(models)];
  return [
    questionCard(
      question,
      sides.map((model) => [model.name, model.trajectories[index]]),
    ),
    el(
      "div",
      { class: "sides" },
      sides.map((model, i) =>
        trajectoryCard({
          label: `Trajectory of ${model.name}`,
          heading: [models.length > 1 ? el("span", { class: "letter" }, `${"AB"[i]} `) : null, model.name],
          trajectory: model.trajectories[index],
          score: model.scores[index],
          right: isRight(model, index),
          question,
        }),
      ),
    ),
  ];
}
