"""Damages one file after another of a folder, and tells what becomes of each: seen, harmless, or a fault of ours."""

import contextlib
import io
import multiprocessing
import pickle
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

from exsearch.core.errors import ExSearchError, UsageError
from exsearch.verify import checks_of, faults_in

SECONDS = 60
"""Maximum time of a trial."""
PROCESSES = multiprocessing.get_context("forkserver")
"""Forks processes from one that has no threads: a fork of this one might wait forever for a lock that a thread held."""
PROCESSES.set_forkserver_preload(
    [f"exsearch.{name}" for name in ("retrieval.bm25.bm25", "retrieval.late.late", "retrieval.dense.dense", "verify")]
)


class Outcome(NamedTuple):
    """What became of one damage."""

    file: str
    damage: str
    kind: str
    """`refused` on opening, `verified` (found by verify alone), `harmless` (same result, nothing found), or a fault:
    `silent` (another result, nothing found), `traceback`, `signal`, `hung`."""
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.kind in ("silent", "traceback", "signal", "hung")


def damages(size: int, source: random.Random, flips: int) -> Iterator[tuple[str, Callable[[bytearray], None]]]:
    """Yield ways to damage a file, by name."""
    for _ in range(flips if size else 0):
        at, bit = source.randrange(size), source.randrange(8)

        def flip(content: bytearray, at: int = at, bit: int = bit) -> None:
            content[at] ^= 1 << bit

        yield f"bit {bit} of byte {at}", flip
    for share in (0.0, 0.5, 0.99):

        def cut(content: bytearray, share: float = share) -> None:
            del content[int(len(content) * share) :]

        yield f"cut to {share:.0%}", cut

    def zero(content: bytearray) -> None:
        content[:] = bytes(len(content))

    def zero_end(content: bytearray) -> None:
        content[-min(len(content), 4096) :] = bytes(min(len(content), 4096))

    yield "all zeros", zero
    yield "last block zero", zero_end


def try_all(
    folder: Path,
    use: Callable[[Path], Any],
    flips: int,
    skipped: tuple[str, ...] = (),
) -> list[Outcome]:
    """Damage every file in `folder`, in a copy, one way at a time.

    `use`, a function of a module, opens the folder and returns what it gives.
    """
    expected = result_of(folder, use)
    copy = folder.with_name(f"{folder.name}-damaged")
    shutil.copytree(folder, copy)
    outcomes, source = [], random.Random(0)
    for path in sorted(copy.rglob("*")):
        if not path.is_file() or path.name in skipped:
            continue
        content, name = path.read_bytes(), path.relative_to(copy).as_posix()
        for label, damage in damages(len(content), source, flips):
            damaged = bytearray(content)
            damage(damaged)
            if bytes(damaged) == content:
                continue
            path.unlink()  # another file, since the old one may be mapped
            path.write_bytes(damaged)
            kind, detail = _trial(copy, use, expected)
            outcomes.append(Outcome(name, label, kind, detail))
            path.unlink()
            path.write_bytes(content)
    shutil.rmtree(copy)
    return outcomes


def _trial(folder: Path, use: Callable[[Path], Any], expected: bytes) -> tuple[str, str]:
    """Try in a process of its own, since a signal would end this one, too."""
    with _child(_outcome, folder, use, expected) as (child, receiving):
        try:
            return receiving.recv() if receiving.poll(SECONDS) else ("hung", "")
        except EOFError:
            child.join(SECONDS)
    number = -(child.exitcode or 0)
    return "signal", signal.Signals(number).name if number > 0 else f"exit code {-number}"


def result_of(folder: Path, use: Callable[[Path], Any]) -> bytes:
    """Return what `use` gives for the undamaged folder, pickled."""
    with _child(_result, folder, use) as (_, receiving):
        assert receiving.poll(SECONDS), "hung"
        content: bytes = receiving.recv()
    return content


@contextlib.contextmanager
def _child(function: Callable[..., Any], *arguments: Any) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """Call a function in another process, and receive what it returns. The process is killed at the end."""
    receiving, sending = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_send, args=(sending, function, *arguments))
    child.start()
    sending.close()
    try:
        yield child, receiving
    finally:
        child.kill()
        child.join()


def _send(sending: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    sending.send(function(*arguments))


def _result(folder: Path, use: Callable[[Path], Any]) -> bytes:
    return pickle.dumps(use(folder))


def _outcome(folder: Path, use: Callable[[Path], Any], expected: bytes) -> tuple[str, str]:
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            result = pickle.dumps(use(folder))
        except ExSearchError as error:
            return "refused", str(error)
        except Exception:
            return "traceback", traceback.format_exc()
        try:
            faults = list(faults_in(checks_of(folder), lambda count: None))
        except UsageError:  # nothing has a checksum
            faults = []
        except Exception:
            return "traceback", traceback.format_exc()
    if faults:
        return "verified", faults[0].reason
    return ("harmless", "") if result == expected else ("silent", "")


def summary(outcomes: list[Outcome]) -> dict[str, int]:
    """Return how often each kind occurred."""
    kinds = [outcome.kind for outcome in outcomes]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
