"""Passages in text files, plain or gzipped: JSON lines in two shapes, and DPR's tab-separated values."""

import codecs
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.foreign import require_line_feeds, require_text
from exsearch.core.gzipped import BROKEN_GZIP, gzip_fault, unpacked
from exsearch.core.ids import Id
from exsearch.core.quoting import RowError, alike, read_row
from exsearch.core.shape import BROKEN, fault
from exsearch.corpus.passage import Passage
from exsearch.corpus.source import MEGABYTE, Counts, Malformed, Place, Unit, file_identity, make_passage

MAX_LINE = 1 << 26
_DPR_COLUMNS = ("id", "title", "text")


class Lines:
    """The uncompressed lines of a file, and the position after the last line taken."""

    def __init__(self, path: Path, raw: BinaryIO, start: Place) -> None:
        """Seek to `start` in the open file `raw`; `path` is its name in messages."""
        self._path = path
        self.line, self.offset = start.line, start.offset
        self._given_back: deque[bytes] = deque()
        self._stream = unpacked(raw)
        if self._stream is raw:
            raw.seek(start.offset)
        else:
            self._skip(start.offset)

    def take(self) -> bytes:
        """Return the next line, empty at the end of the file. Raises UsageError if the file is broken."""
        line = self._given_back.popleft() if self._given_back else self._read(MAX_LINE)
        if len(line) == MAX_LINE:
            raise UsageError(f"{self._path}, line {self.line + 1}: is longer than {MAX_LINE // MEGABYTE} MB")
        self.line += bool(line)
        self.offset += len(line)
        return line

    def give_back(self, lines: list[bytes]) -> None:
        """Put back the lines taken last, so that they are taken again."""
        self._given_back.extendleft(reversed(lines))
        self.line -= len(lines)
        self.offset -= sum(map(len, lines))

    def _read(self, limit: int) -> bytes:
        try:
            return self._stream.readline(limit)
        except BROKEN_GZIP as error:
            raise UsageError(f"{self._path}: broken gzip file after line {self.line}: {gzip_fault(error)}") from None

    def _skip(self, size: int) -> None:
        try:
            while size > 0 and (skipped := len(self._stream.read(min(size, MEGABYTE)))):
                size -= skipped
        except BROKEN_GZIP as error:
            raise UsageError(f"{self._path}: broken gzip file before line {self.line}: {gzip_fault(error)}") from None


class LineSource(ABC):
    """A text file of passages."""

    counts: Counts = "line"
    unit: Unit = "MB"

    def __init__(self, path: Path, start: Place) -> None:
        """Describe the file at `path`, whose first row starts at `start`."""
        self.name, self.start, self.line = str(path), start, 0
        self._path = path
        self._raw: BinaryIO | None = None
        self._lines: Lines | None = None
        self.identity = file_identity(path)
        self.size = -(-path.stat().st_size // MEGABYTE)

    @property
    def place(self) -> Place:
        """Position where the next row starts."""
        return Place(self._lines.line, self._lines.offset) if self._lines else self.start

    @property
    def done(self) -> int:
        """Megabytes read of the file as stored."""
        if self._raw is None:
            return 0
        return self.size if self._raw.closed else self._raw.tell() // MEGABYTE

    def rows(self, start: Place) -> Iterator[Passage | Malformed]:
        """Yield the rows from `start` on. Raises UsageError if nothing more can be read."""
        with self._path.open("rb") as raw:
            self._raw, self._lines = raw, (lines := Lines(self._path, raw, start))
            while line := lines.take():
                if line.strip(b" \r\n"):
                    self.line = lines.line
                    yield self._row(line, lines)

    @abstractmethod
    def _row(self, line: bytes, lines: Lines) -> Passage | Malformed:
        """Return the row that starts with `line`; its further lines are taken from `lines`."""


class _Row(msgspec.Struct):
    """A JSON line of either shape: {id, title, text} or {id, contents}."""

    id: Id | None = None
    title: str | None = None
    text: str | None = None
    contents: str | None = None


class JsonLines(LineSource):
    """One JSON object per line, {id, title, text} or {id, contents}."""

    _decoder = msgspec.json.Decoder(_Row)

    def _row(self, line: bytes, lines: Lines) -> Passage | Malformed:
        try:
            row = self._decoder.decode(line)
        except BROKEN:
            return Malformed(fault(line, _Row))
        return make_passage(row.id, row.title, row.text, row.contents)


class DprFile(LineSource):
    """Tab-separated values, quoted as CSV; the first line names the columns."""

    def __init__(self, path: Path, start: Place, columns: list[str]) -> None:
        """Describe the file at `path` with these columns, whose first row after their names starts at `start`."""
        super().__init__(path, start)
        self._width = len(columns)
        self._id, self._title, self._text = (columns.index(name) for name in _DPR_COLUMNS)

    def _row(self, line: bytes, lines: Lines) -> Passage | Malformed:
        """Return the row. If it is malformed, only its first line is skipped, since a stray quote may swallow many
        rows."""
        try:
            cells = read_row(line, lines.take, "\t", self._width, self._is_row)
        except RowError as error:
            lines.give_back(error.more)
            return Malformed(str(error))
        return self._passage(cells)

    def _passage(self, cells: list[str]) -> Passage | Malformed:
        return make_passage(cells[self._id], cells[self._title], cells[self._text], None)

    def _is_row(self, line: list[str], row: list[str]) -> bool:
        """Return whether the cells of a line are a row of their own, rather than part of `row`."""
        if len(row) == self._width and not alike(line[self._id], row[self._id]):
            return False
        return isinstance(self._passage(line), Passage)


def recognise_lines(path: Path) -> LineSource:
    """Return the text file at `path` as a source. Raises UsageError if its format is unknown."""
    with path.open("rb") as raw:
        lines = Lines(path, raw, Place())
        before, first = Place(), lines.take()
        if first.startswith(codecs.BOM_UTF8):
            before, first = Place(0, len(codecs.BOM_UTF8)), first.removeprefix(codecs.BOM_UTF8)
        while first and not first.strip():
            before, first = Place(lines.line, lines.offset), lines.take()
        after = Place(lines.line, lines.offset)
    if not first:
        raise UsageError(f"{path}: is empty")
    require_text(path, first)
    if first.lstrip().startswith(b"{"):
        return JsonLines(path, before)
    columns = first.decode(errors="replace").replace('"', "").strip().split("\t")
    if set(_DPR_COLUMNS) <= set(columns):
        return DprFile(path, after, columns)
    require_line_feeds(path, first)
    raise UsageError(
        f"{path}: unknown format; known are JSON lines with id, title, text or id, contents, tab-separated values "
        "whose first line names the columns id, text, title (each also gzipped), Parquet, and Hugging Face datasets"
    )
