"""Finds damaged files in what this project wrote: corpora, indexes, checkpoints, journals, runs.

Every file with a recorded checksum is read. Which files have one is told by their names, so a folder of several runs is
verified like one of them.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.checksums import CHECKSUMS, fault_of, load_checked, read_checked, recorded
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.jsonl import CHANGED, unseal
from exsearch.core.trouble import machine_trouble
from exsearch.corpus import layout as corpus_layout
from exsearch.retrieval.index import folder as index_layout

CHECKED = (corpus_layout.INFO, index_layout.INFO)
"""Names of JSON files with a checksum of their own."""
Advance = Callable[[int], None]


class Fault(msgspec.Struct, frozen=True):
    """A damaged file."""

    path: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class FileCheck:
    """A file to read."""

    path: Path
    bytes: int
    run: Callable[[Advance], str | None]
    """Reads the file, and returns what is wrong with it."""


def checks_of(root: Path) -> list[FileCheck]:
    """Return what there is to read in a folder, or of a file. Raises UsageError if nothing has a checksum."""
    if not root.exists():
        raise UsageError(f"{root}: no such file or folder")
    files = [root] if root.is_file() else [Path(at) / name for at, _, names in os.walk(root) for name in sorted(names)]
    checks = [check for path in files for check in _checks(path)]
    if not checks:
        raise UsageError(
            f"{root}: no file in it has a checksum; those of corpora, indexes, checkpoints and runs have one if this "
            "version wrote them"
        )
    return checks


def faults_in(checks: list[FileCheck], advance: Advance) -> Iterator[Fault]:
    """Read the files, several at a time; yield the damaged ones in order."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for check, reason in zip(checks, threads.map(lambda check: _outcome(check, advance), checks), strict=True):
            if reason is not None:
                yield Fault(str(check.path), reason, remedy_for(check.path))


def in_whole(unit: int, advance: Advance) -> Advance:
    """Return a function that counts bytes, from any thread, and calls `advance` with whole units of them."""
    lock, rest = threading.Lock(), 0

    def count(read: int) -> None:
        nonlocal rest
        with lock:
            units, rest = divmod(rest + read, unit)
            if units:
                advance(units)

    return count


def _outcome(check: FileCheck, advance: Advance) -> str | None:
    try:
        return check.run(advance)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if trouble := machine_trouble(error, check.path):
            raise trouble from None
        raise
    except (ExSearchError, ValueError) as error:
        return str(error).removeprefix(f"{check.path}: ")


def _checks(path: Path) -> Iterator[FileCheck]:
    size = path.stat().st_size
    if path.name == CHECKSUMS:
        try:
            sums = recorded(path.parent) or {}
        except ValueError as error:
            reason = str(error)
            yield FileCheck(path, size, lambda advance: reason)
            return
        for name, expected in sums.items():
            file = path.parent / name
            yield FileCheck(file, expected.bytes, partial(fault_of, file, expected))
    elif path.name in CHECKED:
        yield FileCheck(path, size, lambda advance: _read(read_checked, path, dict[str, Any]))
    elif path.name == corpus_layout.DELETED:
        yield FileCheck(path, size, lambda advance: _read(load_checked, path))
    elif path.suffix == ".jsonl":
        yield from _check_of_lines(path, size)


def _read(reader: Callable[..., object], *arguments: object) -> None:
    reader(*arguments)


def _check_of_lines(path: Path, size: int) -> Iterator[FileCheck]:
    """Yield a check if the first line has a checksum."""
    with path.open("rb") as file:
        first = file.readline()
    if unseal(first) is first:
        return

    def run(advance: Advance) -> str | None:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                advance(len(line))
                if unseal(line) is None:
                    return f"line {number}: {CHANGED}"
        return None

    yield FileCheck(path, size, run)


def remedy_for(path: Path) -> str:
    """Return what to do about a damaged file."""
    for folder in path.parents:
        if (folder / index_layout.INFO).is_file() and (path.parent != folder):
            part = folder / path.relative_to(folder).parts[0]
            if part.name == index_layout.SEGMENTS:
                part /= path.relative_to(part).parts[0]
            return f"remove {part} and build the index with the same command again: only that part is built"
        if (folder / corpus_layout.INFO).is_file():
            return "import the corpus again"
    if path.suffix == ".jsonl":
        return "run the command that wrote it again: it sets damaged lines aside and makes them again"
    return "restore it, or remove its folder and run the command that wrote it again"
