"""Sizes and checksums of a folder's files, by which damage is found: a flipped bit changes no size.

`checksums.json` lists every other file of its folder. It is written once, with the last of them, so it belongs in
folders whose files never change: a segment, or what segments share. Sizes are compared whenever the folder is opened,
and the content of small files; that of all files by `exsearch verify`.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.mapping import BAD_HEADER, save_array
from exsearch.core.shape import ShapeError, convert
from exsearch.core.trouble import naming

T = TypeVar("T")

CHECKSUMS = "checksums.json"
SMALL = 1 << 16
"""Bytes of a file that is read whenever its folder is opened."""
CHEAP = 1 << 26
"""Bytes of folders that are read whenever they are opened."""
UNCHECKED = (".faiss",)
"""Suffixes of files that are always read when they are opened, since the library that reads them checks no bounds."""
_BLOCK = 1 << 22
_OWN = "checksum"
"""Key of a JSON file's own checksum."""


class FileSum(msgspec.Struct, frozen=True):
    """What is recorded of a file."""

    bytes: int
    xxh3: str
    """128 bits in hexadecimal."""


def write_checksums(folder: Path) -> None:
    """Record the files in `folder`, whatever is recorded of it so far."""
    write_json(folder / CHECKSUMS, {_name(folder, path): file_sum(path) for path in _files(folder)})


def file_sum(path: Path, advance: Callable[[int], None] = lambda count: None) -> FileSum:
    """Read a file; call `advance` with the number of bytes read."""
    digest, count = xxhash.xxh3_128(), 0
    with naming(path), path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            count += len(block)
            advance(len(block))
    return FileSum(count, digest.hexdigest())


def recorded(folder: Path) -> dict[str, FileSum] | None:
    """Return what is recorded of the files in `folder`; None in folders of earlier versions. Raises ValueError."""
    try:
        return read_json(folder / CHECKSUMS, dict[str, FileSum])
    except UsageError:
        if (folder / CHECKSUMS).exists():
            raise ValueError(f"{CHECKSUMS} is damaged") from None
        return None


def check_files(*folders: Path, cheap: int | None = None) -> None:
    """Compare sizes, and contents where that is cheap. Raises ValueError, or FileNotFoundError for a missing file.

    Contents are compared if all folders together have at most `cheap` bytes, by default CHEAP. Otherwise, only those of
    small files are, and those of files that a library reads without checking any bounds: damage in these could end the
    process.
    """
    sums = [(folder / name, expected) for folder in folders for name, expected in (recorded(folder) or {}).items()]
    is_cheap = sum(expected.bytes for _, expected in sums) <= (CHEAP if cheap is None else cheap)
    for path, expected in sums:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        content = is_cheap or expected.bytes <= SMALL or path.suffix in UNCHECKED
        if reason := fault_of(path, expected, content=content):
            raise ValueError(f"{path.name}: {reason}")


def damage_in(folder: Path, advance: Callable[[int], None] = lambda count: None) -> Iterator[str]:
    """Read all recorded files; yield what is wrong with each damaged one. Raises ValueError for a damaged record."""
    for name, expected in (recorded(folder) or {}).items():
        if reason := fault_of(folder / name, expected, advance):
            yield f"{name}: {reason}"


def fault_of(
    path: Path, expected: FileSum, advance: Callable[[int], None] = lambda count: None, content: bool = True
) -> str | None:
    """Return what is wrong with a file, or None; without `content`, only its size is compared."""
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != expected.bytes:
        return f"{size} bytes, not {expected.bytes}"
    if content and file_sum(path, advance) != expected:
        return "its content has changed"
    return None


def write_checked(path: Path, value: msgspec.Struct) -> None:
    """Write `value` as `write_json` does, with a checksum of its own."""
    record = msgspec.json.decode(msgspec.json.encode(value), type=dict[str, Any])
    write_json(path, {**record, _OWN: _digest(record)})


def read_checked(path: Path, kind: type[T]) -> T:
    """Read a file of `write_checked`, or one of an earlier version, as `kind`. Raises UsageError as `read_json`."""
    record = read_json(path, dict[str, Any])
    own = record.pop(_OWN, None)
    if own is not None and own != _digest(record):
        raise UsageError(f"{path}: damaged (its checksum is that of another content)")
    try:
        return convert(record, kind)
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None


def _digest(record: dict[str, Any]) -> str:
    return xxhash.xxh3_128(msgspec.json.encode(record)).hexdigest()


def save_checked(path: Path, array: npt.NDArray[Any]) -> None:
    """Write what `save_array` would, and a checksum after it, which `numpy.load` does not read."""
    save_array(path, array)
    with path.open("r+b") as file:
        digest = xxhash.xxh3_128(file.read()).digest()
        file.write(digest)


def load_checked(path: Path) -> npt.NDArray[Any]:
    """Return the array in a file of `save_checked`, or of an earlier version, in memory. Raises ValueError."""
    content = io.BytesIO(path.read_bytes())
    try:
        array: npt.NDArray[Any] = np.load(content, allow_pickle=False)
    except BAD_HEADER:
        raise ValueError(f"{path.name} is not an array written by this project") from None
    end = content.tell()
    own = content.read()
    if own and own != xxhash.xxh3_128(content.getvalue()[:end]).digest():
        raise ValueError(f"{path.name}: its content has changed")
    return array


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / CHECKSUMS)


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
