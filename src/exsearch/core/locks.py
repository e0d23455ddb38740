"""The right to write a folder or a file, which one process has at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from exsearch.core.errors import UsageError


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write `folder`, or a file; it need not exist yet. UsageError where another process has it.

    The right ends with the process that holds it, however that ends. While it lasts, `.NAME.lock` beside it says who
    that is, and since when.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{folder}: {_holder(path)} is writing it; wait until that is done") from None
    if not isinstance(
        lock, SoftFileLock
    ):  # which a lock becomes where files cannot be locked; it names its holder itself
        with suppress(OSError):  # Windows writes to no file that is locked, and a full disk to none
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since},\n", encoding="utf-8")
    try:
        yield
    finally:
        # before the release: a file that another process has locked meanwhile must not be unlinked
        with suppress(PermissionError):  # Windows does not unlink open files
            path.unlink()
        lock.release()


def require_free(path: Path) -> None:
    """Raise UsageError where another process writes `path`: to be told so before long work, such as loading a model."""
    if path.resolve().parent.is_dir():
        with sole_writer(path):
            pass


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:  # it has ended since, or its system lets no other read what is locked
        return "another process"
