"""Temporary folders next to a file or folder to be written, one per writer; abandoned ones are removed."""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late, since it takes a tenth of a second
    from filelock import BaseFileLock

_TAKEN = (FileExistsError, FileNotFoundError, TimeoutError)
"""Errors if another writer has a folder of this name, or removed it as abandoned before its lock was taken."""


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield this writer's own folder next to `target`, `.NAME.TOKEN.partial`; remove it at the end.

    It contains `NAME.lock`, which its writer holds while it lives. A folder with a free lock is therefore from an
    interrupted writer; such folders are removed first.
    """
    for folder in _beside(target):
        # folders that are locked, already removed, or another user's are kept, which does no harm
        with suppress(OSError), _lock(folder, target):
            _remove(folder)
    own, lock = _begin(target)
    try:
        yield own
    finally:
        _remove(own)
        lock.release()


def _begin(target: Path) -> tuple[Path, "BaseFileLock"]:
    """Create a folder and lock it; an OSError names `target`."""
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
    """Return the folders of all writers of `target`; none in a folder that is writable but cannot be listed."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.partial")
    try:
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except PermissionError:
        return []


def _remove(own: Path) -> None:
    """Delete a folder; what cannot be deleted, such as open files on a network drive, is left to the next writer."""
    shutil.rmtree(own, ignore_errors=True)
