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
_OWN = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial")
"""Name of a writer's folder, with that of its target."""


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield this writer's own folder next to `target`, `.NAME.TOKEN.partial`; remove it at the end.

    It contains `NAME.lock`, which its writer holds while it lives. A folder with a free lock is therefore from an
    interrupted writer; such folders are removed first.
    """
    for folder in _beside(target):
        _remove_abandoned(folder, target.name)
    own, lock = _begin(target)
    try:
        yield own
    finally:
        _remove(own)
        lock.release()


def remove_abandoned(folder: Path) -> None:
    """Remove what interrupted writers have left anywhere in `folder`.

    The next writer of a target removes what others of this target have left; this is for targets that are complete, and
    not written again.
    """
    for own in list(folder.glob("**/.*.partial")):
        if match := _OWN.fullmatch(own.name):
            _remove_abandoned(own, match[1])


def _remove_abandoned(own: Path, name: str) -> None:
    # folders that are locked, already removed, or another user's are kept, which does no harm
    with suppress(OSError), _lock(own, name):
        _remove(own)


def _begin(target: Path) -> tuple[Path, "BaseFileLock"]:
    """Create a folder and lock it; an OSError names `target`."""
    while True:
        own = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        lock = _lock(own, target.name)
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


def _lock(own: Path, name: str) -> "BaseFileLock":
    from filelock import FileLock

    return FileLock(own / f"{name}.lock", blocking=False)


def _beside(target: Path) -> list[Path]:
    """Return the folders of all writers of `target`; none in a folder that is writable but cannot be listed."""
    try:
        matches = [(path, _OWN.fullmatch(path.name)) for path in target.parent.iterdir()]
        return [path for path, match in matches if match and match[1] == target.name]
    except PermissionError:
        return []


def _remove(own: Path) -> None:
    """Delete a folder; what cannot be deleted, such as open files on a network drive, is left to the next writer."""
    shutil.rmtree(own, ignore_errors=True)
