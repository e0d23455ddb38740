"""JSON files and files of JSON lines, typed.

A sealed line ends with a checksum of the rest of it, so that a changed letter is found: `..., "checksum": "16 hex"}`.
"""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import xxhash

from exsearch.core.atomic import atomic_path, write_text
from exsearch.core.errors import UsageError
from exsearch.core.shape import BROKEN, ShapeError, decode, fault
from exsearch.core.trouble import naming

T = TypeVar("T")
CHANGED = "damaged, its checksum is that of another content"
_SEAL, _SEAL_END = b',"checksum":"', b'"}'
_SEAL_LENGTH = len(_SEAL) + 16 + len(_SEAL_END)


def write_json(path: Path, value: object) -> None:
    """Write `value`, anything msgspec encodes, to `path` atomically as indented JSON."""
    write_text(path, msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`. Raises UsageError, with the file, if it is missing or malformed."""
    try:
        with naming(path):
            record: T = decode(path.read_bytes(), kind)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
    return record


def write_jsonl(path: Path, records: Iterable[object], sealed: bool = False) -> int:
    """Write one JSON line per record, atomically; return their number."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            line = encoder.encode(record)
            file.write((seal(line) if sealed else line) + b"\n")
            count += 1
    return count


def seal(line: bytes) -> bytes:
    """Return a JSON object, without a line feed, with its checksum as its last member."""
    return line[:-1] + _SEAL + xxhash.xxh3_64_hexdigest(line).encode() + _SEAL_END


def unseal(line: bytes) -> bytes | None:
    """Return a line without its checksum, if it has one; None if that is the checksum of another content."""
    sealed = line.rstrip(b"\r\n")
    tail = sealed[-_SEAL_LENGTH:]
    if not (tail.startswith(_SEAL) and tail.endswith(_SEAL_END)):
        return line
    content = sealed[:-_SEAL_LENGTH] + b"}"
    expected = tail[len(_SEAL) : -len(_SEAL_END)]
    return content if xxhash.xxh3_64_hexdigest(content).encode() == expected else None


def write_json_list(path: Path, records: Iterable[object]) -> int:
    """Write a JSON list, one line per record, atomically; return their number. Holds one record in memory."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            file.write((b",\n" if count else b"[\n") + encoder.encode(record))
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


def read_jsonl(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the records of a JSONL file. Raises UsageError, with file and line, at the first that is not a `kind`."""
    return _records(path, kind, growing=False)


def read_growing(path: Path, kind: type[T]) -> Iterator[T]:
    """Do the same for a file that may be missing or still growing; a torn last line is skipped."""
    return _records(path, kind, growing=True) if path.is_file() else iter(())


def _records(path: Path, kind: type[T], growing: bool) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with naming(path), path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                record = unseal(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                if record is None:
                    raise UsageError(f"{path}, line {number}: {CHANGED}")
                try:
                    yield decoder.decode(record)
                except BROKEN:
                    if growing and not line.endswith(b"\n"):
                        return
                    raise UsageError(f"{path}, line {number}: {fault(record, kind)}") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None


def quarantine_damaged_lines(path: Path, kind: type[T]) -> list[str]:
    """Move the lines of a JSONL file that are not a `kind` to `FILE.damaged`; return what was wrong with each.

    A torn last line is left for `Journal` to handle.
    """
    if not path.is_file():
        return []
    decoder = msgspec.json.Decoder(kind)
    sound, damaged, faults = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        content, reason = unseal(line), CHANGED
        if content is not None:
            try:
                decoder.decode(content)
                reason = ""
            except BROKEN:
                reason = fault(content, kind)
        if not reason:
            sound.append(line)
        elif line.endswith(b"\n"):
            damaged.append(line)
            faults.append(f"{path}, line {number}: {reason}")
    if damaged:
        with atomic_path(path.with_name(f"{path.name}.damaged")) as temporary:
            temporary.write_bytes(b"".join(damaged))
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(sound))
    return faults
