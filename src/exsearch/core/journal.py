"""Append-only journals of JSON lines."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from exsearch.core.atomic import make_folder, require_no_folder
from exsearch.core.jsonl import read_jsonl, seal
from exsearch.core.trouble import writing

T = TypeVar("T")


class Journal:
    """An append-only JSONL file that survives `kill -9`.

    Every append is flushed to disk as whole lines. On opening, a torn last line, left by an interrupted writer, is
    dropped, so that its record is made again.
    """

    def __init__(self, path: Path, sealed: bool = False) -> None:
        """Open or create the journal at `path`; with `sealed`, each line gets a checksum.

        Raises UsageError if a folder is there.
        """
        require_no_folder(path)
        self.path, self._sealed = path, sealed
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
                line_feed = file.read(end - start).rfind(b"\n")
                if line_feed >= 0:
                    end = start + line_feed + 1
                    break
                end = start
            file.truncate(end)

    def read(self, kind: type[T]) -> Iterator[T]:
        """Yield the records written so far."""
        return read_jsonl(self.path, kind)

    def drop_last(self, count: int) -> None:
        """Drop the last `count` lines, left by a writer that was interrupted between the lines of one append."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        os.truncate(self.path, sum(map(len, lines[: len(lines) - count])))

    def append(self, records: Iterable[object]) -> None:
        """Append the records in one write, and flush them to disk."""
        encoder = msgspec.json.Encoder()
        encoded = (encoder.encode(record) for record in records)
        lines = b"".join((seal(line) if self._sealed else line) + b"\n" for line in encoded)
        with writing(self.path):
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
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
