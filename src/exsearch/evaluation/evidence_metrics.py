"""Metrics of what a trajectory read and recorded: gold passages among the hits, and facts that the hits support."""

import msgspec

from exsearch.agent.trajectory import Step
from exsearch.core.words import STOP_WORDS
from exsearch.evaluation.metrics import accuracy
from exsearch.questions.normalise import normalise

SUPPORT = 0.8
"""Minimum share of a fact's content words that a passage must have to support it."""


class Reading(msgspec.Struct, frozen=True):
    """Gold passages among the passages read; all None if the question names none."""

    recall: float | None = None
    """Share of the gold passages that were read in any step."""
    precision: float | None = None
    """Share of the distinct passages read that are gold; None if none was read."""
    step_recall: float | None = None
    """Mean over the steps of the share of the gold passages that are among its k hits; None without steps."""
    step_precision: float | None = None
    """Mean over the steps of the share of the k hits that are gold; None without hits."""
    any_gold: float | None = None
    """1.0 if any gold passage was read, else 0.0."""


def reading(gold: list[str], steps: list[Step]) -> Reading:
    """Return how well the searches found the gold passages; k is the number of hits of each step."""
    if not gold:
        return Reading()
    gold_ids = set(gold)
    hits = [[hit.passage.id for hit in step.hits] for step in steps]
    read_ids = {passage for step in hits for passage in step}
    return Reading(
        recall=len(gold_ids & read_ids) / len(gold_ids),
        precision=len(gold_ids & read_ids) / len(read_ids) if read_ids else None,
        step_recall=_mean([len(gold_ids.intersection(step)) / len(gold_ids) for step in hits]),
        step_precision=_mean([len(gold_ids.intersection(step)) / len(step) for step in hits if step]),
        any_gold=float(bool(gold_ids & read_ids)),
    )


def grounded(steps: list[Step]) -> float | None:
    """Return the share of the recorded facts that a passage of their own step supports; None without facts.

    Facts without content words, such as an empty one, are not counted.
    """
    facts = [(step.evidence, step.hits) for step in steps if step.evidence and _content(step.evidence)]
    return _mean([float(any(supports(h.passage.title, h.passage.text, fact) for h in hits)) for fact, hits in facts])


def supports(title: str, text: str, fact: str) -> bool:
    """Return whether a passage has at least `SUPPORT` of the fact's distinct content words."""
    content = _content(fact)
    return len(content & set(normalise(f"{title} {text}").split())) >= SUPPORT * len(content)


def answer_recorded(answer: str | None, steps: list[Step]) -> float | None:
    """Return 1.0 if a recorded fact contains the answer as whole words, both normalised, else 0.0.

    None without an answer or without facts, and for yes and no, which facts do not contain.
    """
    facts = [step.evidence for step in steps if step.evidence]
    if normalise(answer or "") in ("", "yes", "no") or not facts:
        return None
    return float(any(accuracy(fact, [answer or ""]) for fact in facts))


def _content(text: str) -> set[str]:
    return set(normalise(text).split()) - STOP_WORDS


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
