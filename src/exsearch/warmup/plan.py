"""The searches of a gold trajectory: what is asked, what the index returns, and what is recorded of it.

A plan is a generator: it yields a query, is sent the hits of the index, and returns its hops in the end. So many plans
can be searched for together, and what a plan asks next may depend on what was found.
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


class LeftOut(StrEnum):
    """Why a question became no trajectory."""

    NO_ANNOTATION = "no_annotation"
    """Neither a full decomposition, nor gold passages with a sentence of evidence in each."""
    NO_CORPUS = "no_corpus"
    """Its gold passages are known by their ids alone, and no corpus is at hand that has their titles."""
    NOT_IN_CORPUS = "not_in_corpus"
    """The corpus has no passage with the id of a gold passage."""
    NOT_FOUND = "not_found"
    """The index does not return a gold passage."""
    TITLE_UNKNOWN = "title_unknown"
    """Neither the question nor the passages read name the title to search for next."""
    TOO_MANY_STEPS = "too_many_steps"
    """More searches than `agent.max_steps`."""
    TURN_TOO_LONG = "turn_too_long"
    """A turn has more tokens than `agent.turn_tokens`."""
    CONTEXT_FULL = "context_full"
    """More tokens than `agent.context`."""
    EVIDENCE_CUT = "evidence_cut"
    """The evidence stands in what was cut off a passage that is longer than its share of tokens."""


class LeftOutError(Exception):
    """A question cannot become a trajectory."""

    def __init__(self, reason: LeftOut) -> None:
        """Say why."""
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Hop:
    """One search of a gold trajectory."""

    query: str
    hits: list[Hit]
    evidence: str
    """What is recorded."""
    inserted: bool = False
    """Whether the gold passage was put among the hits."""
    source: str | None = None
    """What the passages say of it, where something else is recorded."""


Plan = Generator[str, list[Hit], list[Hop]]


class GoldPassages:
    """Finds gold passages among hits, or puts them there; knows the corpus, if it is at hand, and what to record."""

    def __init__(self, corpus: Corpus | None, config: WarmupConfig, seed: int) -> None:
        """Take the settings; raises UsageError for `gold = insert` without a corpus to insert from."""
        if config.gold == "insert" and corpus is None:
            raise UsageError("warmup.gold = insert takes passages from the corpus: name an index folder as the index")
        self._corpus, self._config, self._seed = corpus, config, seed

    @classmethod
    def of(cls, experiment: Experiment) -> "GoldPassages":
        """Take the corpus of the index, if it is at hand, and the settings; raises UsageError as above."""
        return cls(experiment.corpus, experiment.config.warmup, experiment.config.seed)

    @property
    def opens_with_question(self) -> bool:
        """Whether the first search of a decomposed question is for the question itself."""
        return self._config.opening == "question"

    def fact(self, sub: SubQuestion) -> str:
        """Return what is recorded of a sub-question by the settings; raises LeftOutError."""
        if self._config.facts == "evidence":
            return sub.evidence or ""
        stated = sub.statement if self._config.facts == "statement" else None
        if not stated and not sub.answers:
            raise LeftOutError(LeftOut.NO_ANNOTATION)
        return stated or f"{sub.text} {sub.answers[0]}"

    def passage(self, id: str) -> Passage:
        """Return a gold passage; raises LeftOutError."""
        if self._corpus is None:
            raise LeftOutError(LeftOut.NO_CORPUS)
        if (passage := self._corpus.by_id(id)) is None:
            raise LeftOutError(LeftOut.NOT_IN_CORPUS)
        return passage

    def with_gold(self, hits: list[Hit], id: str, question: Question, step: int, k: int) -> tuple[list[Hit], bool]:
        """Return hits that hold a gold passage, and whether it was put there; raises LeftOutError.

        It takes the place of the last of k hits, and a rank that depends on seed, question and step alone, so that
        its position tells the model nothing.
        """
        if any(hit.passage.id == id for hit in hits):
            return hits, False
        if self._config.gold == "require":
            raise LeftOutError(LeftOut.NOT_FOUND)
        passage = self.passage(id)
        scored = [(hit.passage, hit.score) for hit in hits[: k - 1]]
        place = random.Random(derive_seed(self._seed, question.id, step)).randrange(len(scored) + 1)
        scored.insert(place, (passage, hits[-1].score if hits else 0.0))
        return [Hit(*each, rank) for rank, each in enumerate(scored, start=1)], True


def search_all(plans: list[Plan], retriever: Retriever, k: int) -> list[list[Hop] | LeftOut]:
    """Run plans together, one batch of searches for each of their steps; return what became of each."""
    results: dict[int, list[Hop] | LeftOut] = {}
    found: dict[int, list[Hit] | None] = dict.fromkeys(range(len(plans)))
    while found:
        queries: dict[int, str] = {}
        for number, hits in found.items():
            try:
                queries[number] = next(plans[number]) if hits is None else plans[number].send(hits)
            except StopIteration as end:
                results[number] = end.value
            except LeftOutError as error:
                results[number] = error.reason
        found = dict(zip(queries, retriever.search(list(queries.values()), k), strict=True)) if queries else {}
    return [results[number] for number in range(len(plans))]


def plan(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Return the searches of a question, by its decomposition or else by its gold passages."""
    if question.sub_questions:
        return _decomposed(question, gold, config)
    return _supported(question, gold, config)


