"""Files that are never half-written: atomic files and folders, typed JSON lines, append-only journals."""

import codecs
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from exsearch.errors import UsageError
from exsearch.foreign import HEAD, foreign
from exsearch.shape import BROKEN, ShapeError, decode, fault, not_utf8
from exsearch.trouble import naming, writing

T = TypeVar("T")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target`, a file or folder to be; rename it on success, delete it on error.

    An existing target is replaced, behind a link if it is one; UsageError if a folder would be replaced by a file or a
    file by a folder, or if it is neither. A killed process leaves `target` as it was; the leftover of the killed
    attempt is removed by the next one.
    """
    target = behind_link(target)
    if not target.name:
        raise UsageError(f"{target}: is a folder; name what to make in it")
    if is_special(target):
        raise UsageError(f"{target}: is neither a file nor a folder, and would be replaced; choose another path")
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.partial")
    remove(temporary)
    try:
        with writing(target):
            yield temporary
        if target.exists() and target.is_dir() != temporary.is_dir():
            raise UsageError(
                f"{target}: a {'folder' if target.is_dir() else 'file'} is in the way; choose another path"
            )
        put_in_place(temporary, target)
    except BaseException:
        remove(temporary)
        raise


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


def put_in_place(new: Path, target: Path) -> None:
    """Rename `new` to its sibling `target`, no link, which is replaced if it exists.

    No rename can take the place of a folder that is not empty: the old one is renamed, too, and removed in the end,
    since a kill while it is removed would leave half of it.
    """
    if not new.is_dir():
        new.replace(target)
        return
    replaced = target.with_name(f".{target.name}.replaced")
    remove(replaced)
    if target.is_dir():
        target.replace(replaced)
    new.replace(target)
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
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_special(path: Path) -> bool:
    """Return whether something is there that is neither a file nor a folder, such as a pipe or a device."""
    return path.exists() and not (path.is_file() or path.is_dir())


def require_no_folder(path: Path) -> None:
    """Raise UsageError if a folder is where a file is to be."""
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way; choose another path")


def require_apart(out: Path, inputs: Iterable[Path | None]) -> None:
    """Raise UsageError if `out` is one of the files that are read to make it."""
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs if path is not None):
        raise UsageError(f"{out}: is read, and would be replaced; choose another path to write to")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """Read a text file, less a byte order mark; raise UsageError naming the file if it is missing or not UTF-8."""
    try:
        with naming(path):
            content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    if said := foreign(content[:HEAD]):
        raise UsageError(f"{path}: is {said}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {not_utf8(error)}") from None


def write_json(path: Path, value: object) -> None:
    """Write `value`, anything msgspec encodes, to `path` atomically as indented JSON."""
    write_text(path, msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as `kind`; raise UsageError naming the file if it is missing or malformed."""
    try:
        with naming(path):
            found: T = decode(path.read_bytes(), kind)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None
    except ShapeError as error:
        raise UsageError(f"{path}: {error}") from None
    return found


def write_jsonl(path: Path, records: Iterable[object]) -> int:
    """Write one JSON line a record, atomically; return how many."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            file.write(encoder.encode(record) + b"\n")
            count += 1
    return count


def write_json_list(path: Path, records: Iterable[object]) -> int:
    """Write a JSON list, one line a record, atomically; return how many. Only one record is held at a time."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for record in records:
            file.write((b",\n" if count else b"[\n") + encoder.encode(record))
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


def read_jsonl(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the records of a JSONL file; raise UsageError with file and line at the first that is not a `kind`."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with naming(path), path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                record = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                try:
                    yield decoder.decode(record)
                except BROKEN:
                    raise UsageError(f"{path}, line {number}: {fault(record, kind)}") from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{path}: no such file") from None


def set_damaged_aside(path: Path, kind: type[T]) -> list[str]:
    """Move the lines of a JSONL file that are no `kind` to `FILE.damaged`; return what was wrong with each.

    A torn last line is left to `Journal`.
    """
    if not path.is_file():
        return []
    decoder = msgspec.json.Decoder(kind)
    sound, damaged, faults = [], [], []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            decoder.decode(line)
            sound.append(line)
        except BROKEN:
            if not line.endswith(b"\n"):
                continue
            damaged.append(line)
            faults.append(f"{path}, line {number}: {fault(line, kind)}")
    if damaged:
        with atomic_path(path.with_name(f"{path.name}.damaged")) as temporary:
            temporary.write_bytes(b"".join(damaged))
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(sound))
    return faults


class Journal:
    """An append-only JSONL file that survives `kill -9`.

    Every append is flushed to the disk as whole lines. On opening, a torn last line, the mark of a killed
    writer, is cut off, so that its record is made again.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the journal at `path`; raise UsageError if a folder is there."""
        require_no_folder(path)
        self.path = path
        make_folder(path.parent)
        self._cut_torn_line()
        self._file = path.open("ab")

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
            file.truncate(end)

    def read(self, kind: type[T]) -> Iterator[T]:
        """Yield the records written so far."""
        return read_jsonl(self.path, kind)

    def drop_last(self, count: int) -> None:
        """Cut off the last `count` lines, the mark of a writer that was killed between the lines of one append."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        os.truncate(self.path, sum(map(len, lines[: len(lines) - count])))

    def append(self, records: Iterable[object]) -> None:
        """Append the records in one write and force them to the disk."""
        encoder = msgspec.json.Encoder()
        lines = b"".join(encoder.encode(record) + b"\n" for record in records)
        with writing(self.path):
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        with writing(self.path):
            self._file.close()

    def __enter__(self) -> "Journal":
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def fingerprint(value: object) -> str:
    """Return 16 hex digits that identify `value`, anything msgspec encodes, by its content."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
