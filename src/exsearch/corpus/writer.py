"""Growing a corpus folder, a segment at a time, so that a reader never sees half an extension."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from exsearch.corpus.layout import FORMAT, INFO, SEGMENTS, CorpusInfo, Rows, SegmentInfo, segment_folder
from exsearch.corpus.passage import Passage
from exsearch.corpus.segment import BATCH_ROWS, Segment, SegmentWriter, find_rows, hash_ids
from exsearch.errors import UsageError
from exsearch.files import remove, write_json

SEGMENT_ROWS = 131_072


class CorpusWriter:
    """Appends passages to a corpus folder. Nothing it writes belongs to the corpus before `commit`.

    Memory: one record batch, and the ids of one segment.
    """

    def __init__(
        self, folder: Path, segments: Sequence[SegmentInfo], deleted: Rows, segment_rows: int = SEGMENT_ROWS
    ) -> None:
        """Continue after `segments`; whatever else an interrupted writer left among them is removed.

        Rows of the sorted `deleted` do not count as holders of their ids.
        """
        self.folder = folder
        self.segments = list(segments)
        discard_unlisted(folder, self.segments)
        self._opened = [Segment(segment_folder(folder, segment), segment) for segment in segments]
        self._deleted = deleted
        self._segment_rows = segment_rows
        self._ids: dict[str, int] = {}
        self._current: SegmentWriter | None = None

    @property
    def rows(self) -> int:
        """Rows so far, those of the segments at the start included."""
        finished = self.segments[-1].stop if self.segments else 0
        return finished + len(self._ids)

    @property
    def room(self) -> int:
        """How many passages `append` takes next; never 0."""
        if self._current is None:
            return min(BATCH_ROWS, self._segment_rows)
        return min(BATCH_ROWS - self._current.pending, self._segment_rows - self._current.rows)

    def append(self, passages: Sequence[Passage]) -> dict[int, int]:
        """Append those of up to `room` passages whose id is new.

        Return the others: their index among `passages`, and the row that has the id. A segment that is full is
        finished, and listed in `segments`. Raises UsageError for text that is not valid Unicode.
        """
        ids = [passage.id for passage in passages]
        hashes = hash_ids(ids)
        known = find_rows(self._opened, self._deleted, ids, hashes)
        refused: dict[int, int] = {}
        accepted: list[int] = []
        for index, id in enumerate(ids):
            holder = known.get(id, self._ids.get(id))
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
        """Finish the segment that is being written, if there is one."""
        if self._current is not None:
            self._finish_segment()

    def commit(self) -> None:
        """Let the corpus consist of all segments, the last one finished."""
        self.finish()
        write_json(self.folder / INFO, CorpusInfo(FORMAT, self.segments))

    def close(self) -> None:
        """Close the segment that is being written, if there is one. It is not part of the corpus."""
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
        self._opened.append(Segment(folder, segment))


def discard_unlisted(folder: Path, segments: Sequence[SegmentInfo]) -> None:
    """Remove what lies among the segments of a corpus folder but is not one of `segments`."""
    names = {segment.name for segment in segments}
    if (folder / SEGMENTS).is_dir():
        for path in (folder / SEGMENTS).iterdir():
            if path.name not in names:
                remove(path)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold the right to write the corpus `folder`; raises UsageError where another process has it.

    The right ends with the process that holds it, however that ends.
    """
    folder = folder.resolve()
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(f"{folder}: another process is writing it; wait until that is done") from None
    try:
        yield
    finally:
        # before the release: a file that another process has locked meanwhile must not be unlinked
        with suppress(PermissionError):  # Windows does not unlink open files
            path.unlink()
        lock.release()
