"""Appends to a corpus folder, segment by segment, so that a reader never sees half an extension.

Many small additions are merged as they arrive (`exsearch.core.merging`), into new segments next to the old ones, which
are removed once corpus.json names the merged ones.
"""

from collections.abc import Sequence
from pathlib import Path

from exsearch.core.atomic import atomic_path, remove_unless_held
from exsearch.core.checksums import write_checked
from exsearch.core.merging import segments_to_merge
from exsearch.corpus.layout import (
    FORMAT,
    INFO,
    SEGMENTS,
    Addition,
    CorpusInfo,
    Rows,
    SegmentInfo,
    digest,
    segment_folder,
)
from exsearch.corpus.passage import Passage
from exsearch.corpus.segment import BATCH_ROWS, CorpusSegment, SegmentWriter, find_rows, hash_ids, merge_segments

SEGMENT_ROWS = 131_072


class CorpusWriter:
    """Appends passages to a corpus folder. Nothing that it writes belongs to the corpus before `commit`.

    Needs memory for one record batch, and for the ids of one segment.
    """

    def __init__(
        self, folder: Path, segments: Sequence[SegmentInfo], deleted: Rows, segment_rows: int = SEGMENT_ROWS
    ) -> None:
        """Continue after `segments`; anything else that an interrupted writer left among them is removed.

        Ids of the rows in `deleted`, which is sorted, may be used again.
        """
        self.folder = folder
        self.segments = list(segments)
        discard_unlisted(folder, self.segments)
        self._opened = [CorpusSegment(segment_folder(folder, segment), segment) for segment in segments]
        self._deleted = deleted
        self._segment_rows = segment_rows
        self._ids: dict[str, int] = {}
        self._current: SegmentWriter | None = None

    @property
    def rows(self) -> int:
        """Number of rows so far, including those of the initial segments."""
        finished = self.segments[-1].stop if self.segments else 0
        return finished + len(self._ids)

    @property
    def room(self) -> int:
        """Number of passages that `append` takes next; never 0."""
        if self._current is None:
            return min(BATCH_ROWS, self._segment_rows)
        return min(BATCH_ROWS - self._current.pending, self._segment_rows - self._current.rows)

    def append(self, passages: Sequence[Passage]) -> dict[int, int]:
        """Append those of up to `room` passages whose id is new.

        Return the others: their index in `passages`, and the row that has the id. A full segment is finished, and
        listed in `segments`. Raises UsageError for text that is not valid Unicode.
        """
        ids = [passage.id for passage in passages]
        hashes = hash_ids(ids)
        existing = find_rows(self._opened, self._deleted, ids, hashes)
        refused: dict[int, int] = {}
        accepted: list[int] = []
        for index, id in enumerate(ids):
            holder = existing.get(id, self._ids.get(id))
            if holder is None:
                self._ids[id] = self.rows
                accepted.append(index)
            else:
                refused[index] = holder
        if accepted:
            if self._current is None:
                self._current = SegmentWriter(self.folder / SEGMENTS / ".partial", self.rows - len(accepted))
            self._current.append([passages[index] for index in accepted], hashes[accepted])
            if self._current.rows == self._segment_rows:
                self._finish_segment()
        return refused

    def finish(self) -> None:
        """Finish the segment being written, if there is one, and merge many small ones."""
        if self._current is not None:
            self._finish_segment()
        for run in reversed(segments_to_merge([segment.rows for segment in self.segments], self._segment_rows)):
            self._merge(slice(run.start, run.stop))

    def commit(self, added: Addition | None = None) -> None:
        """Make all segments, finished and merged, the corpus; remove those that were merged. Record what was added."""
        self.finish()
        write_checked(self.folder / INFO, CorpusInfo(FORMAT, self.segments, added))
        discard_unlisted(self.folder, self.segments)

    def close(self) -> None:
        """Close the segment being written, if there is one. It is not part of the corpus."""
        if self._current is not None:
            self._current.abandon()

    def _finish_segment(self) -> None:
        assert self._current is not None
        segment = self._current.finish()
        folder = segment_folder(self.folder, segment)
        self._current.folder.replace(folder)
        self._current = None
        self._ids.clear()
        self.segments.append(segment)
        self._opened.append(CorpusSegment(folder, segment))

    def _merge(self, run: slice) -> None:
        """Replace neighbouring segments by one. Their folders stay until `commit`, since they are the corpus until
        then."""
        parts = self.segments[run]
        total = sum(int(part.digest, 16) for part in parts)
        merged = SegmentInfo(parts[0].start, sum(part.rows for part in parts), digest(total))
        folder = segment_folder(self.folder, merged)
        with atomic_path(folder) as temporary:
            merge_segments(self._opened[run], temporary)
        self.segments[run] = [merged]
        self._opened[run] = [CorpusSegment(folder, merged)]


def discard_unlisted(folder: Path, segments: Sequence[SegmentInfo]) -> None:
    """Remove what is in the segments folder of a corpus but not one of `segments`."""
    names = {segment.name for segment in segments}
    if (folder / SEGMENTS).is_dir():
        for path in (folder / SEGMENTS).iterdir():
            if path.name not in names:
                remove_unless_held(path)
