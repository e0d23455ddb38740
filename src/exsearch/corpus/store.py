"""The corpus on disk: passages in a memory-mapped Arrow file, found by row or by id without loading them.

A corpus folder holds

    corpus.json        format version, number of passages, fingerprint (a hash of all rows in order)
    passages.arrow     Arrow IPC file, columns id, title, text; record batches of BATCH_ROWS rows
    ids.hash.npy       uint64, the hashes of all ids, sorted
    ids.row.npy        int64, the row of each of those hashes
"""

import hashlib
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from exsearch.corpus.passage import Passage
from exsearch.errors import UsageError
from exsearch.files import atomic_path, read_json, write_json
from exsearch.progress import progress

FORMAT = 1
BATCH_ROWS = 8192
# 64-bit offsets: a batch of very long passages must not overflow
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "title", "text")])


class CorpusInfo(msgspec.Struct, frozen=True):
    """What corpus.json says."""

    format: int
    passages: int
    fingerprint: str


class Corpus:
    """A corpus opened for reading. Rows count from 0; safe to share between threads."""

    def __init__(self, folder: Path, info: CorpusInfo) -> None:
        """Map the files of `folder`; use `Corpus.open`."""
        self.folder = folder
        self.fingerprint = info.fingerprint
        self._count = info.passages
        self._reader: Any = pa.ipc.open_file(pa.memory_map(str(folder / "passages.arrow")))
        self._reader_lock = threading.Lock()
        self._hashes = np.load(folder / "ids.hash.npy", mmap_mode="r")
        self._hash_rows = np.load(folder / "ids.row.npy", mmap_mode="r")
        batches = -(-info.passages // BATCH_ROWS)
        if not (
            self._reader.num_record_batches == batches
            and self._reader.schema.equals(_SCHEMA)
            and len(self._hashes) == len(self._hash_rows) == info.passages
        ):
            raise ValueError("its files do not fit together")

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Open a corpus folder; raise UsageError if it is missing, incomplete or of another format."""
        if not (folder / "corpus.json").is_file():
            raise UsageError(f"{folder}: not a corpus folder (no corpus.json); `exsearch corpus import` makes one")
        info = read_json(folder / "corpus.json", CorpusInfo)
        if info.format != FORMAT:
            raise UsageError(f"{folder}: corpus format {info.format}, this version reads format {FORMAT}")
        try:
            return cls(folder, info)
        except (OSError, ValueError, EOFError, pa.ArrowInvalid) as error:
            raise UsageError(f"{folder}: damaged corpus, import it again ({error})") from None

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._count

    def __getitem__(self, row: int) -> Passage:
        """Return the passage at `row`; raises IndexError outside 0 <= row < len."""
        return self.rows([row])[0]

    def __iter__(self) -> Iterator[Passage]:
        """Yield all passages in row order."""
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[list[Passage]]:
        """Yield all passages in row order, BATCH_ROWS at a time, so that memory stays bounded."""
        for number in range(self._reader.num_record_batches):
            columns = (column.to_pylist() for column in self._batch(number).columns)
            yield [Passage(*row) for row in zip(*columns, strict=True)]

    def rows(self, rows: Sequence[int]) -> list[Passage]:
        """Return the passages at `rows`, in that order; raises IndexError for a row that is not there."""
        found: dict[int, Passage] = {}
        batch: Any = None
        loaded = -1
        for row in sorted({int(row) for row in rows}):
            if not 0 <= row < self._count:
                raise IndexError(f"row {row} of a corpus of {self._count} passages")
            number, position = divmod(row, BATCH_ROWS)
            if number != loaded:
                batch, loaded = self._batch(number), number
            found[row] = Passage(*(column[position].as_py() for column in batch.columns))
        return [found[int(row)] for row in rows]

    def by_id(self, id: str) -> Passage | None:
        """Return the passage with this id, or None."""
        wanted = np.uint64(_hash(id.encode("utf-8", "surrogatepass")))
        first = int(np.searchsorted(self._hashes, wanted, side="left"))
        last = int(np.searchsorted(self._hashes, wanted, side="right"))
        # different ids may share a hash: only the id itself decides
        same_hash = self.rows([int(row) for row in self._hash_rows[first:last]])
        return next((passage for passage in same_hash if passage.id == id), None)

    def _batch(self, number: int) -> Any:
        with self._reader_lock:  # Arrow does not promise that one reader serves several threads
            return self._reader.get_batch(number)


def write_corpus(folder: Path, passages: Iterable[Passage], total: int | None = None) -> Corpus:
    """Write `passages` as the corpus `folder` and open it. Memory: one batch, and about 30 bytes a passage.

    Replaces an existing corpus. Nothing is left behind if it fails or is killed. With `total`, the expected
    number of passages, a progress bar is shown. Raises UsageError for a duplicate id, for no passages at all,
    and for a `folder` that holds something else.
    """
    refuse_to_replace(folder, "corpus.json")
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        hashes = array("Q")
        content = hashlib.sha256()
        bar = nullcontext() if total is None else progress("corpus", total)
        with bar as shown, pa.ipc.new_file(str(temporary / "passages.arrow"), _SCHEMA) as writer:
            for batch in _batched(passages):
                for passage in batch:
                    encoded = _encode(passage, len(hashes))
                    hashes.append(_hash(encoded[0]))
                    for field in encoded:
                        content.update(len(field).to_bytes(8, "little") + field)
                columns = zip(*((passage.id, passage.title, passage.text) for passage in batch), strict=True)
                arrays = [pa.array(column, pa.large_string()) for column in columns]
                writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
                if shown is not None:
                    shown.advance(len(batch))
        if not hashes:
            raise UsageError(f"{folder}: there are no passages to write")
        unsorted = np.frombuffer(hashes, dtype=np.uint64)
        rows = np.argsort(unsorted, kind="stable")
        np.save(temporary / "ids.hash.npy", unsorted[rows])
        np.save(temporary / "ids.row.npy", rows)
        info = CorpusInfo(FORMAT, len(hashes), content.hexdigest()[:16])
        write_json(temporary / "corpus.json", info)
        _refuse_duplicates(Corpus(temporary, info), unsorted[rows], rows)
    return Corpus.open(folder)


def refuse_to_replace(folder: Path, marker: str) -> None:
    """Raise UsageError if `folder` is a file or a folder with content but without the file `marker`.

    Writing a corpus or an index replaces its folder; this keeps a mistyped path from deleting anything else.
    """
    if folder.is_dir() and not (folder / marker).exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds other files (no {marker} there) and would be replaced; name a new folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a new folder")


def _batched(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    iterator = iter(passages)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch


def _encode(passage: Passage, row: int) -> tuple[bytes, bytes, bytes]:
    try:
        return passage.id.encode(), passage.title.encode(), passage.text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"passage {row + 1}, id {passage.id!r}: not valid Unicode ({error.reason})") from None


def _hash(id: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(id, digest_size=8).digest(), "little")


def _refuse_duplicates(corpus: Corpus, hashes: "np.ndarray[Any, Any]", rows: "np.ndarray[Any, Any]") -> None:
    """Raise UsageError naming the first id that occurs twice; only equal hashes are looked at."""
    repeated = np.flatnonzero(hashes[1:] == hashes[:-1])
    groups = np.unique(hashes[repeated])
    for value in groups:
        first, last = np.searchsorted(hashes, value, "left"), np.searchsorted(hashes, value, "right")
        seen: dict[str, int] = {}
        for row in rows[first:last]:
            id = corpus[row].id
            if id in seen:
                raise UsageError(f"passage id {id!r} occurs twice: passages {seen[id] + 1} and {row + 1}")
            seen[id] = int(row)
