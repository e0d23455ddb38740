"""Cuts documents into passages, at the ends of sentences and lines."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from exsearch.documents.document import Block, Document
from exsearch.documents.library import library

_OVERLAP = 0.2
"""Maximum share of a passage that repeats the end of the one before."""


_LONGEST = 200
"""Maximum length of a word, in characters; longer ones are data, and are divided."""


class Piece(NamedTuple):
    """The text of a passage, and where it is."""

    headings: tuple[str, ...]
    place: str
    text: str


class _Unit(NamedTuple):
    """What is not divided: a sentence, or a line."""

    text: str
    words: int
    place: str
    gap: str
    """What separates it from the one before."""


def cut(document: Document, words: int) -> Iterator[Piece]:
    """Yield passages of up to `words` words, each under one heading.

    Consecutive ones under a heading overlap by whole sentences. A paragraph that fits is not divided unless it would
    leave the passage before it less than half full. Only a sentence or line longer than a passage is cut within.
    """
    for headings, blocks in groupby(document.blocks, key=lambda block: block.headings):
        units = [unit for block in blocks for unit in _units(block, words)]
        for first, stop in _packed(units, words):
            text = "".join(unit.gap * (number > 0) + unit.text for number, unit in enumerate(units[first:stop]))
            yield Piece(headings, units[first].place, text)


def _packed(units: list[_Unit], words: int) -> Iterator[tuple[int, int]]:
    """Yield which units each passage has: as many as fit, but for a last paragraph that only begins."""
    first = 0
    while first < len(units):
        stop, count = first, 0
        while stop < len(units) and (stop == first or count + units[stop].words <= words):
            count += units[stop].words
            stop += 1
        if stop < len(units):
            stop = _at_paragraph(units, first, stop, words)
        yield first, stop
        if stop == len(units):
            return
        again, repeated = stop, 0
        while again - 1 > first and repeated + units[again - 1].words <= _OVERLAP * words:
            again -= 1
            repeated += units[again].words
        # the next passage must hold at least one unit that this one does not
        first = again if repeated + units[stop].words <= words else stop


def _at_paragraph(units: list[_Unit], first: int, stop: int, words: int) -> int:
    """Return the last border of paragraphs before `stop`, if what is before it fills half of a passage; else `stop`."""
    count = sum(unit.words for unit in units[first:stop])
    for border in range(stop, first, -1):
        if 2 * count < words:
            break
        if units[border].gap == "\n":
            return border
        count -= units[border - 1].words
    return stop


def _units(block: Block, words: int) -> Iterator[_Unit]:
    if block.is_lines:
        parts, inner = block.text.split("\n"), "\n"
    else:
        nupunkt: Any = library("nupunkt")
        parts = [block.text[start:stop].strip() for start, stop in nupunkt.sent_spans(block.text)]
        inner = " "
    gap, number = "\n", 0
    for offset, part in enumerate(parts):
        place = block.place
        if block.is_lines and place[:1] == "L" and place[1:].isdigit():
            place = f"L{int(place[1:]) + offset}"
        all_words = [piece for word in part.split() for piece in _divided(word)]
        if len(all_words) <= words:
            pieces = [part if max(map(len, all_words)) < _LONGEST else " ".join(all_words)] if all_words else []
        else:
            pieces = [" ".join(all_words[at : at + words]) for at in range(0, len(all_words), words)]
        for piece in pieces:
            yield _Unit(piece, len(piece.split()), place, gap)
            gap, number = inner, number + 1


def _divided(word: str) -> list[str]:
    return [word[start : start + _LONGEST] for start in range(0, len(word), _LONGEST)]
