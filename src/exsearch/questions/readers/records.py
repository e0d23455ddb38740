"""Reads the records of a file: JSON lines, a JSON list, Parquet, comma or tab separated values, plain or gzipped."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import pyarrow as pa

from exsearch.core.atomic import is_special
from exsearch.core.errors import UsageError
from exsearch.core.foreign import HEAD, require_text
from exsearch.core.gzipped import BROKEN_GZIP, gzip_fault, unpacked
from exsearch.core.parquet import is_parquet, open_parquet, table_fault
from exsearch.core.shape import BROKEN, ShapeError, decode, fault, not_utf8
from exsearch.core.trouble import machine_trouble
from exsearch.questions.readers.delimited import Delimited

_BATCH_ROWS = 256
_UNREAD = ("entity_pages", "search_results", "prompt")
"""Columns that no reader needs; TriviaQA's contain whole web pages."""


class Record(msgspec.Struct, frozen=True):
    """One record, and its position."""

    counts: Literal["line", "item", "row"]
    """What `number` counts: lines of a text file, items of a JSON list, or rows of a table."""
    number: int
    """From 1; the line where it starts."""
    fields: dict[str, Any]

    @property
    def place(self) -> str:
        """Its position, in words."""
        return f"{self.counts} {self.number}"


class _Wrapped(msgspec.Struct):
    """TriviaQA's own files: a list within an object."""

    records: list[msgspec.Raw] = msgspec.field(name="Data")


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file. Raises UsageError, with the position, if reading cannot continue.

    A JSON list is held in memory as bytes, and decoded item by item; everything else is streamed.
    """
    if is_special(path):
        raise UsageError(f"{path}: is not a regular file, and is read twice; copy it to one first")
    try:
        if is_parquet(path):
            yield from _rows(path)
            return
        with path.open("rb") as raw:
            yield from _texts(path, unpacked(raw))
    except BROKEN_GZIP as error:
        raise UsageError(f"{path}: broken gzip file: {gzip_fault(error)}") from None
    except OSError as error:
        raise machine_trouble(error, path) or UsageError(f"{path}: {error.strerror}") from None


def _texts(path: Path, file: BinaryIO) -> Iterator[Record]:
    head = file.read(HEAD)
    require_text(path, head)
    file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
    number, line = 0, b"\n"
    while line and not line.strip():
        number, line = number + 1, file.readline()
    if not line:
        raise UsageError(f"{path}: is empty")
    if line.lstrip().startswith(b"["):
        yield from _items(path, line + file.read())
    elif line.lstrip().startswith(b"{"):
        yield from _objects(path, number, line, file)
    else:
        yield from _cells(path, number, line, file)


def _objects(path: Path, number: int, line: bytes, file: BinaryIO) -> Iterator[Record]:
    """Yield JSON lines, starting with `line`; or the list within an object that spans one or more lines."""
    try:
        first = decode(line)
    except ShapeError as error:
        try:
            records = msgspec.json.decode(line + file.read(), type=_Wrapped).records
        except BROKEN:
            hint = "" if line.rstrip().endswith(b"}") else "; an object must stand on one line"
            raise UsageError(f"{path}, line {number}: {error}{hint}") from None
        yield from _decoded(path, records)
        return
    if isinstance(first.get("Data"), list):
        yield from _decoded(path, msgspec.json.decode(line, type=_Wrapped).records)
        return
    decoder = msgspec.json.Decoder(dict[str, Any])
    while line:
        if line.strip():
            try:
                yield Record("line", number, decoder.decode(line))
            except BROKEN:
                raise UsageError(f"{path}, line {number}: {fault(line, dict[str, Any])}") from None
        number, line = number + 1, file.readline()


def _items(path: Path, content: bytes) -> Iterator[Record]:
    try:
        items = decode(content, list[msgspec.Raw])
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
    yield from _decoded(path, items)


def _decoded(path: Path, items: list[msgspec.Raw]) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, item in enumerate(items, start=1):
        try:
            yield Record("item", number, decoder.decode(item))
        except BROKEN:
            raise UsageError(f"{path}, item {number}: {fault(bytes(item), dict[str, Any])}") from None


def _rows(path: Path) -> Iterator[Record]:
    number = 0
    try:
        table = open_parquet(path)
        _require_unique(path, table.schema_arrow.names)
        # no reader needs times, and not all of them fit into Python's
        columns = [f.name for f in table.schema_arrow if f.name not in _UNREAD and not pa.types.is_temporal(f.type)]
        for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
            for fields in batch.to_pylist():
                number += 1
                yield Record("row", number, fields)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a text after row {number} is {not_utf8(error)}") from None
    except (pa.ArrowException, OSError) as error:
        trouble = machine_trouble(error, path)
        raise trouble or UsageError(f"{path}: {table_fault(error, 'Parquet file', number)}") from None


def _cells(path: Path, number: int, line: bytes, file: BinaryIO) -> Iterator[Record]:
    """Yield the rows of a text starting with `line`, line `number`, which names its columns; DPR's files do not."""
    table = Delimited(path, number, line, file)
    _require_unique(path, table.columns)
    for begin, fields in table.rows():
        yield Record("line", begin, fields)


def _require_unique(path: Path, columns: list[str]) -> None:
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: has two columns called {twice!r}; rename one")
