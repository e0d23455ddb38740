"""Folders beside a file or folder to be written, one for each writer; what killed writers have left is removed."""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to import it takes a tenth of a second
    from filelock import BaseFileLock

_TAKEN = (FileExistsError, FileNotFoundError, TimeoutError)
"""What is raised where another writer has this folder's name, or came before its lock and took it for left."""


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield a folder of this writer's own beside `target`, `.NAME.TOKEN.partial`, and remove it in the end.

    It holds `NAME.lock`, which is locked while its writer lives. So a folder whose lock is free was left by a killed
    writer: such folders are removed first.
    """
    for left in _beside(target):
        # one that is locked, is gone meanwhile, or belongs to another user stays: it is in nobody's way
        with suppress(OSError), _lock(left, target):
            _remove(left)
    own, lock = _begin(target)
    try:
        yield own
    finally:
        _remove(own)
        lock.release()


def _begin(target: Path) -> tuple[Path, "BaseFileLock"]:
    """Make a folder and lock it; an OSError names `target`."""
    while True:
        own = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        lock = _lock(own, target)
        try:
            own.mkdir()
            lock.acquire()
        except OSError as error:
            if isinstance(error, _TAKEN) and target.parent.is_dir():
                continue
            _remove(own)
            error.filename = str(target)
            raise
        return own, lock


def _lock(own: Path, target: Path) -> "BaseFileLock":
    from filelock import FileLock

    return FileLock(own / f"{target.name}.lock", blocking=False)


def _beside(target: Path) -> list[Path]:
    """Return the folders of all writers of `target`; none where they may be made, but not listed."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.partial")
    try:
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except PermissionError:
        return []


def _remove(own: Path) -> None:
    """Delete such a folder; what cannot be deleted, as a network drive's open files, is left to the next writer."""
    shutil.rmtree(own, ignore_errors=True)
