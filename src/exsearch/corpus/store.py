"""The corpus on disk: passages in memory-mapped segments, found by row or by id without loading them.

See `exsearch.corpus.layout` for the content of the folder.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby, islice
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from exsearch.core.atomic import atomic_path, is_file
from exsearch.core.checksums import check_files, load_checked, read_checked, save_checked
from exsearch.core.errors import UsageError
from exsearch.core.locks import sole_writer
from exsearch.core.messages import logger
from exsearch.core.progress import progress
from exsearch.core.trouble import opening
from exsearch.corpus.layout import (
    DELETED,
    FORMAT,
    INFO,
    Addition,
    CorpusInfo,
    Rows,
    SegmentInfo,
    content_fingerprint,
    digest,
    prefixes,
    segment_folder,
)
from exsearch.corpus.passage import Passage
from exsearch.corpus.segment import CorpusSegment, find_rows, hash_ids
from exsearch.corpus.writer import CorpusWriter, discard_unlisted


class Corpus:
    """A corpus opened for reading. Rows count from 0. Safe to share between threads.

    It does not change after opening, whatever is added or deleted later.

    >>> corpus = xs.Corpus.open("work/index.corpus")
    >>> len(corpus), corpus[0].id
    (400, 'w1-0')
    """

    def __init__(self, folder: Path, segments: list[SegmentInfo], deleted: Rows) -> None:
        """Map the segments of `folder`; use `Corpus.open` instead."""
        self.folder = folder
        self.segments = segments
        self.deleted = deleted
        """The deleted rows, sorted."""
        self._count = segments[-1].stop
        check_files(*(segment_folder(folder, segment) for segment in segments))
        self._opened = [CorpusSegment(segment_folder(folder, segment), segment) for segment in segments]
        self._starts = [segment.start for segment in segments]
        self._prefixes = prefixes(segments)
        self.fingerprint = content_fingerprint(self._count, self._prefixes[self._count], deleted)
        """Identifies the content of all rows, and which of them are deleted."""

    @classmethod
    def open(cls, folder: str | Path) -> "Corpus":
        """Open a corpus folder. Raises UsageError if it is missing, damaged or of another format."""
        folder = Path(folder)
        with opening(folder, "corpus", "import it again", ValueError, EOFError, IndexError, pa.ArrowException):
            deleted = _read_deleted(folder)  # read first, since rows are only ever added
            corpus = cls._current(folder, deleted)
            if len(deleted) and not 0 <= deleted[0] <= deleted[-1] < len(corpus):
                raise ValueError(f"{DELETED} names rows that do not exist")
        return corpus

    @classmethod
    def _current(cls, folder: Path, deleted: Rows) -> "Corpus":
        segments = _read_info(folder).segments
        while True:
            try:
                return cls(folder, segments, deleted)
            except FileNotFoundError:
                previous, segments = segments, _read_info(folder).segments
                if segments == previous:
                    raise
                # a writer has merged segments since their names were read

    def deleted_in(self, rows: range) -> Rows:
        """Return those of `rows` that are deleted, sorted and counted from the first of `rows`."""
        first, stop = np.searchsorted(self.deleted, [rows.start, rows.stop])
        return self.deleted[first:stop] - rows.start

    def __len__(self) -> int:
        """Return the number of rows ever written, including deleted ones."""
        return self._count

    def __getitem__(self, row: int) -> Passage:
        """Return the passage at `row`, deleted or not. Raises IndexError outside 0 <= row < len."""
        return self.rows([row])[0]

    def __iter__(self) -> Iterator[Passage]:
        """Yield the passages that are not deleted, in row order."""
        start = 0
        for batch in self.batches():
            first, last = np.searchsorted(self.deleted, (start, start + len(batch)))
            deleted_here = set(self.deleted[first:last].tolist())
            yield from (passage for row, passage in enumerate(batch, start) if row not in deleted_here)
            start += len(batch)

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[list[Passage]]:
        """Yield the passages from row `start` to before `stop` (by default, the end), in bounded memory.

        Deleted ones are included, so that rows can be counted along.
        """
        stop = self._count if stop is None else min(stop, self._count)
        for segment in self._opened:
            yield from segment.batches(
                max(start, segment.start) - segment.start, min(stop, segment.stop) - segment.start
            )

    def rows(self, rows: Sequence[int]) -> list[Passage]:
        """Return the passages at `rows`, deleted or not, in that order. Raises IndexError for a row that does not
        exist."""
        needed = sorted({int(row) for row in rows})
        for row in (*needed[:1], *needed[-1:]):
            if not 0 <= row < self._count:
                raise IndexError(f"row {row} of a corpus of {self._count} passages")
        by_row: dict[int, Passage] = {}
        for number, group in groupby(needed, lambda row: bisect_right(self._starts, row) - 1):
            of_segment = list(group)
            segment = self._opened[number]
            passages = segment.read([row - segment.start for row in of_segment])
            by_row.update(zip(of_segment, passages, strict=True))
        return [by_row[int(row)] for row in rows]

    def by_id(self, id: str) -> Passage | None:
        """Return the passage with this id; None if there is none or it is deleted."""
        row = self.row_of(id)
        return None if row is None else self[row]

    def row_of(self, id: str) -> int | None:
        """Return the row of the passage with this id; None if there is none or it is deleted."""
        return find_rows(self._opened, self.deleted, [id], hash_ids([id])).get(id)

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the row of each of `ids` that exists and is not deleted."""
        return find_rows(self._opened, self.deleted, ids, hash_ids(ids))

    def rows_ever_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Return a row of each of `ids` that exists, deleted or not."""
        return find_rows(self._opened, none_deleted(), ids, hash_ids(ids))

    def prefix(self, rows: int) -> str | None:
        """Identify the content of the first `rows` rows, whatever was added or deleted later.

        None if there are fewer rows. Equal to `fingerprint` for all rows of a corpus without deletions. If the rows end
        within a segment, which may have been merged from several, up to half of that segment's rows are read.
        """
        if not 0 <= rows <= self._count:
            return None
        if rows not in self._prefixes:
            segment = self._opened[bisect_right(self._starts, rows) - 1]
            if rows - segment.start <= segment.stop - rows:
                total = int(self._prefixes[segment.start], 16) + segment.hash_sum(0, rows - segment.start)
            else:
                rest = segment.hash_sum(rows - segment.start, segment.stop - segment.start)
                total = int(self._prefixes[segment.stop], 16) - rest
            self._prefixes[rows] = digest(total)
        return content_fingerprint(rows, self._prefixes[rows])


def write_corpus(folder: Path, passages: Iterable[Passage], total: int | None = None) -> Corpus:
    """Write `passages` as the corpus `folder`, in bounded memory, and open it.

    Replaces an existing corpus. Nothing is left behind if it fails or is interrupted. With `total`, the expected number
    of passages, a progress bar is shown. Raises UsageError for a duplicate id, for no passages at all, and for a
    `folder` with other content.
    """
    refuse_to_replace(folder, INFO)
    with atomic_path(folder) as temporary:
        _append_all(CorpusWriter(temporary, [], none_deleted()), passages, total)
    return Corpus.open(folder)


def add_passages(folder: Path, passages: Iterable[Passage], total: int | None = None) -> Corpus:
    """Append `passages` to the corpus `folder`, and open the extended corpus.

    If it fails or is interrupted, the corpus does not change. Ids of deleted passages may be used again. Raises
    UsageError for an id that exists, and for no passages at all.
    """
    Corpus.open(folder)  # checked first, since the lock would be created even for a missing folder
    with sole_writer(folder):
        corpus = Corpus.open(folder)
        try:
            _append_all(CorpusWriter(folder, corpus.segments, corpus.deleted), passages, total)
        except BaseException:
            discard_unlisted(folder, _read_info(folder).segments)
            raise
    return Corpus.open(folder)


def last_addition(corpus: Corpus) -> Addition | None:
    """Return what was added last by `exsearch corpus add`; None if the corpus has changed since, or nothing was."""
    added = _read_info(corpus.folder).added
    if added is not None and (added.rows, added.deleted) == (len(corpus), len(corpus.deleted)):
        return added
    return None


def delete_passages(folder: Path, ids: Iterable[str]) -> Corpus:
    """Delete the passages with these ids from the corpus `folder`, all or none, and open the new state.

    Their rows stay, so that no other passage moves. Ids that were deleted before stay deleted. Raises UsageError for
    ids that the corpus never had.
    """
    Corpus.open(folder)
    with sole_writer(folder):
        corpus = Corpus.open(folder)
        unique_ids = list(dict.fromkeys(ids))
        rows = corpus.rows_of(unique_ids)
        missing = [id for id in unique_ids if id not in rows]
        known = corpus.rows_ever_of(missing)
        if known:
            logger.info(f"{len(known)} of {len(unique_ids)} ids were deleted before")
        if unknown := [id for id in missing if id not in known]:
            raise UsageError(
                f"{folder}: {len(unknown)} of {len(unique_ids)} ids are not in the corpus, such as {unknown[0]!r}; "
                "nothing was deleted"
            )
        deleted = np.union1d(corpus.deleted, np.array([*rows.values()], dtype=np.int64))
        with atomic_path(folder / DELETED) as temporary:
            save_checked(temporary, deleted)
    return Corpus.open(folder)


def refuse_to_replace(folder: Path, marker: str) -> None:
    """Raise UsageError if `folder` is a file, or has content but not the file `marker`.

    Writing a corpus or an index replaces its folder; this keeps a mistyped path from deleting anything else.
    """
    if folder.name in ("", ".."):
        raise UsageError(f"{folder}: name a new folder")
    if folder.is_dir() and not (folder / marker).exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: has other files (and no {marker}), which would be replaced; name a new folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a new folder")


class _Format(msgspec.Struct):
    format: int


def _read_info(folder: Path) -> CorpusInfo:
    path = folder / INFO
    if not is_file(path):
        raise UsageError(f"{folder}: not a corpus folder (no {INFO}); create it with `exsearch corpus import`")
    format_found = read_checked(path, _Format).format
    if format_found != FORMAT:
        raise UsageError(f"{folder}: corpus format {format_found}, this version reads format {FORMAT}; import it again")
    return read_checked(path, CorpusInfo)


def none_deleted() -> Rows:
    """Return the deleted rows of a corpus without deletions."""
    return np.empty(0, dtype=np.int64)


def _read_deleted(folder: Path) -> Rows:
    path = folder / DELETED
    deleted: Rows = load_checked(path) if path.exists() else none_deleted()
    deleted.setflags(write=False)
    return deleted


def _append_all(writer: CorpusWriter, passages: Iterable[Passage], total: int | None) -> None:
    """Append and commit `passages`, none of which may have an id that exists."""
    iterator = iter(passages)
    begun = writer.rows
    try:
        with nullcontext() if total is None else progress("corpus", total) as bar:
            while batch := list(islice(iterator, writer.room)):
                rows = writer.rows
                for index, holder in writer.append(batch).items():
                    raise UsageError(
                        f"passage id {batch[index].id!r} occurs twice: passages {holder + 1} and {rows + index + 1}"
                    )
                if bar is not None:
                    bar.advance(len(batch))
        if writer.rows == begun:
            raise UsageError("there are no passages to write")
        writer.commit()
    finally:
        writer.close()
