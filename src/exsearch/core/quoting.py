"""Parses rows of cells in text, quoted as in CSV, or explains what is wrong with a row in plain words.

A quoted cell may span lines. But if a quote was meant as text, CSV takes all rows up to the next quote that looks like
its end as one row.
"""

import csv
from collections.abc import Callable, Iterator

from exsearch.core.shape import not_utf8

IsRow = Callable[[list[str], list[str]], bool]
"""Whether the cells of a line with the right number of them are a row of their own, rather than part of the given row.
"""
_REMEDY = 'a cell that begins with a quote must end with one, and a quote within it is written twice ("")'


class RowError(ValueError):
    """A line does not start a valid row; the message says why, in words that follow the line's number."""

    def __init__(self, message: str, more: list[bytes]) -> None:
        """Keep what is wrong, and which lines after the first were taken to find that."""
        super().__init__(message)
        self.more = more


def read_row(
    first: bytes, take: Callable[[], bytes], delimiter: str, width: int | None = None, is_row: IsRow | None = None
) -> list[str]:
    """Return the cells of the row that starts with the line `first`; `take` returns the next line, empty at the end.

    No line is taken that does not belong to the row. Raises RowError for a row that is not quoted as in CSV, is not
    UTF-8 or does not have `width` cells; and, with `is_row`, for a row over several lines of which two are rows of
    their own.
    """
    more: list[bytes] = []
    try:
        text = first.decode()
        if '"' not in text:
            cells = _plain(text, delimiter)
        else:
            try:
                cells = next(csv.reader((text,), delimiter=delimiter, strict=True))
            except csv.Error:
                cells = _over_lines(text, take, more, delimiter)
    except UnicodeDecodeError as error:
        raise RowError(not_utf8(error) + (f", {len(more)} lines further on" if more else ""), more) from None
    if more and width and is_row:
        lines = [_plain(line, delimiter) for line in (text, *map(bytes.decode, more))]
        if sum(len(line) == width and is_row(line, cells) for line in lines) > 1:
            ends = f"would end {len(more)} lines further on, and swallow rows"
            raise RowError(f"a quote opens a cell here that {ends}; {_REMEDY}", more)
    if width and len(cells) != width:
        raise RowError(f"has {len(cells)} columns, not {width}", more)
    return cells


def alike(id: str, other: str) -> bool:
    """Return whether a cell in the position of an id can be one, next to another id: ids with blanks are not alone."""
    return not any(map(str.isspace, id)) or any(map(str.isspace, other))


def _plain(text: str, delimiter: str) -> list[str]:
    """Return the cells of a line whose quotes, if any, are text."""
    return text.removesuffix("\n").removesuffix("\r").split(delimiter)


def _over_lines(first: str, take: Callable[[], bytes], more: list[bytes], delimiter: str) -> list[str]:
    """Return the cells of a row that spans lines; its further lines are added to `more`."""
    lines_taken = [first]
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield first
        while line := take():
            more.append(line)
            lines_taken.append(line.decode())
            yield lines_taken[-1]
        ended = True

    try:
        return next(csv.reader(lines(), delimiter=delimiter, strict=True))
    except csv.Error:
        raise RowError(f"not quoted as CSV is: {_fault(lines_taken, ended)}; {_REMEDY}", more) from None


def _fault(lines_taken: list[str], ended: bool) -> str:
    """Return why CSV does not accept these lines as a row; `ended` if there are no more."""
    if ended:
        return "a quote opens a cell and is never closed"
    if sum(map(len, lines_taken)) > csv.field_size_limit():
        return f"a quoted cell is longer than {csv.field_size_limit()} characters, or its quote is never closed"
    if "\r" in "".join(lines_taken).replace("\r\n", ""):
        return "there is a carriage return in a cell without quotes"
    return "there is text between a closing quote and the end of its cell"
