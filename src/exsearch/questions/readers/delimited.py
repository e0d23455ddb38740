"""Reads the rows of a comma or tab separated file of questions, by column."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from exsearch.core.errors import UsageError
from exsearch.core.foreign import require_line_feeds
from exsearch.core.quoting import RowError, alike, read_row
from exsearch.questions.readers.ids import IDS

_DPR_COLUMNS = ["question", "answer"]
"""Column names of DPR's files, which do not contain them."""
_WHOLE = re.compile(r"-?\d+")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")


class Delimited:
    """A table in text."""

    def __init__(self, path: Path, number: int, line: bytes, file: BinaryIO) -> None:
        """Start with `line`, line `number`, after which the seekable `file` continues. Raises UsageError if it is no
        table."""
        self._path, self._number, self._line = path, number, line
        self._file, self._start = file, file.tell()
        self._delimiter = "\t" if b"\t" in line else ","
        self.columns = _DPR_COLUMNS
        _, first = next(self._rows())
        self._named = "question" in (name.lower() for name in first)
        if self._named:
            self.columns = first
        elif self._delimiter == "," or len(first) != len(_DPR_COLUMNS) or not self._is_row(first, first):
            require_line_feeds(path, line)
            raise UsageError(f"{path}, line {number}: neither JSON nor column names that include `question`")

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each row with the line where it starts. Raises UsageError for a malformed row.

        Whole numbers that a table wrote as floats, as it does for integers next to nulls, become integers again.
        """
        floats = self._columns_of_floats()
        rows = self._rows(len(self.columns))
        if self._named:
            next(rows)
        for begin, cells in rows:
            for column in floats:
                if match := _WHOLE_FLOAT.fullmatch(cells[column]):
                    cells[column] = match[1]
            yield begin, dict(zip(self.columns, cells, strict=True))

    def _columns_of_floats(self) -> list[int]:
        """Return the columns whose whole numbers are all written as floats; next to 1914, 2.0 stays as it is."""
        floats, whole = set[int](), set[int]()
        with suppress(UsageError):  # malformed rows are reported when they are read
            for _, cells in self._rows(len(self.columns)):
                for column, cell in enumerate(cells):
                    if _WHOLE_FLOAT.fullmatch(cell):
                        floats.add(column)
                    elif _WHOLE.fullmatch(cell):
                        whole.add(column)
        return sorted(floats - whole)

    def _rows(self, width: int | None = None) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that are not blank, starting with the first, each with the line where it starts."""
        self._file.seek(self._start)
        line, lines_read = self._line, 1

        def take() -> bytes:
            nonlocal lines_read
            lines_read += 1
            return self._file.readline()

        while line:
            begin = self._number + lines_read - 1
            if line.strip(b"\r\n"):
                try:
                    yield begin, read_row(line, take, self._delimiter, width, self._is_row)
                except RowError as error:
                    raise UsageError(f"{self._path}, line {begin}: {error}") from None
            line = take()

    def _is_row(self, line: list[str], row: list[str]) -> bool:
        """Return whether the cells of a line are a row of their own, rather than part of `row`.

        Tabs within texts are rare, so a line with the right number of cells is a row, unless its id cell has blanks.
        Commas are not rare: only numeric ids decide. The answers in DPR's files are always a list.
        """
        if self.columns is _DPR_COLUMNS:
            return line[1].startswith("[")
        ids = [column for column, name in enumerate(self.columns) if name in IDS]
        if self._delimiter == ",":
            return any(line[column].isdecimal() for column in ids)
        return len(row) != len(line) or all(alike(line[column], row[column]) for column in ids)
