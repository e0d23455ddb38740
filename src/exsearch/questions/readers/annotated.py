"""What a reader makes of one record: a question, and its gold passages as the source names them."""

import math
from collections.abc import Iterable

import msgspec

from exsearch.core.ids import Id, id_text
from exsearch.questions.question import Question

Text = str | int | float
"""What some sources write for an answer: a year is a number to them."""
Texts = Text | list[Text | None] | None
"""One answer, several or none."""


class NamedPassage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A passage as a source names it. What it is called in a corpus is found by `exsearch.questions.gold_finder`."""

    id: str | None = None
    """Its id in the corpus; with a `title` as well, that passage must have it."""
    title: str | None = None
    text: str | None = None
    """All of it."""
    sentences: tuple[str, ...] = ()
    """The sentences of it that support the answer."""
    ambiguous: bool = False
    """Several different passages of the source have the title, and any of them could be meant."""


class Annotated(msgspec.Struct, frozen=True):
    """A question without passage ids, and the passages that it and its sub-questions need."""

    question: Question
    gold: list[NamedPassage] = []
    of_sub_questions: list[NamedPassage | None] = []
    """One for each sub-question."""
    decomposed: bool = False
    """Whether a file beside the questions words its sub-questions."""
    aliased: frozenset[str] = frozenset()
    """Wikidata ids of which a file beside the questions told the aliases."""


class LeftOut(msgspec.Struct, frozen=True):
    """A record that is deliberately no question of ours."""

    reason: str


def aliases(answers: Iterable[Text | None]) -> list[str]:
    """Return the answers as texts, each once, in order, without those that are none."""
    return list(dict.fromkeys(filter(None, map(as_text, answers))))


def as_text(answer: Text | None) -> str:
    """Return an answer as a text; null and NaN, a table's null among numbers, are none: the empty text.

    A table makes floats of integers where a null is among them, so a whole number is written as an integer.
    """
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return ""
    return str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer)


def known_id(otherwise: str, *ids: Id | None) -> str:
    """Return the first id that is there; raises ValueError for a number that is not whole."""
    return next(filter(None, map(id_text, ids)), otherwise)
