"""What the folder of an evaluation holds besides its scores and its protocol, and what is known of it."""

from pathlib import Path

import msgspec

from exsearch.evaluation.scores import Figure, Scores
from exsearch.questions.question import Question

TRAJECTORIES = "trajectories.jsonl"
QUESTIONS = "questions.jsonl"
"""Absent in a run, which has the questions elsewhere."""


class Evaluated(msgspec.Struct, frozen=True):
    """A finished evaluation.

    >>> evaluation = xs.evaluate(agent, questions, "work/eval")
    >>> evaluation.figures["searches"].mean
    1.0
    """

    folder: Path
    scores: Scores
    protocol: dict[str, object]
    """The content of protocol.json, without the fingerprint; empty if there is none."""
    questions: dict[str, Question]
    """Questions by id, in order; empty if neither the folder nor its run has them."""
    answers: dict[str, str | None]
    """Answers by question id; empty if there are no trajectories."""

    @property
    def figures(self) -> dict[str, Figure]:
        """The means over the questions with their 95% intervals, such as `em`, `f1`, `recall` and `searches`."""
        return self.scores.figures
