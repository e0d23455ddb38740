"""The interface of importable sources: their rows, each a passage or the reason why it is malformed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from exsearch.core.fingerprint import fingerprint
from exsearch.core.ids import id_text
from exsearch.corpus.passage import Passage, split_contents

MEGABYTE = 1 << 20
Counts = Literal["line", "row", "file"]
Unit = Literal["MB", "rows", "files"]


class Malformed(msgspec.Struct, frozen=True):
    """A row that is not a valid passage."""

    reason: str
    id: str | None = None


class Place(msgspec.Struct, frozen=True):
    """Position in a source where a row starts."""

    line: int = 0
    """Lines before it in a file, rows in a table, or files in a folder."""
    offset: int = 0
    """Uncompressed bytes before it in a file, or passages in a document; 0 in a table."""


class PassageSource(Protocol):
    """Passages in some external format."""

    name: str
    """Name in messages."""
    identity: str
    """Changes with the content, if the change is visible without reading all of it."""
    start: Place
    """Position where its first row starts."""
    counts: Counts
    """What `line` counts, such as lines or files."""
    unit: Unit
    """Unit of `size` and `done`."""
    size: int

    @property
    def line(self) -> int:
        """Number, from 1, of the line or row where the last row starts."""

    @property
    def place(self) -> Place:
        """Position where the next row starts."""

    @property
    def done(self) -> int:
        """How much of `size` has been read."""

    def rows(self, start: Place) -> Iterator[Passage | Malformed]:
        """Yield the rows from `start` on, in bounded memory. Raises UsageError if nothing more can be read."""


def file_identity(path: Path) -> str:
    """Return a string that changes with the file at `path`: its size, time, and a hash of its first megabyte."""
    status = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(MEGABYTE)).hexdigest()
    return fingerprint([status.st_size, status.st_mtime_ns, head])


def make_passage(id: object, title: object, text: object, contents: object) -> Passage | Malformed:
    """Return the passage of a row with id, title, text or id, contents; None is a missing value.

    The title may be missing.
    """
    try:
        name = id_text(id)
    except ValueError as error:
        return Malformed(str(error))
    if name is None:
        return Malformed("its id is empty" if isinstance(id, str) else "no id")
    if text is None and isinstance(contents, str):
        title, text = split_contents(contents)
    if text is None:
        return Malformed("neither `text` nor `contents`", name)
    if not isinstance(text, str) or not isinstance(title, str | None):
        return Malformed("its title or text is not a string", name)
    if not text or text.isspace():
        return Malformed("no text", name)
    return Passage(name, title or "", text)
