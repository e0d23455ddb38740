// Labels and units of metrics, and values and differences in these units.

import { fixed, percent, signed, words } from "./format.js";

export const METRICS = {
  em: { label: "Exact match", unit: "%" },
  f1: { label: "F1", unit: "%" },
  acc: { label: "Contains answer", unit: "%" },
  recall: { label: "Passage recall", unit: "%" },
  searches: { label: "Searches", unit: "per question" },
  tokens: { label: "Tokens", unit: "generated per question" },
  answer_probability: { label: "p(y | x, z)", unit: "0 without an answer" },
  malformed: { label: "Malformed", unit: "%" },
  cover_em: { label: "Cover EM", unit: "%" },
  sub_em: { label: "Sub EM", unit: "%" },
  f1_hotpotqa: { label: "F1, yes/no exact", unit: "%" },
  precision: { label: "Passage precision", unit: "%" },
  step_recall: { label: "Recall per search", unit: "%" },
  step_precision: { label: "Precision per search", unit: "%" },
  any_gold: { label: "Any gold passage", unit: "%" },
  grounded: { label: "Facts supported", unit: "%" },
  answer_recorded: { label: "Answer recorded", unit: "%" },
  prefilled_tokens: { label: "Tokens", unit: "prefilled per question" },
  cached_tokens: { label: "Tokens", unit: "cached per question" },
  model_seconds: { label: "Model", unit: "seconds per question" },
  search_seconds: { label: "Search", unit: "seconds per question" },
};

export function metricLabel(key) {
  return METRICS[key] ? METRICS[key].label : words(key);
}

/** A figure of the metric `key`, in its unit. */
export function metricText(key, value) {
  if (METRICS[key] && METRICS[key].unit === "%") return percent(value);
  return fixed(value, Math.abs(value) >= 100 ? 0 : 2);
}

export function rangeText(key, figure) {
  return `${metricText(key, figure.low)} to ${metricText(key, figure.high)}`;
}

/** A difference of the metric `key`, in its unit: points for shares. */
export function differenceText(key, value) {
  if (METRICS[key] && METRICS[key].unit === "%") return signed(100 * value, 1);
  return signed(value, Math.abs(value) >= 100 ? 0 : 2);
}

export function differenceUnit(key) {
  const unit = METRICS[key] ? METRICS[key].unit : "";
  return unit === "%" ? "points" : unit;
}

export function intervalText(key, { low, high }) {
  return `${differenceText(key, low)} to ${differenceText(key, high)}`;
}
