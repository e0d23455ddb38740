"""Locks on folders and files: one process at a time may write."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from exsearch.core.errors import UsageError

_TRIES = 20
_PAUSE = 0.05
"""Seconds between them."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Lock `folder`, or a file, for writing; it need not exist. Raises UsageError if another process has the lock.

    The lock ends with the process that holds it, in whatever way. Meanwhile `.NAME.lock` next to the folder says which
    process that is, and since when.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path, blocking=False)
    _acquire(lock, folder, path)
    if not isinstance(
        lock, SoftFileLock
    ):  # the form of a lock where files cannot be locked; it names its holder itself
        with suppress(OSError):  # Windows cannot write to a locked file, and a full disk to any
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since},\n", encoding="utf-8")
    try:
        yield
    finally:
        # before the release, so that a file locked by another process meanwhile is not unlinked
        with suppress(PermissionError):  # Windows cannot unlink open files
            path.unlink()
        lock.release()


def require_free(path: Path) -> None:
    """Raise UsageError if another process is writing `path`; to check before long work, such as loading a model."""
    if path.resolve().parent.is_dir():
        with sole_writer(path):
            pass


def _acquire(lock: FileLock | SoftFileLock, folder: Path, path: Path) -> None:
    """Take the lock; if another process has it, raise UsageError with its name.

    One that has only just taken it has not written its name yet, and one that is releasing it has removed it: then try
    again.
    """
    for _ in range(_TRIES):
        try:
            lock.acquire()
        except Timeout:
            if holder := _holder(path):
                raise UsageError(f"{folder}: {holder} is writing it; wait until that is done") from None
            time.sleep(_PAUSE)
        else:
            return
    raise UsageError(f"{folder}: another process is writing it; wait until that is done")


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # it has ended since, or its system does not allow reading locked files
        return ""
