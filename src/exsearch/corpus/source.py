"""What every importable source offers: its rows, each a passage or the reason why it is none."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from exsearch.core.fingerprint import fingerprint
from exsearch.core.ids import id_text
from exsearch.corpus.passage import Passage, split_contents

MEGABYTE = 1 << 20


class Malformed(msgspec.Struct, frozen=True):
    """A row that is no passage."""

    reason: str
    id: str | None = None


class Place(msgspec.Struct, frozen=True):
    """Where in a source a row begins: what lies before it."""

    line: int = 0
    """Lines of a file, rows of a table."""
    offset: int = 0
    """Bytes of a file, unpacked; 0 in a table."""


class Source(Protocol):
    """Passages in somebody else's format."""

    name: str
    """What messages call it."""
    identity: str
    """Differs if the content does, as far as that can be told without reading it all."""
    start: Place
    """Where its first row begins."""
    counts: Literal["line", "row"]
    """What `line` counts."""
    unit: Literal["MB", "rows"]
    """What `size` and `done` count."""
    size: int

    @property
    def line(self) -> int:
        """Number, from 1, of the line or row where the row given last begins."""

    @property
    def place(self) -> Place:
        """Where the next row begins."""

    @property
    def done(self) -> int:
        """How much of `size` has been read."""

    def rows(self, start: Place) -> Iterator[Passage | Malformed]:
        """Yield the rows from `start` on, in bounded memory; raises UsageError where nothing more can be read."""


def file_identity(path: Path) -> str:
    """Return what differs if the file at `path` does, from its size, time and first megabyte."""
    status = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(MEGABYTE)).hexdigest()
    return fingerprint([status.st_size, status.st_mtime_ns, head])


def make_passage(id: object, title: object, text: object, contents: object) -> Passage | Malformed:
    """Return the passage of a row with id, title, text or id, contents; None stands for a value that is missing.

    A title may be missing.
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
