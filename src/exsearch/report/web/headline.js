// The headline of the page, and its big numbers: before and after training, with intervals.

import { comparedModels, data, modelNamed, questionCount } from "./data.js";
import { absent, append, badge, el } from "./dom.js";
import { DASH, duration, plural, sum, whole } from "./format.js";
import { differenceText, differenceUnit, intervalText, METRICS, metricText, rangeText } from "./metrics.js";

export function headline() {
  const splits = Object.entries(data.split_sizes).map(([split, size]) => `${whole(size)} ${split}`);
  const total = sum(Object.values(data.seconds));
  const facts = [
    data.kind === "evaluation" ? plural(questionCount(data.models[0]), "question") : null,
    data.paired ? `${plural(data.paired.n, "question")} answered by both` : null,
    splits.length ? `Questions: ${splits.join(", ")}` : null,
    data.iterations.length ? plural(data.iterations.length, "EM iteration") : null,
    data.best ? `best: ${data.best}` : null,
    total ? `${duration(total)} in total` : null,
  ].filter(Boolean);
  append(document.getElementById("headline"), [
    el("p", { class: "kicker" }, `ExSearch ${data.kind} report`),
    el("h1", {}, data.title),
    el("p", { class: "facts" }, facts.join("  ·  ")),
    data.fingerprint
      ? el(
          "p",
          { class: "facts" },
          "Protocol ",
          el("code", {}, data.fingerprint),
          " – scores are comparable only if this is equal.",
        )
      : null,
    data.warnings.map((text) => el("p", { class: "warning", role: "alert" }, text)),
  ]);
}

/** Before and after training, with intervals. */
export function bigNumbers() {
  const [before, after] = comparedModels().map((name) => modelNamed(name));
  if (!before || !after || !(before.figures.em || after.figures.em)) {
    return absent("No scores yet: the models to compare have no eval/NAME/scores.json.");
  }
  const keys = ["em", "f1", "recall", "searches"].filter((key) => before.figures[key] || after.figures[key]);
  return el(
    "div",
    { class: "big-numbers" },
    keys.map((key) => bigNumber(key, before, after)),
  );
}

function bigNumber(key, before, after) {
  const { label, unit } = METRICS[key];
  return el(
    "div",
    { class: key === "em" ? "big first" : "big" },
    el(
      "h3",
      {},
      label,
      el("span", { class: "unit" }, key === "em" ? ` ${unit}, with 95% interval` : ` ${unit}`),
    ),
    el(
      "div",
      { class: "pair" },
      bigSide(key, before),
      before === after
        ? null
        : [el("span", { class: "arrow", "aria-label": "to" }, "→"), bigSide(key, after)],
    ),
    differenceLine(key),
  );
}

function bigSide(key, model) {
  const figure = model.figures[key];
  return el(
    "div",
    { class: "side" },
    el("span", { class: "name" }, model.name),
    el("span", { class: "value" }, figure ? metricText(key, figure.mean) : DASH),
    figure ? el("span", { class: "range" }, rangeText(key, figure)) : null,
  );
}

function differenceLine(key) {
  const entry = data.paired && data.paired.differences.find(({ metric }) => metric === key);
  if (entry) {
    const { difference, told_apart: significant } = entry;
    const label = significant ? badge("best", "significant") : badge("plain", "not significant");
    return pairedLine(key, difference, label);
  }
  if (key !== "em" || !data.comparison) return null;
  const { difference } = data.comparison;
  const verdict = difference.low > 0 ? "better" : difference.high < 0 ? "worse" : "not significant";
  const kind = { better: "right", worse: "wrong" }[verdict] || "plain";
  return pairedLine(key, difference, badge(kind, verdict));
}

function pairedLine(key, difference, verdict) {
  const text = `${differenceText(key, difference.mean)} ${differenceUnit(key)}, 95% interval ${intervalText(key, difference)} (paired, n = ${difference.n})`;
  return el("p", { class: "difference" }, verdict, " ", text);
}
