"""Locks on folders and files: one process at a time may write."""

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
    """Lock `folder`, or a file, for writing; it need not exist. Raises UsageError if another process has the lock.

    The lock ends with the process that holds it, in whatever way. Meanwhile `.NAME.lock` next to the folder says which
    process that is, and since when.
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


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:  # it has ended since, or its system does not allow reading locked files
        return "another process"
