"""The layout of a corpus folder: its names, corpus.json, and the fingerprints of its content.

    corpus.json              format version and the list of segments
    segments/<start>-<stop>  an immutable run of rows each (see `exsearch.corpus.segment`)
    deleted.npy              int64, the deleted rows, sorted; absent if there are none

Rows are only appended, and never move. The two files that change are replaced atomically, and are independent: a
deletion stays valid when rows are added, so the two never disagree.
"""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.core.fingerprint import fingerprint

FORMAT = 2
INFO = "corpus.json"
SEGMENTS = "segments"
DELETED = "deleted.npy"

Rows = npt.NDArray[np.int64]


class SegmentInfo(msgspec.Struct, frozen=True):
    """The entry of a segment in corpus.json."""

    start: int
    rows: int
    digest: str
    """32 hex digits: the sum of the hashes of its rows, modulo 2^128."""

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.start + self.rows

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.start}-{self.stop}"


class Addition(msgspec.Struct, frozen=True):
    """What was added last, so that the same command, run again after an interruption, finds that it is done."""

    job: str
    """Fingerprint of the source and of how it was read."""
    rows_before: int
    rows: int
    """Number of rows of the corpus after it."""
    deleted: int
    """Number of them that were deleted."""
    malformed: int
    duplicates: int


class CorpusInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of corpus.json."""

    format: int
    segments: list[SegmentInfo]
    added: Addition | None = None


def row_hash(row: int, fields: Iterable[bytes]) -> int:
    """Return 128 bits that identify a row by its number and its fields.

    The sum of the hashes of some rows identifies them all; it can be extended row by row, and does not depend on how
    the rows are divided into segments.
    """
    parts = [row.to_bytes(8, "little")]
    for field in fields:
        parts += (len(field).to_bytes(8, "little"), field)
    return int.from_bytes(blake2b(b"".join(parts), digest_size=16).digest(), "little")


def digest(hashes: int) -> str:
    """Return a sum of row hashes as a segment's digest."""
    return f"{hashes % (1 << 128):032x}"


def prefixes(segments: Iterable[SegmentInfo]) -> dict[int, str]:
    """Return the digest of all rows before each boundary between segments, including 0."""
    total = 0
    digests = {0: digest(0)}
    for segment in segments:
        total += int(segment.digest, 16)
        digests[segment.stop] = digest(total)
    return digests


def content_fingerprint(rows: int, rows_digest: str, deleted: Rows | None = None) -> str:
    """Return 16 hex digits that identify the first `rows` rows, by their digest, and which of them are deleted."""
    content: list[Any] = [FORMAT, rows, rows_digest]
    if deleted is not None and len(deleted):
        content.append(blake2b(deleted.astype("<i8").tobytes(), digest_size=16).hexdigest())
    return fingerprint(content)


def segment_folder(folder: Path, segment: SegmentInfo) -> Path:
    """Return the folder of a segment of the corpus `folder`."""
    return folder / SEGMENTS / segment.name
