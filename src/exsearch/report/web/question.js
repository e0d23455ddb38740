// A question with its gold answers, its decomposition, and the models that read each gold passage.

import { data } from "./data.js";
import { badge, el } from "./dom.js";
import { plural } from "./format.js";

export function goldPassages(question) {
  const ofHops = (question.sub_questions || []).map((sub) => sub.passage).filter(Boolean);
  return new Set([...(question.gold_passages || []), ...ofHops]);
}

/** The aliases worth marking in a text: not `yes`, `no`, or other short ones. */
export function answerTerms(question) {
  return question.answers.filter((answer) => answer.length >= 4).map((answer) => answer.toLowerCase());
}

/** `text` as nodes, with whole-word occurrences of the terms marked. */
export function marked(text, terms) {
  const nodes = [];
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return [text];
  let from = 0;
  for (let at = 0; at < text.length; at += 1) {
    const term = terms.find(
      (candidate) => lower.startsWith(candidate, at) && wordEdges(lower, at, candidate.length),
    );
    if (!term) continue;
    nodes.push(
      text.slice(from, at),
      el("mark", { title: "A gold answer" }, text.slice(at, at + term.length)),
    );
    from = at + term.length;
    at = from - 1;
  }
  return [...nodes, text.slice(from)];
}

function wordEdges(text, at, length) {
  return !isWord(text[at - 1]) && !isWord(text[at + length]);
}

function isWord(character) {
  return /[\p{L}\p{N}]/u.test(character || "");
}

/** The question with its gold answers and decomposition; `trajectories` are [label, trajectory]. */
export function questionCard(question, trajectories) {
  const facts = [
    question.hops ? plural(question.hops, "hop") : null,
    question.type,
    `id ${question.id}`,
  ].filter(Boolean);
  return el(
    "article",
    { class: "card question" },
    el("h3", {}, question.text),
    el("p", { class: "faint" }, facts.join(" · ")),
    el(
      "p",
      {},
      el("b", {}, "Gold answer: "),
      question.answers.length
        ? question.answers.map((answer, i) => [i ? " " : null, badge("answer", answer)])
        : el("span", { class: "faint" }, "not in the run folder"),
    ),
    decomposition(question, trajectories),
  );
}

function decomposition(question, trajectories) {
  const subs = question.sub_questions || [];
  const loose = [...goldPassages(question)].filter((id) => !subs.some((sub) => sub.passage === id));
  if (!subs.length && !loose.length) return null;
  return el(
    "details",
    { open: true },
    el("summary", {}, subs.length ? "Gold decomposition" : "Gold passages"),
    el(
      "ol",
      { class: "hops" },
      subs.map((sub) =>
        el(
          "li",
          {},
          sub.text,
          sub.answers.length ? [" → ", el("b", {}, sub.answers[0])] : null,
          sub.passage ? passageReaders(sub.passage, trajectories) : null,
          sub.evidence ? el("p", { class: "faint" }, sub.evidence) : null,
        ),
      ),
    ),
    loose.map((id) => el("p", {}, passageReaders(id, trajectories))),
  );
}

function passageReaders(id, trajectories) {
  const passage = data.passages.find((row) => row[0] === id);
  const readers = trajectories
    .filter(([, trajectory]) => trajectory)
    .map(([label, trajectory]) => {
      const step = trajectory.steps.findIndex(({ hits }) => hits.some(([row]) => data.passages[row][0] === id));
      return el(
        "span",
        { class: step >= 0 ? "reader found" : "reader" },
        step >= 0 ? `✓ ${label}, step ${step + 1}` : `✗ ${label}`,
      );
    });
  return el(
    "div",
    { class: "readers" },
    badge("gold", `★ ${passage ? passage[1] : id}`),
    el("span", { class: "faint" }, readers.length ? "read by" : ""),
    readers,
  );
}
