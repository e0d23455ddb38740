"""Plans the searches of a gold trajectory: the queries, the index's hits, and what is recorded from them.

A plan is a generator: it yields a query, is sent the index's hits, and finally returns its hops. Many plans can
therefore be searched for together, and a query can depend on earlier hits.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum

from exsearch.agent.experiment import Experiment
from exsearch.config import AgentConfig, WarmupConfig
from exsearch.core.errors import UsageError
from exsearch.core.seeds import derive_seed
from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus
from exsearch.evaluation.metrics import accuracy
from exsearch.questions.question import Question, SubQuestion
from exsearch.retrieval.base import Retriever


class SkipReason(StrEnum):
    """Why a question has no trajectory."""

    NO_ANNOTATION = "no_annotation"
    """It has neither a full decomposition, nor gold passages with a sentence of evidence in each."""
    NO_CORPUS = "no_corpus"
    """Its gold passages are known only by id, and there is no corpus to look up their titles."""
    NOT_IN_CORPUS = "not_in_corpus"
    """The corpus has no passage with the id of a gold passage."""
    NOT_FOUND = "not_found"
    """The index does not return a gold passage."""
    TITLE_UNKNOWN = "title_unknown"
    """Neither the question nor the passages read contain the title to search for next."""
    TOO_MANY_STEPS = "too_many_steps"
    """It needs more searches than `agent.max_steps`."""
    TURN_TOO_LONG = "turn_too_long"
    """A turn has more tokens than `agent.turn_tokens`."""
    CONTEXT_FULL = "context_full"
    """It needs more tokens than `agent.context`."""
    EVIDENCE_CUT = "evidence_cut"
    """The evidence is in the truncated part of a passage that is longer than its share of tokens."""


class SkippedError(Exception):
    """Raised if a question cannot become a trajectory."""

    def __init__(self, reason: SkipReason) -> None:
        """Say why."""
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Hop:
    """One search of a gold trajectory."""

    query: str
    hits: list[Hit]
    evidence: str
    """Text to record."""
    inserted: bool = False
    """Whether the gold passage was inserted into the hits."""
    source: str | None = None
    """The passages' own text about it, if something else is recorded."""
    gold: tuple[str, ...] = ()
    """Ids of the passages that it is from."""

    @property
    def selected(self) -> tuple[int, ...]:
        """Ranks of these passages among the hits."""
        return tuple(hit.rank for hit in self.hits if hit.passage.id in self.gold)


Plan = Generator[str, list[Hit], list[Hop]]


class GoldPassages:
    """Finds a question's gold passages among the hits, or inserts them from the corpus if `warmup.gold = "insert"`."""

    def __init__(self, corpus: Corpus | None, config: WarmupConfig, seed: int) -> None:
        """Keep the settings. Raises UsageError for `gold = insert` without a corpus to insert from."""
        if config.gold == "insert" and corpus is None:
            raise UsageError("warmup.gold = insert takes passages from the corpus: name an index folder as the index")
        self._corpus, self._config, self._seed = corpus, config, seed

    @classmethod
    def of(cls, experiment: Experiment) -> "GoldPassages":
        """Create it from an experiment, with the corpus of its index if there is one. Raises UsageError as above."""
        return cls(experiment.corpus, experiment.config.warmup, experiment.config.seed)

    @property
    def opens_with_question(self) -> bool:
        """Whether the first search for a decomposed question is the question itself."""
        return self._config.opening == "question"

    def fact(self, sub: SubQuestion) -> str:
        """Return what the settings record for a sub-question. Raises SkippedError."""
        if self._config.facts == "evidence":
            return sub.evidence or ""
        stated = sub.statement if self._config.facts == "statement" else None
        if not stated and not sub.answers:
            raise SkippedError(SkipReason.NO_ANNOTATION)
        return stated or f"{sub.text} {sub.answers[0]}"

    def passage(self, id: str) -> Passage:
        """Return a gold passage. Raises SkippedError."""
        if self._corpus is None:
            raise SkippedError(SkipReason.NO_CORPUS)
        if (passage := self._corpus.by_id(id)) is None:
            raise SkippedError(SkipReason.NOT_IN_CORPUS)
        return passage

    def with_gold(self, hits: list[Hit], id: str, question: Question, step: int, k: int) -> tuple[list[Hit], bool]:
        """Return hits that contain a gold passage, and whether it was inserted. Raises SkippedError.

        An inserted passage replaces the last of k hits, at a rank that depends only on seed, question and step, so that
        its position tells the model nothing.
        """
        if any(hit.passage.id == id for hit in hits):
            return hits, False
        if self._config.gold == "require":
            raise SkippedError(SkipReason.NOT_FOUND)
        passage = self.passage(id)
        scored = [(hit.passage, hit.score) for hit in hits[: k - 1]]
        place = random.Random(derive_seed(self._seed, question.id, step)).randrange(len(scored) + 1)
        scored.insert(place, (passage, hits[-1].score if hits else 0.0))
        return [Hit(*each, rank) for rank, each in enumerate(scored, start=1)], True


