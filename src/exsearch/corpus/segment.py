"""A segment of a corpus: an immutable run of rows in its own folder, memory-mapped.

passages.arrow   Arrow IPC file, columns id, title, text; all record batches but the last have equally many rows
ids.hash.npy     uint64, the hashes of its ids, sorted
ids.row.npy      uint32, the row of each hash, counted from the segment's first row
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exsearch.core.checksums import write_checksums
from exsearch.core.errors import UsageError
from exsearch.core.mapping import map_array, map_bytes, save_array
from exsearch.core.trouble import writing
from exsearch.corpus.layout import Rows, SegmentInfo, digest, row_hash
from exsearch.corpus.passage import Passage

BATCH_ROWS = 2048
_PASSAGES, _ID_HASHES, _ID_ROWS = "passages.arrow", "ids.hash.npy", "ids.row.npy"
# 64-bit offsets: a batch of very long passages must not overflow
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "title", "text")])

Hashes = npt.NDArray[np.uint64]


class CorpusSegment:
    """A segment opened for reading. Positions count from its first row. Safe to share between threads."""

    def __init__(self, folder: Path, info: SegmentInfo) -> None:
        """Map its files. Raises OSError or ValueError if they are damaged."""
        try:
            self._map(folder, info)
        except pa.ArrowException:
            raise ValueError(f"{_PASSAGES} is not a complete Arrow file") from None

    def _map(self, folder: Path, info: SegmentInfo) -> None:
        self.folder = folder
        self._validated: set[int] = set()
        self.start, self.stop = info.start, info.stop
        # not Arrow's own mapping, which keeps one file open per segment, of which there may be hundreds
        mapped = pa.py_buffer(map_bytes(folder / _PASSAGES))
        self._reader: Any = pa.ipc.open_file(pa.BufferReader(mapped))
        self._lock = threading.Lock()
        self._hashes: Hashes = map_array(folder / _ID_HASHES)
        self._hash_rows: npt.NDArray[np.uint32] = map_array(folder / _ID_ROWS)
        self._batch_rows = self._batch(0).num_rows
        batches = -(-info.rows // self._batch_rows)
        if not (
            self._reader.num_record_batches == batches
            and (batches - 1) * self._batch_rows + self._batch(batches - 1).num_rows == info.rows
            and self._reader.schema.equals(_SCHEMA)
            and len(self._hashes) == len(self._hash_rows) == info.rows
        ):
            raise ValueError("its files do not fit together")

    def read(self, positions: Sequence[int]) -> list[Passage]:
        """Return the passages at `positions`, which must be ascending."""
        passages: list[Passage] = []
        for number, group in groupby(positions, lambda position: position // self._batch_rows):
            columns = self._batch(number).columns
            offset = number * self._batch_rows
            passages += [Passage(*(column[position - offset].as_py() for column in columns)) for position in group]
        return passages

    def batches(self, start: int, stop: int) -> Iterator[list[Passage]]:
        """Yield the passages from position `start` to before `stop`, one record batch at a time."""
        for batch in self._slices(start, stop):
            columns = (column.to_pylist() for column in batch.columns)
            yield [Passage(*row) for row in zip(*columns, strict=True)]

    def hash_sum(self, start: int, stop: int) -> int:
        """Return the sum of the hashes of the rows from position `start` to before `stop`; digests are such sums."""
        total, row = 0, self.start + start
        for batch in self._slices(start, stop):
            columns = (column.cast(pa.large_binary()).to_pylist() for column in batch.columns)
            total += sum(row_hash(number, fields) for number, fields in enumerate(zip(*columns, strict=True), row))
            row += batch.num_rows
        return total

    def candidates(self, hashes: Hashes) -> Iterator[tuple[int, list[int]]]:
        """Yield, for each of `hashes` that occurs here, its index and the positions that have it."""
        first = np.searchsorted(self._hashes, hashes)
        there = self._hashes[np.minimum(first, len(self._hashes) - 1)] == hashes
        for index in np.flatnonzero(there).tolist():
            last = np.searchsorted(self._hashes, hashes[index], side="right")
            positions = self._hash_rows[first[index] : last].tolist()
            if positions and max(positions) >= self.stop - self.start:
                raise UsageError(
                    f"{self.folder}: damaged corpus, {_ID_ROWS} names rows beyond its end; import it again"
                )
            yield index, positions

    def _slices(self, start: int, stop: int) -> Iterator[Any]:
        while start < stop:
            number, first = divmod(start, self._batch_rows)
            batch = self._batch(number).slice(first, stop - start)
            yield batch
            start += batch.num_rows

    def _batch(self, number: int) -> Any:
        with self._lock:  # Arrow does not guarantee that a reader is thread-safe
            try:
                batch = self._reader.get_batch(number)
                if number not in self._validated:  # a damaged offset would be followed out of the file
                    batch.validate(full=True)
                    self._validated.add(number)
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                raise UsageError(
                    f"{self.folder}: damaged corpus, {_PASSAGES} has unreadable passages; import it again"
                ) from None
        return batch


class SegmentWriter:
    """Writes the files of one segment; needs memory for one record batch and 8 bytes per row."""

    def __init__(self, folder: Path, start: int) -> None:
        """Start a segment whose first row is `start`, in `folder`, which is created."""
        folder.mkdir(parents=True)
        self.folder, self.start, self.rows = folder, start, 0
        self._writer: Any = pa.ipc.new_file(str(folder / _PASSAGES), _SCHEMA)
        self._pending: list[tuple[bytes, bytes, bytes]] = []
        self._hashes: list[Hashes] = []
        self._sum = 0

    @property
    def pending(self) -> int:
        """Number of rows that wait until their record batch is full."""
        return len(self._pending)

    def append(self, passages: Iterable[Passage], hashes: Hashes) -> None:
        """Append passages, at most as many as fit into the record batch, with the hashes of their ids."""
        for passage in passages:
            fields = _encode(passage, self.start + self.rows)
            self._sum += row_hash(self.start + self.rows, fields)
            self._pending.append(fields)
            self.rows += 1
        self._hashes.append(hashes)
        if len(self._pending) == BATCH_ROWS:
            self._write_batch()

    def finish(self) -> SegmentInfo:
        """Complete the files."""
        if self._pending:
            self._write_batch()
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        with writing(self.folder):
            self._writer.close()
            save_array(self.folder / _ID_HASHES, hashes[order])
            save_array(self.folder / _ID_ROWS, order.astype(np.uint32))
            write_checksums(self.folder)
        return SegmentInfo(self.start, self.rows, digest(self._sum))

    def abandon(self) -> None:
        """Close the files of a segment that will not be completed."""
        with writing(self.folder):
            self._writer.close()

    def _write_batch(self) -> None:
        columns = [pa.array(column, pa.large_string()) for column in zip(*self._pending, strict=True)]
        with writing(self.folder):
            self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._pending.clear()


def merge_segments(parts: Sequence[CorpusSegment], folder: Path) -> None:
    """Write one segment with the rows of `parts`, which are neighbours, to `folder`, which is created."""
    folder.mkdir(parents=True)
    batches = [batch for part in parts for batch in part._slices(0, part.stop - part.start)]
    table = pa.Table.from_batches(batches, schema=_SCHEMA)
    with pa.ipc.new_file(str(folder / _PASSAGES), _SCHEMA) as writer:
        for first in range(0, table.num_rows, BATCH_ROWS):
            [batch] = table.slice(first, BATCH_ROWS).combine_chunks().to_batches()
            writer.write_batch(batch)
    hashes = np.concatenate([part._hashes for part in parts])
    rows = np.concatenate([part._hash_rows + np.uint32(part.start - parts[0].start) for part in parts])
    order = np.argsort(hashes, kind="stable")
    save_array(folder / _ID_HASHES, hashes[order])
    save_array(folder / _ID_ROWS, rows[order])
    write_checksums(folder)


def hash_ids(ids: Iterable[str]) -> Hashes:
    """Return a 64-bit hash for each id."""
    return np.array([_hash(id.encode("utf-8", "surrogatepass")) for id in ids], dtype=np.uint64)


def find_rows(segments: Iterable[CorpusSegment], deleted: Rows, ids: Sequence[str], hashes: Hashes) -> dict[str, int]:
    """Return the row of each of `ids` that is in one of `segments` and not deleted; `hashes` are the ids' hashes."""
    rows: dict[str, int] = {}
    # sorted, so that neighbours touch the same pages of the mapped hashes
    order = np.argsort(hashes)
    hashes = hashes[order]
    for segment in segments:
        for index, positions in segment.candidates(hashes):
            id = ids[order[index]]
            # different ids may share a hash, so the id itself decides
            for position, passage in zip(positions, segment.read(positions), strict=True):
                if passage.id == id and not _is_deleted(deleted, segment.start + position):
                    rows[id] = segment.start + position
    return rows


def _is_deleted(deleted: Rows, row: int) -> bool:
    place = int(np.searchsorted(deleted, row))
    return place < len(deleted) and int(deleted[place]) == row


def _encode(passage: Passage, row: int) -> tuple[bytes, bytes, bytes]:
    try:
        return passage.id.encode(), passage.title.encode(), passage.text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"passage {row + 1}, id {passage.id!r}: not valid Unicode ({error.reason})") from None


def _hash(id: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(id, digest_size=8).digest(), "little")
