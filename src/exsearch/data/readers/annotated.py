"""What a reader makes of one record: a question, and its gold passages as the source names them."""

from collections.abc import Iterable

import msgspec

from exsearch.data.question import Question

Id = str | int
Text = str | int | float
"""What some sources write for an answer: a year is a number to them."""


class NamedPassage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A passage as a source names it. What it is called in a corpus is found by `exsearch.data.gold`."""

    id: str | None = None
    """Its id in the corpus; with a `title` as well, that passage must have it."""
    title: str | None = None
    text: str | None = None
    """All of it."""
    sentences: tuple[str, ...] = ()
    """The sentences of it that support the answer."""


class Annotated(msgspec.Struct, frozen=True):
    """A question without passage ids, and the passages that it and its sub-questions need."""

    question: Question
    gold: list[NamedPassage] = []
    of_sub_questions: list[NamedPassage | None] = []
    """One for each sub-question."""


class LeftOut(msgspec.Struct, frozen=True):
    """A record that is deliberately no question of ours."""

    reason: str


def aliases(answers: Iterable[Text | None]) -> list[str]:
    """Return the answers as texts, each once, in order; None and the empty text are none."""
    return list(dict.fromkeys(str(answer) for answer in answers if answer not in (None, "")))


def known_id(otherwise: str, *ids: Id | None) -> str:
    """Return the first id that is there."""
    return next((str(id) for id in ids if id is not None), otherwise)
