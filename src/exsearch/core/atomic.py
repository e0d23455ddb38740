"""Files and folders that are never half-written, and what may be in their way."""

import codecs
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from exsearch.core.errors import UsageError
from exsearch.core.foreign import require_text
from exsearch.core.scratch import scratch
from exsearch.core.shape import not_utf8
from exsearch.core.trouble import naming, writing

T = TypeVar("T")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path for `target`, a file or folder to be; rename it on success, delete it on error.

    An existing target is replaced, behind a link if it is one; UsageError if a folder would be replaced by a file or a
    file by a folder, or if it is neither. A killed process leaves `target` as it was; the leftover of the killed
    attempt is removed by the next one. Of several writers at once each has a path of its own (`scratch`), and the last
    to end wins.
    """
    target = behind_link(target)
    if not target.name:
        raise UsageError(f"{target}: is a folder; name what to make in it")
    if is_special(target):
        raise UsageError(f"{target}: is neither a file nor a folder, and would be replaced; choose another path")
    make_folder(target.parent)
    for left in (".partial", ".replaced"):  # of earlier versions
        remove(target.with_name(f".{target.name}{left}"))
    with scratch(target) as own:
        temporary = own / target.name
        try:
            with writing(target):
                yield temporary
        except OSError as error:
            if error.filename == str(temporary):
                error.filename = str(target)
            raise
        there = _mode(target)
        if there and stat.S_ISDIR(there) != temporary.is_dir():
            raise UsageError(
                f"{target}: a {'folder' if stat.S_ISDIR(there) else 'file'} is in the way; choose another path"
            )
        replace_atomically(temporary, target)


def behind_link(target: Path) -> Path:
    """Return where `target`, a file or folder to be written, really lies: the end of the links, if it is one.

    Whoever names a link wants the disk behind it, so what is written beside it on the way belongs there, too. The end
    need not exist.
    """
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there; behind links, the ends of which need not exist."""
    Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)


def is_taken(target: Path) -> bool:
    """Return whether something is at `target`, a folder to be written, beside an empty folder."""
    return target.exists() and not (target.is_dir() and not children(target))


def replace_atomically(new: Path, target: Path) -> None:
    """Rename `new` to `target`, no link, on the same disk, which is replaced if it exists.

    No rename can take the place of a folder that is not empty: the old one is renamed, too, to a sibling of `new`, and
    removed in the end, since a kill while it is removed would leave half of it.
    """
    if not new.is_dir():
        new.replace(target)
        return
    replaced = new.with_name(f".{target.name}.replaced")
    while True:
        remove(replaced)
        if target.is_dir():
            with suppress(FileNotFoundError):  # another writer has just taken it away
                target.replace(replaced)
        try:
            new.replace(target)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # else another writer has just put its own there
    remove(replaced)


def remove(path: Path) -> None:
    """Delete a file or a folder with what it holds; a path that is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unless_held(path: Path) -> None:
    """Delete a folder that nothing names any more, or leave to the next caller what a reader keeps there.

    A network drive keeps the files that a reader has open under other names in their folder, which is not empty then.
    """
    try:
        remove(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
            raise


def children(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing if it is not there. Unlike `glob`, raises OSError if it is closed."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_file(path: Path) -> bool:
    """Return whether a file is there; raises OSError where that cannot be told, which `Path.is_file` may call False."""
    return stat.S_ISREG(_mode(path))


def is_special(path: Path) -> bool:
    """Return whether something is there that is neither a file nor a folder, such as a pipe or a device."""
    mode = _mode(path)
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode(path: Path) -> int:
    """Return what is there, as `stat` tells it, 0 for nothing: asked once, since another writer may replace it."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def require_no_folder(path: Path) -> None:
    """Raise UsageError if a folder is where a file is to be."""
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way; choose another path")


def require_distinct_paths(out: Path, inputs: Iterable[Path | None]) -> None:
    """Raise UsageError if `out` is one of the files that are read to make it."""
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs if path is not None):
        raise UsageError(f"{out}: is read, and would be replaced; choose another path to write to")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_utf8(path: Path) -> bytes:
    """Read the bytes of a text file, less a byte order mark; raise UsageError if it is missing, or plainly no UTF-8."""
    try:
        with naming(path):
            content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    require_text(path, content)
    return content.removeprefix(codecs.BOM_UTF8)


def read_text(path: Path) -> str:
    """Read a text file, less a byte order mark; raise UsageError naming the file if it is missing or not UTF-8."""
    try:
        return read_utf8(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {not_utf8(error)}") from None