def _decomposed(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Ask each sub-question for its passage; by the settings, ask the question first, then only what it left open."""
    subs = question.sub_questions
    if any(not sub.passage or not sub.evidence for sub in subs):
        raise LeftOutError(LeftOut.NO_ANNOTATION)
    hops: list[Hop] = []
    if gold.opens_with_question:
        hits, inserted = (yield question.text), False
        told = _answerable(subs, hits)
        if not told:
            hits, inserted = gold.with_gold(hits, subs[0].passage or "", question, 0, config.passages)
            told = _answerable(subs, hits)
        facts, sources = " ".join(map(gold.fact, told)), " ".join(sub.evidence or "" for sub in told)
        hops.append(Hop(question.text, hits, facts, inserted, sources))
        subs = [sub for sub in subs if sub not in told]
    if len(hops) + len(subs) > config.max_steps:
        raise LeftOutError(LeftOut.TOO_MANY_STEPS)
    for sub in subs:
        hits = yield sub.text
        hits, inserted = gold.with_gold(hits, sub.passage or "", question, len(hops), config.passages)
        hops.append(Hop(sub.text, hits, gold.fact(sub), inserted, sub.evidence))
    return hops


def _answerable(subs: list[SubQuestion], hits: list[Hit]) -> list[SubQuestion]:
    """Return the sub-questions whose passage is among hits, but for those that name an answer not found there."""
    found = {hit.passage.id for hit in hits}
    told: list[SubQuestion] = []
    unknown: list[str] = []
    for sub in subs:
        if sub.passage in found and not accuracy(sub.text, unknown):
            told.append(sub)
        else:
            unknown += sub.answers
    return told


def _supported(question: Question, gold: GoldPassages, config: AgentConfig) -> Plan:
    """Ask the question itself, then for the title of each gold passage that was not found yet.

    A title is asked for only once the question or a passage that was read names it: the model can learn that. The
    question is no step where it finds nothing that must be found.
    """
    if not question.gold_passages or not question.evidence:
        raise LeftOutError(LeftOut.NO_ANNOTATION)
    missing = {id: gold.passage(id) for id in question.gold_passages}
    evidence = {id: _evidence(question, passage) for id, passage in missing.items()}
    hops: list[Hop] = []
    query = known = question.text
    wanted = _named(missing, known) or next(iter(missing))
    asks_the_question = True
    while missing:
        hits, inserted = (yield query), False
        if not asks_the_question or not _found(missing, hits):
            try:
                hits, inserted = gold.with_gold(hits, wanted, question, len(hops), config.passages)
            except LeftOutError:
                if not asks_the_question:
                    raise
        asks_the_question = False
        if found := _found(missing, hits):
            hops.append(Hop(query, hits, " ".join(evidence[id] for id in found), inserted))
            known = "\n".join([known, *(f"{hit.passage.title}\n{hit.passage.text}" for hit in hits)])
            missing = {id: passage for id, passage in missing.items() if id not in found}
        if missing:
            named = _named(missing, known)
            if named is None:
                raise LeftOutError(LeftOut.TITLE_UNKNOWN)
            wanted, query = named, _bare(missing[named].title)
    if len(hops) > config.max_steps:
        raise LeftOutError(LeftOut.TOO_MANY_STEPS)
    return hops


def _found(passages: dict[str, Passage], hits: list[Hit]) -> list[str]:
    """Return the ids of the passages that are among hits."""
    return [id for id in passages if any(hit.passage.id == id for hit in hits)]


def _evidence(question: Question, passage: Passage) -> str:
    """Return the sentences of evidence that stand in a passage; raises LeftOutError if none does."""
    text = " ".join(passage.text.split())
    sentences = [" ".join(sentence.split()) for sentence in question.evidence]
    inside = [sentence for sentence in sentences if sentence and sentence in text]
    if not inside:
        raise LeftOutError(LeftOut.NO_ANNOTATION)
    return " ".join(inside)


def _named(passages: dict[str, Passage], text: str) -> str | None:
    """Return the id of the first passage whose title a text names; None if it names none."""
    return next((id for id, passage in passages.items() if accuracy(text, [_bare(passage.title)])), None)


def _bare(title: str) -> str:
    """Return a title without what tells it from others of its name, as in `Mercury (planet)`: no text has that."""
    return title.partition(" (")[0].strip()
