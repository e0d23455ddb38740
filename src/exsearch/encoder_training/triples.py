"""What a retriever learns from: queries, the passages that answer them, and passages that only look as if."""

import random
from collections.abc import Iterable

import msgspec

from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.core.errors import UsageError
from exsearch.core.progress import progress
from exsearch.core.seeds import derive_seed
from exsearch.corpus.store import Corpus
from exsearch.questions.question import Question
from exsearch.retrieval.base import Retriever

_POOL = 10
"""Hard negatives kept for a query; each epoch draws another one."""
_SEARCHED_AT_ONCE = 256


class Pair(msgspec.Struct, frozen=True):
    """A query and a passage that answers it."""

    query: str
    passage: str
    gold: tuple[str, ...]
    """All passages that its question needs: none of them is a negative, whether it answers this query or not."""


class Triple(Pair, frozen=True):
    """A pair with its hard negatives."""

    negatives: list[str]


class TrainingSet(msgspec.Struct, frozen=True):
    """Triples, and the text of every passage they name by its id."""

    triples: list[Triple]
    texts: dict[str, str]


def pairs_of_questions(questions: Iterable[Question]) -> list[Pair]:
    """Return a pair for each sub-question whose passage is known; without any, the question and each gold passage."""
    pairs = []
    for question in questions:
        named = [(sub.text, sub.passage) for sub in question.sub_questions if sub.passage is not None]
        gold = tuple(dict.fromkeys([*question.gold_passages, *(passage for _, passage in named)]))
        pairs += [Pair(text, passage, gold) for text, passage in named or [(question.text, id) for id in gold]]
    return pairs


def pairs_of_trajectories(trajectories: Iterable[Trajectory], questions: Iterable[Question]) -> list[Pair]:
    """Return what the agent's own queries found: each gold passage with the query whose hits held it first.

    Trajectories without an answer and those of other questions are left out; equal pairs occur once.
    """
    golds = {question.id: tuple(question.gold_passages) for question in questions}
    pairs: dict[Pair, None] = {}
    for trajectory in trajectories:
        gold = golds.get(trajectory.question_id, ())
        if trajectory.stop_reason != StopReason.ANSWERED:
            continue
        missing = set(gold)
        for step in trajectory.steps:
            found = [hit.passage.id for hit in step.hits if hit.passage.id in missing]
            pairs |= {Pair(step.query, id, gold): None for id in found}
            missing -= set(found)
    return list(pairs)


def sample_pairs(pairs: list[Pair], limit: int | None, seed: int) -> list[Pair]:
    """Return at most `limit` of the pairs, drawn by the seed; all of them for None."""
    if limit is None or limit >= len(pairs):
        return pairs
    return random.Random(derive_seed(seed, "pairs")).sample(pairs, limit)


def add_negatives(pairs: list[Pair], retriever: Retriever, corpus: Corpus) -> TrainingSet:
    """Return the pairs whose passage is in `corpus`, each with the retriever's best hits that are no gold passages.

    Hits with the title of the pair's passage are left out too: another part of the page may answer as well. Raises
    UsageError if no pair is left.
    """
    triples: list[Triple] = []
    texts: dict[str, str] = {}
    with progress("hard negatives", len(pairs)) as bar:
        for start in range(0, len(pairs), _SEARCHED_AT_ONCE):
            part = pairs[start : start + _SEARCHED_AT_ONCE]
            most_gold = max(len(pair.gold) for pair in part)
            for pair, hits in zip(part, retriever.search([p.query for p in part], 2 * _POOL + most_gold), strict=True):
                passage = corpus.by_id(pair.passage)
                if passage is None:
                    continue
                others = [h.passage for h in hits if h.passage.id not in pair.gold and h.passage.title != passage.title]
                negatives = others[:_POOL]
                texts |= {read.id: f"{read.title}\n{read.text}" for read in (passage, *negatives)}
                triples.append(Triple(pair.query, pair.passage, pair.gold, [read.id for read in negatives]))
            bar.advance(len(part))
    if not triples:
        raise UsageError(f"none of {len(pairs)} pairs of a query and its passage has that passage in {corpus.folder}")
    return TrainingSet(triples, texts)
