"""Companion files of 2WikiMultihopQA: sub-questions in words, and Wikidata's aliases of the answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.shape import ShapeError, convert
from exsearch.questions.readers.records import read_records


class CompanionQuestion(msgspec.Struct):
    """A sub-question of a decomposition file; its answer is a sentence."""

    question: str
    answer: str | None = None


class _Identified(Protocol):
    id: str


L = TypeVar("L", bound=_Identified)


class _Decomposition(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    sub_questions: list[CompanionQuestion]


class _Names(msgspec.Struct):
    id: str = msgspec.field(name="Q_id")
    aliases: list[str] = []
    demonyms: list[str] = []


class Companions(msgspec.Struct, frozen=True):
    """The content of the companion files; empty without them."""

    decompositions: dict[str, list[CompanionQuestion]] = {}
    """Sub-questions by the id of their question."""
    names: dict[str, list[str]] = {}
    """Aliases and demonyms by Wikidata id."""


def read_companions(decompositions: Path | None, names: Path | None) -> Companions:
    """Read the companion files that are given. Raises UsageError for a malformed line and for an id that occurs twice.

    The source's `id_aliases.json` is JSON lines despite its name.
    """
    return Companions(
        {line.id: line.sub_questions for line in _read(decompositions, _Decomposition)} if decompositions else {},
        {line.id: [*line.aliases, *line.demonyms] for line in _read(names, _Names)} if names else {},
    )


def _read(path: Path, kind: type[L]) -> Iterator[L]:
    places: dict[str, str] = {}
    for record in read_records(path):
        try:
            line = convert(record.fields, kind)
        except ShapeError as error:
            raise UsageError(f"{path}, {record.place}: {error}") from None
        if line.id in places:
            first = places[line.id]
            raise UsageError(f"{path}, {record.place}: the id {line.id!r} occurs twice, first in {first}; keep one")
        places[line.id] = record.place
        yield line
