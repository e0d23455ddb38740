"""What a trajectory read and recorded: gold passages among the hits, and facts that the hits support."""

import msgspec

from exsearch.agent.trajectory import Step
from exsearch.core.words import STOP_WORDS
from exsearch.evaluation.metrics import accuracy
from exsearch.questions.normalise import normalise

SUPPORT = 0.8
"""Share of a fact's content words that one passage must have to support it."""


class Reading(msgspec.Struct, frozen=True):
    """Gold passages among the passages read; all None where the question names none."""

    recall: float | None = None
    """Share of the gold passages that were read in any step."""
    precision: float | None = None
    """Share of the distinct passages read that are gold; None if none was read."""
    step_recall: float | None = None
    """Mean over the steps of the share of the gold passages among the k hits of one; None without steps."""
    step_precision: float | None = None
    """Mean over the steps of the share of the k hits that are gold; None without hits."""
    any_gold: float | None = None
    """1.0 if any gold passage was read, else 0.0."""


def reading(gold: list[str], steps: list[Step]) -> Reading:
    """Return how well the searches found the gold passages; k is the number of hits of each step."""
    if not gold:
        return Reading()
    wanted = set(gold)
    hits = [[hit.passage.id for hit in step.hits] for step in steps]
    read = {passage for step in hits for passage in step}
    return Reading(
        recall=len(wanted & read) / len(wanted),
        precision=len(wanted & read) / len(read) if read else None,
        step_recall=_mean([len(wanted.intersection(step)) / len(wanted) for step in hits]),
        step_precision=_mean([len(wanted.intersection(step)) / len(step) for step in hits if step]),
        any_gold=float(bool(wanted & read)),
    )


def grounded(steps: list[Step]) -> float | None:
    """Return the share of the recorded facts that a passage of their own step supports; None without facts.

    A fact without content words, such as an empty one, is not counted.
    """
    facts = [(step.evidence, step.hits) for step in steps if step.evidence and _content(step.evidence)]
    return _mean([float(any(supports(h.passage.title, h.passage.text, fact) for h in hits)) for fact, hits in facts])


def supports(title: str, text: str, fact: str) -> bool:
    """Return whether a passage has at least `SUPPORT` of the fact's distinct content words."""
    content = _content(fact)
    return len(content & set(normalise(f"{title} {text}").split())) >= SUPPORT * len(content)


def answer_recorded(answer: str | None, steps: list[Step]) -> float | None:
    """Return 1.0 if a recorded fact contains the answer as whole words, both normalised, else 0.0.

    None without an answer or without facts, and for yes and no, which no fact contains.
    """
    facts = [step.evidence for step in steps if step.evidence]
    if normalise(answer or "") in ("", "yes", "no") or not facts:
        return None
    return float(any(accuracy(fact, [answer or ""]) for fact in facts))


def _content(text: str) -> set[str]:
    return set(normalise(text).split()) - STOP_WORDS


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
