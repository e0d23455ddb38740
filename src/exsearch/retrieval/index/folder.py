"""The content of an index folder: its file names, index.json, and the fingerprint of what it returns.

    index.json                   kind, parameters, corpus, encoder, and the rows of each segment
    shared/                      what all segments share, such as a quantiser
    segments/<first>-<stop>/     the index of a range of the corpus's rows
      dropped.npy                int64, deleted rows that were dropped from it; absent if there are none
      parts.npy                  int64, if it was merged from encoded passages: the first row of each build
    plan.json                    only while it is being built: its plan

A segment is written once and never changed. When many are small, some are merged into a new folder, which replaces them
in index.json. So an interruption leaves an index that opens, and the same command resumes.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from exsearch.core.atomic import is_file
from exsearch.core.checksums import read_checked
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.mapping import load_array
from exsearch.corpus.layout import Rows
from exsearch.corpus.store import Corpus, none_deleted

FORMAT = 2
INFO = "index.json"
SHARED = "shared"
SEGMENTS = "segments"
DROPPED = "dropped.npy"
PARTS = "parts.npy"
PLAN = "plan.json"
ENCODER = "encoder.json"
"""In `shared`."""
FIRST_STEMS = "bab0ea9f537cb1c9"
"""Hash of the stems of PyStemmer 3.1.0, with which fingerprints do not depend on the stemmer, as in the versions that
did not record it."""


class EncoderInfo(msgspec.Struct, frozen=True):
    """The model that computed an index's vectors."""

    id: str
    """Hub id, folder, or name of the embedded model."""
    hash: str
    """Hash of its weights and vocabulary."""
    precision: str
    """Precision in which the passages were encoded, such as `bfloat16` or `openvino-float32`."""
    dimensions: int


class StemmerInfo(msgspec.Struct, frozen=True):
    """The stemmer of an index's words."""

    package: str
    """Its package and version, such as `PyStemmer 3.1.0`."""
    stems: str
    """Hash of how it stems; other versions may stem alike."""


class IndexInfo(msgspec.Struct, frozen=True):
    """The content of index.json."""

    format: int
    kind: str
    parameters: dict[str, Any]
    corpus: str
    """Folder of the corpus, relative to the index folder if possible."""
    corpus_prefix: str
    """Fingerprint of the rows that are indexed."""
    encoder: EncoderInfo | None
    passages: int
    """Number of rows that are indexed; some of them may be deleted in the corpus since."""
    segments: list[tuple[int, int]]
    """First row, and row after the last, of each segment."""
    fingerprint: str
    version: int = 1
    """Version of the kind when the index was built."""
    stemmer: StemmerInfo | None = None
    """None for kinds that do not stem, and for indexes of earlier versions, which did not record it."""


@dataclass(frozen=True)
class IndexSegment:
    """The part of an index that covers a range of the corpus's rows."""

    rows: range
    folder: Path

    def dropped(self) -> Rows:
        """Return the deleted rows that were dropped from it when it was merged; sorted."""
        path = self.folder / DROPPED
        return load_array(path) if is_file(path) else none_deleted()

    def builds(self) -> list[range]:
        """Return the ranges of rows that were built at once: one, unless it was merged from encoded passages.

        The last bits of a vector depend on the passages encoded in the same batch.
        """
        path = self.folder / PARTS
        starts = load_array(path).tolist() if is_file(path) else [self.rows.start]
        return [range(first, stop) for first, stop in pairwise([*starts, self.rows.stop])]


@dataclass(frozen=True)
class OpenedIndex:
    """What a kind is given to open: the folder's parts, and the corpus."""

    folder: Path
    corpus: Corpus
    info: IndexInfo
    parameters: Any
    """Parameters, of the kind's type."""
    again: str
    """The command that builds the index again."""
    shared: Path
    segments: list[IndexSegment]

    @property
    def fingerprint(self) -> str:
        """Identifies what the index returns; changes when a passage is deleted from the corpus."""
        return fingerprint([self.info.fingerprint, self.corpus.fingerprint])


def segment_at(folder: Path, rows: range) -> IndexSegment:
    """Return the segment `rows` of the index in `folder`, whether it exists or not."""
    return IndexSegment(rows, folder / SEGMENTS / f"{rows.start}-{rows.stop}")


def segments_of(folder: Path, info: IndexInfo) -> list[IndexSegment]:
    """Return the segments that index.json names."""
    return [segment_at(folder, range(*bounds)) for bounds in info.segments]


def read_index_info(folder: Path) -> IndexInfo:
    """Read index.json only. Raises UsageError if `folder` is not an index that this version reads."""
    path = folder / INFO
    if not is_file(path):
        raise UsageError(f"{folder}: not an index folder (no {INFO}); create it with `exsearch index`")
    if (format := read_checked(path, _Format).format) != FORMAT:
        raise UsageError(f"{folder}: index format {format}, this version reads format {FORMAT}; build it again")
    return read_checked(path, IndexInfo)


class _Format(msgspec.Struct):
    format: int


def lacks_nothing(folder: Path, info: IndexInfo, corpus: Corpus) -> bool:
    """Return whether all rows that were dropped when segments were merged are deleted in `corpus`."""
    return all(np.isin(segment.dropped(), corpus.deleted).all() for segment in segments_of(folder, info))


def require_same_encoder(encoder: EncoderInfo, built_with: EncoderInfo, folder: Path) -> None:
    """Raise UsageError if the index that `folder` belongs to was built with other weights: vectors must compare."""
    if encoder.hash != built_with.hash:
        raise UsageError(
            f"{folder}: its vectors come from an encoder with content hash {built_with.hash}, but "
            f"{encoder.id!r} is now {encoder.hash}; build the index again"
        )


def stem_differently(stemmer: StemmerInfo | None, built_with: StemmerInfo | None) -> bool:
    """Return whether two stemmers are known to differ."""
    return stemmer is not None and built_with is not None and stemmer.stems != built_with.stems


def require_same_stemmer(stemmer: StemmerInfo | None, built_with: StemmerInfo | None, folder: Path, again: str) -> None:
    """Raise UsageError if the index in `folder` was built with a stemmer that stems differently and so loses words."""
    if stemmer is not None and built_with is not None and stem_differently(stemmer, built_with):
        package, version = built_with.package.split(" ")
        raise UsageError(
            f"{folder}: its words were stemmed by {built_with.package}, and the installed {stemmer.package} stems some "
            f"differently; python -m pip install {package}=={version}, or build it again ({again})"
        )


def cuts(passages: int, segment_rows: int, start: int = 0) -> list[range]:
    """Return the segments of an uninterrupted build: ranges of `segment_rows` rows from `start`, the last shorter."""
    return [range(first, min(first + segment_rows, passages)) for first in range(start, passages, segment_rows)]


def index_fingerprint(
    plan: dict[str, Any], corpus: str, segments: list[range], encoder: EncoderInfo | None, *more: str
) -> str:
    """Return the fingerprint of an index: of all that its results depend on, given that of its rows, `corpus`.

    `segments` are those of an uninterrupted build if results do not depend on how rows are divided, so that merging
    does not change the fingerprint. `more` is what results depend on besides, if that varies between such builds.
    """
    # the encoder counts by content, not by the name or path that it was loaded from
    model = None if encoder is None else [encoder.hash, encoder.precision]
    parameters = {name: value for name, value in plan["parameters"].items() if name != "encoder"}
    bounds = [(rows.start, rows.stop) for rows in segments]
    return fingerprint([FORMAT, plan["kind"], plan["version"], parameters, corpus, bounds, model, *more])
