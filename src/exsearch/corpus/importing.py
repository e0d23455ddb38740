"""Reading passages from the files people have: JSON lines in two shapes, and DPR's tab-separated files."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.errors import UsageError
from exsearch.progress import Progress, progress

_MEGABYTE = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DPR_COLUMNS = {"id", "text", "title"}


class _Row(msgspec.Struct):
    """A JSON line of either shape: {id, title, text} or {id, contents}."""

    id: str | int
    title: str = ""
    text: str | None = None
    contents: str | None = None


def import_corpus(file: Path, out: Path) -> Corpus:
    """Write the passages of `file`, plain or gzipped, as the corpus folder `out`.

    The format is recognised from the content. Raises UsageError with file and line for a malformed line.
    """
    try:
        raw = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    megabytes = -(-file.stat().st_size // _MEGABYTE)
    with raw, progress(f"reading {file.name}, MB", megabytes) as bar:
        return write_corpus(out, read_passages(file, raw, bar))


def read_passages(file: Path, raw: BinaryIO, bar: Progress) -> Iterator[Passage]:
    """Yield the passages of the open file `raw`; `file` names it in messages, `bar` counts megabytes read."""
    lines = _lines(file, raw, bar)
    number, first = next(((number, line) for number, line in lines if line.strip()), (0, b""))
    lines = chain([(number, first)], lines)
    if not first:
        raise UsageError(f"{file}: is empty")
    if first.lstrip().startswith(b"{"):
        yield from _read_jsonl(file, lines)
    elif _DPR_COLUMNS.issubset(first.decode(errors="replace").replace('"', "").strip().split("\t")):
        yield from _read_dpr(file, lines, number)
    else:
        raise UsageError(
            f"{file}: unknown format; known are JSON lines with id, title, text or id, contents, "
            "and tab-separated values whose first line names the columns id, text, title; each also gzipped"
        )


def _lines(file: Path, raw: BinaryIO, bar: Progress) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers from 1 and lines, unpacked, without a byte order mark."""
    packed = raw.read(2) == _GZIP_MAGIC
    raw.seek(0)
    stream = gzip.GzipFile(fileobj=raw) if packed else raw
    try:
        for number, line in enumerate(stream, start=1):
            megabytes = raw.tell() // _MEGABYTE
            if megabytes > bar.done:
                bar.advance(megabytes - bar.done)
            yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{file}: broken gzip file ({error})") from None
    if bar.done < bar.total:
        bar.advance(bar.total - bar.done)


def _read_jsonl(file: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Passage]:
    decoder = msgspec.json.Decoder(_Row)
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}, line {number}: {error}") from None
        if row.text is not None:
            yield Passage(str(row.id), row.title, row.text)
        elif row.contents is not None:
            yield Passage(str(row.id), *split_contents(row.contents))
        else:
            raise UsageError(f"{file}, line {number}: neither `text` nor `contents`")


def split_contents(contents: str) -> tuple[str, str]:
    """Split `contents` into title, its first line less any quotes around it, and text, the rest."""
    title, newline, text = contents.partition("\n")
    if not newline:
        return "", contents
    title = title.strip()
    if len(title) >= 2 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return title, text


def _read_dpr(file: Path, lines: Iterator[tuple[int, bytes]], header: int) -> Iterator[Passage]:
    """Yield the rows below line number `header`; a quoted field may span lines."""
    reader = csv.DictReader(_decoded(file, lines), delimiter="\t", restkey="", strict=True)
    line = header + 1
    try:
        for row in reader:
            if "" in row or None in row.values():
                raise UsageError(f"{file}, line {line}: not as many columns as the header in line {header}")
            yield Passage(row["id"], row["title"], row["text"])
            line = header + reader.line_num
    except csv.Error as error:
        raise UsageError(f"{file}, line {line}: {error}") from None


def _decoded(file: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[str]:
    for number, line in lines:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{file}, line {number}: not UTF-8 ({error.reason})") from None
