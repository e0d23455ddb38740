"""The result of reading one record: a question, and its gold passages as the source names them."""

import math
from collections.abc import Iterable

import msgspec

from exsearch.core.ids import Id, id_text
from exsearch.questions.question import Question

Text = str | int | float
"""Answers in some sources, such as years, are numbers."""
Texts = Text | list[Text | None] | None
"""One answer, several or none."""


class NamedPassage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A passage as a source names it; `exsearch.questions.gold_finder` finds its id in a corpus."""

    id: str | None = None
    """Its id in the corpus; if `title` is also set, the passage with this id must have that title."""
    title: str | None = None
    text: str | None = None
    """Its whole text."""
    sentences: tuple[str, ...] = ()
    """Its sentences that support the answer."""
    ambiguous: bool = False
    """Whether several passages of the source have this title, so that any of them could be meant."""


class Annotated(msgspec.Struct, frozen=True):
    """A question without passage ids, and the passages that it and its sub-questions need."""

    question: Question
    gold: list[NamedPassage] = []
    of_sub_questions: list[NamedPassage | None] = []
    """One passage per sub-question."""
    decomposed: bool = False
    """Whether a companion file has the text of its sub-questions."""
    aliased: frozenset[str] = frozenset()
    """Wikidata ids whose aliases came from a companion file."""


class SkippedRecord(msgspec.Struct, frozen=True):
    """A record that is skipped on purpose."""

    reason: str


def aliases(answers: Iterable[Text | None]) -> list[str]:
    """Return the answers as texts, without duplicates, in order, and without empty ones."""
    return list(dict.fromkeys(filter(None, map(as_text, answers))))


def as_text(answer: Text | None) -> str:
    """Return an answer as a text, empty for null and NaN, which is a table's null among numbers.

    Tables convert integers next to nulls to floats, so whole numbers are written as integers.
    """
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return ""
    return str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer)


def known_id(otherwise: str, *ids: Id | None) -> str:
    """Return the first id that is present. Raises ValueError for a number that is not whole."""
    return next(filter(None, map(id_text, ids)), otherwise)
