"""The records of a file, whatever it is: JSON lines, a JSON list, Parquet, comma or tab separated, plain or gzipped."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from exsearch.errors import UsageError
from exsearch.files import is_special
from exsearch.shape import BROKEN, ShapeError, decode, fault, not_utf8
from exsearch.trouble import machine_trouble

_PARQUET_MAGIC = b"PAR1"
_GZIP_MAGIC = b"\x1f\x8b"
_BATCH_ROWS = 256
_UNREAD = ("entity_pages", "search_results", "prompt")
"""Columns that no reader wants; TriviaQA's hold whole web pages."""
_DPR_COLUMNS = ["question", "answer"]
"""What a text that is no JSON raises."""


class Record(msgspec.Struct, frozen=True):
    """One record, and where it is."""

    counts: Literal["line", "item", "row"]
    """What `number` counts: lines of a text file, items of a JSON list, rows of a table."""
    number: int
    """From 1; the line where it begins."""
    fields: dict[str, Any]

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"{self.counts} {self.number}"


class _Wrapped(msgspec.Struct):
    """TriviaQA's own files: a list within an object."""

    records: list[msgspec.Raw] = msgspec.field(name="Data")


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file; raises UsageError, with the place, where it cannot be read on.

    A JSON list is held in memory as bytes, its items one at a time; everything else is streamed.
    """
    if is_special(path):
        raise UsageError(f"{path}: is no file on a disk, which is read twice; write it to one first")
    try:
        with path.open("rb") as raw:
            magic = raw.read(len(_PARQUET_MAGIC))
        if magic == _PARQUET_MAGIC:
            yield from _rows(path)
            return
        packed = magic.startswith(_GZIP_MAGIC)
        with path.open("rb") as raw:
            yield from _texts(path, io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=raw))) if packed else raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: broken gzip file ({error})") from None
    except OSError as error:
        raise machine_trouble(error, path) or UsageError(f"{path}: {error.strerror}") from None


def _texts(path: Path, file: BinaryIO) -> Iterator[Record]:
    head = file.read(len(codecs.BOM_UTF8))
    if head != codecs.BOM_UTF8:
        file.seek(0)
    number, line = 0, b"\n"
    while line and not line.strip():
        start = file.tell()
        number, line = number + 1, file.readline()
    if not line:
        raise UsageError(f"{path}: is empty")
    if line.lstrip().startswith(b"["):
        yield from _items(path, line + file.read())
    elif line.lstrip().startswith(b"{"):
        yield from _objects(path, number, line, file)
    else:
        file.seek(start)
        yield from _cells(path, number, line, file)


def _objects(path: Path, number: int, line: bytes, file: BinaryIO) -> Iterator[Record]:
    """Yield JSON lines, of which `line` is the first; or the list within an object of one line or of several."""
    try:
        first = decode(line)
    except ShapeError as error:
        try:
            records = msgspec.json.decode(line + file.read(), type=_Wrapped).records
        except BROKEN:
            raise UsageError(f"{path}, line {number}: {error}; an object must stand on one line") from None
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
        table = pq.ParquetFile(path)
        _require_unique(path, table.schema_arrow.names)
        # no reader wants times, and not all of them fit into Python's
        columns = [f.name for f in table.schema_arrow if f.name not in _UNREAD and not pa.types.is_temporal(f.type)]
        for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
            for fields in batch.to_pylist():
                number += 1
                yield Record("row", number, fields)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a text after row {number} is {not_utf8(error)}") from None
    except (pa.ArrowException, OSError) as error:
        trouble = machine_trouble(error, path)
        raise trouble or UsageError(f"{path}: broken Parquet file after row {number} ({error})") from None


def _cells(path: Path, number: int, line: bytes, file: BinaryIO) -> Iterator[Record]:
    """Yield the rows of a text that goes on with `line`, line `number`, the names of its columns; DPR's have none."""
    delimiter = "\t" if b"\t" in line else ","
    rows = _numbered(path, number, file, delimiter)
    first = next(rows)
    columns = first[1]
    if "question" not in (name.lower() for name in columns):
        if delimiter == "," or len(columns) != len(_DPR_COLUMNS) or not columns[1].startswith("["):
            raise UsageError(f"{path}, line {number}: neither JSON nor the names of columns, `question` among them")
        rows, columns = chain([first], rows), _DPR_COLUMNS
    _require_unique(path, columns)
    for begin, cells in rows:
        if len(cells) != len(columns):
            raise UsageError(f"{path}, line {begin}: has {len(cells)} columns, not {len(columns)}")
        yield Record("line", begin, dict(zip(columns, cells, strict=True)))


def _require_unique(path: Path, columns: list[str]) -> None:
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: has two columns called {twice!r}, of which either could be meant; rename one")


def _numbered(path: Path, number: int, file: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the line where it begins; the first begins at `number`."""
    begin, rows = number, csv.reader((line.decode() for line in file), delimiter=delimiter, strict=True)
    try:
        for cells in rows:
            if cells:
                yield begin, cells
            begin = number + rows.line_num
    except csv.Error as error:
        raise UsageError(f"{path}, line {begin}: not quoted as CSV is: {error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}, line {number + rows.line_num}: {not_utf8(error)}") from None
