"""JSON files and files of JSON lines, typed."""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from exsearch.core.atomic import atomic_path, write_text
from exsearch.core.errors import UsageError
from exsearch.core.shape import BROKEN, ShapeError, decode, fault
from exsearch.core.trouble import naming

T = TypeVar("T")


def write_json(path: Path, value: object) -> None:
    """Write `value`, anything msgspec encodes, to `path` atomically as indented JSON."""
    write_text(path, msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`; raise UsageError naming the file if it is missing or malformed."""
    try:
        with naming(path):
            found: T = decode(path.read_bytes(), kind)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
    return found


def write_jsonl(path: Path, records: Iterable[object]) -> int:
    """Write one JSON line a record, atomically; return how many."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            file.write(encoder.encode(record) + b"\n")
            count += 1
    return count


def write_json_list(path: Path, records: Iterable[object]) -> int:
    """Write a JSON list, one line a record, atomically; return how many. Only one record is held at a time."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            file.write((b",\n" if count else b"[\n") + encoder.encode(record))
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


def read_jsonl(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the records of a JSONL file; raise UsageError with file and line at the first that is not a `kind`."""
    return _records(path, kind, growing=False)


def read_growing(path: Path, kind: type[T]) -> Iterator[T]:
    """Do the same for a file that may be absent or still growing: a torn last line is skipped."""
    return _records(path, kind, growing=True) if path.is_file() else iter(())


def _records(path: Path, kind: type[T], growing: bool) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with naming(path), path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                record = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                try:
                    yield decoder.decode(record)
                except BROKEN:
                    if growing and not line.endswith(b"\n"):
                        return
                    raise UsageError(f"{path}, line {number}: {fault(record, kind)}") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None


def quarantine_damaged_lines(path: Path, kind: type[T]) -> list[str]:
    """Move the lines of a JSONL file that are no `kind` to `FILE.damaged`; return what was wrong with each.

    A torn last line is left to `Journal`.
    """
    if not path.is_file():
        return []
    decoder = msgspec.json.Decoder(kind)
    sound, damaged, faults = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            decoder.decode(line)
            sound.append(line)
        except BROKEN:
            if not line.endswith(b"\n"):
                continue
            damaged.append(line)
            faults.append(f"{path}, line {number}: {fault(line, kind)}")
    if damaged:
        with atomic_path(path.with_name(f"{path.name}.damaged")) as temporary:
            temporary.write_bytes(b"".join(damaged))
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(sound))
    return faults
