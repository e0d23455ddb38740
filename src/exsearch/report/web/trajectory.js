// One trajectory: sub-queries, passages, records, answer, each in its own colour with its own icon and label.

import { data } from "./data.js";
import { absent, append, badge, el, svg } from "./dom.js";
import { fixed, isNumber, percent, plural, whole, words } from "./format.js";
import { answerTerms, goldPassages, marked } from "./question.js";
import { table } from "./table.js";

const ICONS = {
  think: "M2 3h12v8H8l-3 3v-3H2z",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3L14 14",
  select: "M2 8l4 4 8-9",
  record: "M2.5 13.5l.9-3.6 7.3-7.3 2.7 2.7-7.3 7.3z",
  answer: "M4 14.5V2h9l-2.2 3L13 8H4",
};

function icon(kind) {
  return svg(
    "svg",
    { class: "icon", width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: ICONS[kind] }),
  );
}

/** A move of the model or of the retriever: `kind` is think, search, select, record or answer. */
export function move(kind, label, ...content) {
  return el(
    "div",
    { class: `move ${kind}` },
    el("div", { class: "move-label" }, icon(kind), el("span", {}, label)),
    el("div", { class: "move-body" }, content),
  );
}

export function glyph(value) {
  const [kind, text, label] =
    value === null ? ["none", "·", "not scored"] : value ? ["yes", "✓", "right"] : ["no", "✗", "wrong"];
  return el("span", { class: `glyph ${kind}`, role: "img", "aria-label": label }, text);
}

/** `verdict` is true, false, or null if the answer is not scored. */
function verdictBadge(verdict) {
  if (verdict === null) return badge("plain", "not scored");
  return verdict ? badge("right", "✓ right") : badge("wrong", "✗ wrong");
}

function stopBadge(reason) {
  return badge(reason === "answered" ? "plain" : "stop", words(reason), "Stop reason");
}

/**
 * A trajectory below its heading; `right` says whether its answer is right, null if it is not scored.
 * `trajectory` is null if the model wrote none, `score` if there are no further figures to show.
 */
export function trajectoryCard({ label, heading, trajectory, score, right, question }) {
  const record = trajectory || score;
  return el(
    "article",
    { class: "card trajectory", "aria-label": label },
    el(
      "header",
      {},
      el("h4", {}, heading, " ", verdictBadge(right), " ", record ? stopBadge(record.stop_reason) : null),
      el("p", { class: "faint" }, facts(trajectory, score)),
    ),
    trajectory
      ? moves(trajectory, question, right)
      : absent(
          score
            ? "Scores only: this model wrote no trajectory for the question."
            : "No trajectory for this question.",
        ),
  );
}

function moves(trajectory, question, verdict) {
  const gold = goldPassages(question);
  const terms = answerTerms(question);
  return el(
    "div",
    { class: "moves" },
    trajectory.steps.map((step, i) =>
      el(
        "div",
        { class: "step", role: "group", "aria-label": `Step ${i + 1}` },
        el("h5", {}, `Step ${i + 1}`),
        move("think", "Sub-query", el("p", {}, step.query || el("i", {}, "empty"))),
        move("search", "Search", passageList(step.hits, gold, terms)),
        step.selected ? move("select", "Select", selection(step.selected)) : null,
        move("record", "Record", recordText(step.evidence, terms)),
      ),
    ),
    move("answer", "Answer", answerBody(trajectory, verdict)),
  );
}

function selection(ranks) {
  return el("p", {}, ranks.length ? ranks.map((rank) => `[${rank}]`).join(" ") : el("i", {}, "none"));
}

function recordText(evidence, terms) {
  if (evidence === null) return el("p", { class: "faint" }, "Nothing recorded: the trajectory ended here.");
  return el("p", {}, evidence ? marked(evidence, terms) : el("i", {}, "empty"));
}

function answerBody(trajectory, verdict) {
  const none = trajectory.answer === undefined || trajectory.answer === null;
  return [
    el(
      "p",
      { class: "answer-text" },
      none
        ? el("span", { class: "faint" }, `No answer: ${words(trajectory.stop_reason)}.`)
        : trajectory.answer || el("i", {}, "empty"),
      " ",
      verdictBadge(verdict),
    ),
    trajectory.aliases && trajectory.aliases.length ? aliasTable(trajectory) : null,
  ];
}

function aliasTable(trajectory) {
  const rows = trajectory.aliases.map((score) => [
    score.said ? `${score.alias} (as the model spelled it)` : score.alias,
    fixed(score.logprob, 2),
    score.tokens,
    fixed(score.logprob / score.tokens, 2),
  ]);
  return el(
    "details",
    {},
    el(
      "summary",
      {},
      `log p(y | x, z) = ${fixed(trajectory.logprob, 2)} nats over ${plural(trajectory.aliases.length, "spelling")}`,
    ),
    table(["Accepted answer", "log p, nats", "Tokens", "Per token"], rows),
  );
}

function passageList(hits, gold, terms) {
  if (!hits.length) return el("p", { class: "faint" }, "No passages.");
  const goldCount = hits.filter(([row]) => gold.has(data.passages[row][0])).length;
  return [
    el(
      "p",
      { class: "faint" },
      plural(hits.length, "passage"),
      goldCount ? [", ", badge("gold", `${goldCount} gold`)] : null,
    ),
    el(
      "ol",
      { class: "passages" },
      hits.map(([row, score]) => passageItem(data.passages[row], score, gold, terms)),
    ),
  ];
}

function passageItem([id, title, text], score, gold, terms) {
  const isGold = gold.has(id);
  const body = el("div", { class: "passage-text" });
  const open = (event) => {
    if (event.target.open && !body.hasChildNodes()) {
      append(body, [
        el("p", {}, marked(text, terms)),
        el("p", { class: "faint" }, `id ${id} · retriever's score ${fixed(score, 3)}`),
      ]);
    }
  };
  const line = el(
    "summary",
    {},
    isGold ? [badge("gold", "★ gold"), " "] : null,
    el("b", {}, title || id),
    el("span", { class: "first-line" }, ` ${text}`),
  );
  return el("li", { class: isGold ? "is-gold" : null }, el("details", { toggle: open }, line, body));
}

function facts(trajectory, score) {
  return [
    score ? `F1 ${percent(score.f1)}%` : null,
    score && isNumber(score.recall) ? `recall ${percent(score.recall, 0)}%` : null,
    trajectory ? plural(trajectory.steps.length, "search") : score ? plural(score.searches, "search") : null,
    trajectory && trajectory.own_tokens
      ? `${whole(trajectory.own_tokens)} of ${whole(trajectory.tokens)} tokens generated${ownLogprob(trajectory)}`
      : null,
    trajectory && isNumber(trajectory.logprob) ? `log p(y | x, z) ${fixed(trajectory.logprob, 2)} nats` : null,
    trajectory && trajectory.shortened ? `${plural(trajectory.shortened, "passage")} shortened to fit` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

function ownLogprob(trajectory) {
  return isNumber(trajectory.own_logprob) ? ` (log p ${fixed(trajectory.own_logprob, 1)} nats)` : "";
}
