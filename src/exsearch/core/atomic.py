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
    """Yield a temporary path for `target`, a file or folder to write; rename it on success, delete it on error.

    An existing target is replaced; if it is a link, its end is. Raises UsageError if a file would replace a folder or a
    folder a file, or if the target is neither. An interrupted process leaves `target` unchanged; what is left of the
    attempt is removed by the next one. Several writers at once have separate paths (`scratch`), and the last to end
    wins.
    """
    target = behind_link(target)
    if not target.name:
        raise UsageError(f"{target}: is a folder; name the file to write in it")
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
    """Return where `target`, a file or folder to write, really is: the end of its links, if it is a link.

    Temporary files are created next to the link's target, which may be on another disk and need not exist.
    """
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, unless they exist; also behind links whose ends do not exist."""
    Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)


def is_taken(target: Path) -> bool:
    """Return whether something other than an empty folder is at `target`, a folder to write."""
    return target.exists() and not (target.is_dir() and not children(target))


def replace_atomically(new: Path, target: Path) -> None:
    """Rename `new` to `target`, which is on the same disk and not a link; an existing target is replaced.

    A rename cannot replace a folder with content: the old one is also renamed, to a sibling of `new`, and removed last,
    since an interruption during its removal would leave half of it.
    """
    if not new.is_dir():
        new.replace(target)
        return
    replaced = new.with_name(f".{target.name}.replaced")
    while True:
        remove(replaced)
        if target.is_dir():
            with suppress(FileNotFoundError):  # another writer has just removed it
                target.replace(replaced)
        try:
            new.replace(target)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise  # otherwise, another writer has just put its own there
    remove(replaced)


def remove(path: Path) -> None:
    """Delete a file or a folder with its content; a missing path is not an error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unless_held(path: Path) -> None:
    """Delete a folder that nothing refers to any longer, or leave it to the next call if a reader still uses it.

    Network drives keep the files that a reader has open under other names in their folder, which is then not empty.
    """
    try:
        remove(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
            raise


def children(folder: Path) -> list[Path]:
    """Return a folder's content, sorted; empty if it does not exist. Unlike `glob`, raises OSError if unreadable."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_file(path: Path) -> bool:
    """Return whether a file exists. Raises OSError if that is unknown, for which `Path.is_file` may return False."""
    return stat.S_ISREG(_mode(path))


def is_special(path: Path) -> bool:
    """Return whether the path is neither a file nor a folder, but something like a pipe or a device."""
    mode = _mode(path)
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode(path: Path) -> int:
    """Return the mode by `stat`, 0 if nothing is there; asked only once, since another writer may replace it."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def require_no_folder(path: Path) -> None:
    """Raise UsageError if a folder is where a file is to be written."""
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way; choose another path")


def require_distinct_paths(out: Path, inputs: Iterable[Path | None]) -> None:
    """Raise UsageError if `out` is one of the files that are read to write it."""
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs if path is not None):
        raise UsageError(f"{out}: is also an input, and would be replaced; choose another output path")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_utf8(path: Path) -> bytes:
    """Read a text file's bytes, without a byte order mark. Raises UsageError if it is missing, or clearly not UTF-8."""
    try:
        with naming(path):
            content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    require_text(path, content)
    return content.removeprefix(codecs.BOM_UTF8)


def read_text(path: Path) -> str:
    """Read a text file, without a byte order mark. Raises UsageError if it is missing or not UTF-8."""
    try:
        return read_utf8(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {not_utf8(error)}") from None
