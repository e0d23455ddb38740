"""Training data of a retriever: queries, passages that answer them, and passages that only seem to."""

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
"""Maximum number of hard negatives per query; each epoch draws another one."""
_SEARCHED_AT_ONCE = 256


class TrainingPair(msgspec.Struct, frozen=True):
    """A query and a passage that answers it."""

    query: str
    passage: str
    gold: tuple[str, ...]
    """All passages that its question needs; none of them is used as a negative."""


class Triple(TrainingPair, frozen=True):
    """A pair with its hard negatives."""

    negatives: list[str]


class TrainingSet(msgspec.Struct, frozen=True):
    """Triples, and the texts of all passages in them, by id."""

    triples: list[Triple]
    texts: dict[str, str]


def pairs_of_questions(questions: Iterable[Question]) -> list[TrainingPair]:
    """Return a pair for each sub-question with a known passage; if none, the question with each gold passage."""
    pairs = []
    for question in questions:
        passages_of_sub_questions = [
            (sub.text, sub.passage) for sub in question.sub_questions if sub.passage is not None
        ]
        gold = tuple(dict.fromkeys([*question.gold_passages, *(passage for _, passage in passages_of_sub_questions)]))
        pairs += [
            TrainingPair(text, passage, gold)
            for text, passage in passages_of_sub_questions or [(question.text, id) for id in gold]
        ]
    return pairs


def pairs_of_trajectories(trajectories: Iterable[Trajectory], questions: Iterable[Question]) -> list[TrainingPair]:
    """Return pairs from the agent's own queries: each gold passage with the query that found it first.

    Trajectories without an answer, and those of other questions, are skipped; equal pairs occur once.
    """
    golds = {question.id: tuple(question.gold_passages) for question in questions}
    pairs: dict[TrainingPair, None] = {}
    for trajectory in trajectories:
        gold = golds.get(trajectory.question_id, ())
        if trajectory.stop_reason != StopReason.ANSWERED:
            continue
        not_found = set(gold)
        for step in trajectory.steps:
            new_ids = [hit.passage.id for hit in step.hits if hit.passage.id in not_found]
            pairs |= {TrainingPair(step.query, id, gold): None for id in new_ids}
            not_found -= set(new_ids)
    return list(pairs)


def sample_pairs(pairs: list[TrainingPair], limit: int | None, seed: int) -> list[TrainingPair]:
    """Return at most `limit` of the pairs, drawn with the seed; all of them for None."""
    if limit is None or limit >= len(pairs):
        return pairs
    return random.Random(derive_seed(seed, "pairs")).sample(pairs, limit)


def add_negatives(pairs: list[TrainingPair], retriever: Retriever, corpus: Corpus) -> TrainingSet:
    """Return the pairs whose passage is in `corpus`, each with the retriever's best hits that are not gold passages.

    Hits with the title of the pair's passage are also skipped, since another part of the page may be an answer.
    Raises UsageError if no pair is left.
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
                texts |= {negative.id: f"{negative.title}\n{negative.text}" for negative in (passage, *negatives)}
                triples.append(Triple(pair.query, pair.passage, pair.gold, [negative.id for negative in negatives]))
            bar.advance(len(part))
    if not triples:
        raise UsageError(f"none of {len(pairs)} pairs of a query and its passage has that passage in {corpus.folder}")
    return TrainingSet(triples, texts)
