// One trajectory: sub-queries, passages, records, answer, each in its own colour with its own icon and label.

const ICONS = {
  think: "M2 3h12v8H8l-3 3v-3H2z",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3L14 14",
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

/** A move of the model or of the retriever: `kind` is think, search, record or answer. */
function move(kind, label, ...content) {
  return el(
    "div",
    { class: `move ${kind}` },
    el("div", { class: "move-label" }, icon(kind), el("span", {}, label)),
    el("div", { class: "move-body" }, content),
  );
}

/** `verdict` is true, false, or null where the answer is not scored. */
function verdictBadge(verdict) {
  if (verdict === null) return badge("plain", "not scored");
  return verdict ? badge("right", "✓ right") : badge("wrong", "✗ wrong");
}

function stopBadge(reason) {
  return badge(reason === "answered" ? "plain" : "stop", words(reason), "Stop reason");
}

/** The moves of `run` on `question`. */
function moves(run, question, verdict) {
  const gold = goldPassages(question);
  const terms = answerTerms(question);
  return el(
    "div",
    { class: "moves" },
    run.steps.map((step, i) =>
      el(
        "div",
        { class: "step", role: "group", "aria-label": `Step ${i + 1}` },
        el("h5", {}, `Step ${i + 1}`),
        move("think", "Sub-query", el("p", {}, step.query || el("i", {}, "empty"))),
        move("search", "Search", passageList(step.hits, gold, terms)),
        move("record", "Record", recordText(step.evidence, terms)),
      ),
    ),
    move("answer", "Answer", answerBody(run, verdict)),
  );
}

function recordText(evidence, terms) {
  if (evidence === null) return el("p", { class: "faint" }, "Nothing recorded: the trajectory ended here.");
  return el("p", {}, evidence ? marked(evidence, terms) : el("i", {}, "empty"));
}

function answerBody(run, verdict) {
  const none = run.answer === undefined || run.answer === null;
  return [
    el(
      "p",
      { class: "answer-text" },
      none
        ? el("span", { class: "faint" }, `No answer: ${words(run.stop_reason)}.`)
        : run.answer || el("i", {}, "empty"),
      " ",
      verdictBadge(verdict),
    ),
    run.aliases && run.aliases.length ? aliasTable(run) : null,
  ];
}

function aliasTable(run) {
  const rows = run.aliases.map((score) => [
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
      `log p(y | x, z) = ${fixed(run.logprob, 2)} nats over ${plural(run.aliases.length, "spelling")}`,
    ),
    el("div", { class: "scroll" }, table(["Accepted answer", "log p, nats", "Tokens", "Per token"], rows)),
  );
}

function goldPassages(question) {
  const named = (question.sub_questions || []).map((sub) => sub.passage).filter(Boolean);
  return new Set([...(question.gold_passages || []), ...named]);
}

function passageList(hits, gold, terms) {
  if (!hits.length) return el("p", { class: "faint" }, "No passages.");
  const found = hits.filter(([row]) => gold.has(data.passages[row][0])).length;
  return [
    el(
      "p",
      { class: "faint" },
      plural(hits.length, "passage"),
      found ? [", ", badge("gold", `${found} gold`)] : null,
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

/** The aliases worth marking in a text: not `yes`, `no`, or other short ones. */
function answerTerms(question) {
  return question.answers.filter((answer) => answer.length >= 4).map((answer) => answer.toLowerCase());
}

/** `text` as nodes, with whole-word occurrences of the terms marked. */
function marked(text, terms) {
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
  const isWord = (character) => /[\p{L}\p{N}]/u.test(character || "");
  return !isWord(text[at - 1]) && !isWord(text[at + length]);
}

/** The question with its gold answers and decomposition; `runs` are [label, run] to say which passages each read. */
function questionCard(question, runs) {
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
    decomposition(question, runs),
  );
}

function decomposition(question, runs) {
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
          sub.passage ? passageReaders(sub.passage, runs) : null,
          sub.evidence ? el("p", { class: "faint" }, sub.evidence) : null,
        ),
      ),
    ),
    loose.map((id) => el("p", {}, passageReaders(id, runs))),
  );
}

function passageReaders(id, runs) {
  const known = data.passages.find((row) => row[0] === id);
  const readers = runs
    .filter(([, run]) => run)
    .map(([label, run]) => {
      const step = run.steps.findIndex(({ hits }) => hits.some(([row]) => data.passages[row][0] === id));
      return el(
        "span",
        { class: step >= 0 ? "reader found" : "reader" },
        step >= 0 ? `✓ ${label}, step ${step + 1}` : `✗ ${label}`,
      );
    });
  return el(
    "div",
    { class: "readers" },
    badge("gold", `★ ${known ? known[1] : id}`),
    el("span", { class: "faint" }, readers.length ? "read by" : ""),
    readers,
  );
}