def search_all(plans: list[Plan], retriever: Retriever, k: int) -> list[list[Hop] | SkipReason]:
    """Run plans together, with one batch of searches per step; return the hops of each, or why it failed."""
    results: dict[int, list[Hop] | SkipReason] = {}
    hits_by_plan: dict[int, list[Hit] | None] = dict.fromkeys(range(len(plans)))
    while hits_by_plan:
        queries: dict[int, str] = {}
        for number, hits in hits_by_plan.items():
            try:
                queries[number] = next(plans[number]) if hits is None else plans[number].send(hits)
            except StopIteration as end:
                results[number] = end.value
            except SkippedError as error:
                results[number] = error.reason
        hits_by_plan = dict(zip(queries, retriever.search(list(queries.values()), k), strict=True)) if queries else {}
    return [results[number] for number in range(len(plans))]


def plan(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Return the searches of a question, by its decomposition or otherwise by its gold passages."""
    if question.sub_questions:
        return _decomposed(question, gold, config)
    return _supported(question, gold, config)


def _decomposed(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Search for the passage of each sub-question.

    With `warmup.opening = "question"`, search for the question first, then only for the sub-questions that its hits do
    not answer.
    """
    subs = question.sub_questions
    if any(not sub.passage or not sub.evidence for sub in subs):
        raise SkippedError(SkipReason.NO_ANNOTATION)
    hops: list[Hop] = []
    if gold.opens_with_question:
        hits, inserted = (yield question.text), False
        covered = _answerable(subs, hits)
        if not covered:
            hits, inserted = gold.with_gold(hits, subs[0].passage or "", question, 0, config.passages)
            covered = _answerable(subs, hits)
        facts, sources = " ".join(map(gold.fact, covered)), " ".join(sub.evidence or "" for sub in covered)
        gold_ids = tuple(sub.passage or "" for sub in covered)
        hops.append(Hop(question.text, hits, facts, inserted, sources, gold_ids))
        subs = [sub for sub in subs if sub not in covered]
    if len(hops) + len(subs) > config.max_steps:
        raise SkippedError(SkipReason.TOO_MANY_STEPS)
    for sub in subs:
        hits = yield sub.text
        hits, inserted = gold.with_gold(hits, sub.passage or "", question, len(hops), config.passages)
        hops.append(Hop(sub.text, hits, gold.fact(sub), inserted, sub.evidence, (sub.passage or "",)))
    return hops


def _answerable(subs: list[SubQuestion], hits: list[Hit]) -> list[SubQuestion]:
    """Return the sub-questions whose passage is among the hits, except those that name an answer not found there."""
    hit_ids = {hit.passage.id for hit in hits}
    answerable: list[SubQuestion] = []
    unknown: list[str] = []
    for sub in subs:
        if sub.passage in hit_ids and not accuracy(sub.text, unknown):
            answerable.append(sub)
        else:
            unknown += sub.answers
    return answerable


def _supported(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Search for the question itself, then for the title of each gold passage that was not found.

    A title is searched for only once the question or a passage that was read contains it; otherwise the model could not
    know it, and would be taught to guess. The search for the question is dropped if it finds no gold passage.
    """
    if not question.gold_passages or not question.evidence:
        raise SkippedError(SkipReason.NO_ANNOTATION)
    missing = {id: gold.passage(id) for id in question.gold_passages}
    evidence = {id: _evidence(question, passage) for id, passage in missing.items()}
    hops: list[Hop] = []
    query = text_read = question.text
    target = _named(missing, text_read) or next(iter(missing))
    asks_the_question = True
    while missing:
        hits, inserted = (yield query), False
        if not asks_the_question or not _found(missing, hits):
            try:
                hits, inserted = gold.with_gold(hits, target, question, len(hops), config.passages)
            except SkippedError:
                if not asks_the_question:
                    raise
        asks_the_question = False
        if new_ids := _found(missing, hits):
            hops.append(Hop(query, hits, " ".join(evidence[id] for id in new_ids), inserted, gold=tuple(new_ids)))
            text_read = "\n".join([text_read, *(f"{hit.passage.title}\n{hit.passage.text}" for hit in hits)])
            missing = {id: passage for id, passage in missing.items() if id not in new_ids}
        if missing:
            next_id = _named(missing, text_read)
            if next_id is None:
                raise SkippedError(SkipReason.TITLE_UNKNOWN)
            target, query = next_id, _bare(missing[next_id].title)
    if len(hops) > config.max_steps:
        raise SkippedError(SkipReason.TOO_MANY_STEPS)
    return hops


def _found(passages: dict[str, Passage], hits: list[Hit]) -> list[str]:
    """Return the ids of those passages that are among the hits."""
    return [id for id in passages if any(hit.passage.id == id for hit in hits)]


def _evidence(question: Question, passage: Passage) -> str:
    """Return the sentences of evidence that are in a passage. Raises SkippedError if none is."""
    text = " ".join(passage.text.split())
    sentences = [" ".join(sentence.split()) for sentence in question.evidence]
    inside = [sentence for sentence in sentences if sentence and sentence in text]
    if not inside:
        raise SkippedError(SkipReason.NO_ANNOTATION)
    return " ".join(inside)


def _named(passages: dict[str, Passage], text: str) -> str | None:
    """Return the id of the first passage whose title occurs in a text; None if none does."""
    return next((id for id, passage in passages.items() if accuracy(text, [_bare(passage.title)])), None)


def _bare(title: str) -> str:
    """Return a title without a disambiguation in brackets, as in `Mercury (planet)`, which texts do not contain."""
    return title.partition(" (")[0].strip()
