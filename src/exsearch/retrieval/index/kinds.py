"""The kinds of index that are built segment by segment. Each is a module and a line in SEGMENTED."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard, TypeVar, cast

import msgspec

from exsearch.core.errors import UsageError, nearest
from exsearch.core.shape import ShapeError, convert
from exsearch.corpus.layout import Rows
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.folder import EncoderInfo, IndexSegment, OpenedIndex, StemmerInfo

T = TypeVar("T", bound=msgspec.Struct)

SEGMENTED: dict[str, str] = {
    "bm25": "exsearch.retrieval.bm25.bm25:Bm25",
    "late": "exsearch.retrieval.late.late:Late",
    "dense": "exsearch.retrieval.dense.dense:Dense",
    "plaid": "exsearch.retrieval.late.plaid:Plaid",
}
DAMAGE = (ValueError, KeyError, TypeError, EOFError)
"""Exceptions, besides OSError, that a kind raises for damaged files."""


class IndexKind(Protocol):
    """Interface of a kind's class. A class that can merge its segments also has the interface `Merging`."""

    Parameters: type[msgspec.Struct]
    """The kind's parameters, with their defaults."""
    version: ClassVar[int]
    """Version of the files and of their content; an index of another version must be built again."""
    segment_rows: ClassVar[int]

    def __call__(self, opened: OpenedIndex) -> Retriever:
        """Open the index. Raises OSError or one of DAMAGE if its files are damaged."""
        ...

    def encoder_hash(self, parameters: Any) -> str:
        """Return the content hash of the encoder as it is now; only called for kinds that have one."""
        ...

    def prepare(self, corpus: Corpus, shared: Path, parameters: Any) -> EncoderInfo | None:
        """Fill `shared`, an empty folder, once; return the encoder, if one is used."""
        ...

    def build_segment(
        self,
        corpus: Corpus,
        rows: range,
        shared: Path,
        folder: Path,
        parameters: Any,
        advance: Callable[[int], None],
    ) -> None:
        """Index `rows` in `folder`, which is empty; call `advance` with the number of finished passages."""
        ...

    def check_shared(self, shared: Path, parameters: Any) -> None:
        """Raise OSError or one of DAMAGE if what the segments share is damaged, by the sizes and headers of files."""
        ...

    def check_segment(self, segment: IndexSegment, shared: Path, parameters: Any) -> None:
        """Do the same for a segment."""
        ...

    def indivisible(self, parameters: Any) -> str | None:
        """Name the structure that a segment contains as a whole, such as a graph; None if there is none.

        If there is one, the same rows in other segments may give other hits, so the rows of each segment and this name
        enter the fingerprint. A structure that is built differently needs another name.
        """
        ...


class Merging(Protocol):
    """Interface of a kind's class if merging segments is cheaper than building them again."""

    def merge_segments(
        self, parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: Any
    ) -> bool:
        """Write the content of `parts`, which are neighbours, as one segment to `folder`, which is empty.

        The `deleted` rows of each part, sorted and counted from its first row, may be dropped if no hit or score
        changes. Returns whether they were.
        """
        ...


class Stemming(Protocol):
    """Interface of a kind's class if it stems words."""

    def stemmer(self) -> StemmerInfo:
        """Return the stemmer as it is now."""
        ...


def stemmer_of(kind: IndexKind | Stemming) -> StemmerInfo | None:
    """Return the stemmer that the kind would use now; None if it does not stem."""
    return cast(Stemming, kind).stemmer() if hasattr(kind, "stemmer") else None


def can_merge(kind: IndexKind | Merging) -> TypeGuard[Merging]:
    """Return whether the kind's segments can be merged without building their rows again."""
    return hasattr(kind, "merge_segments")


def segmented_kind(kind: str) -> IndexKind:
    """Import the class of one of SEGMENTED."""
    return cast(IndexKind, load_class(SEGMENTED[kind]))


def load_class(place: str) -> Any:
    """Import a class named as `module:Class`."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def typed(kind: str, parameters: dict[str, Any], struct: type[T]) -> T:
    """Return a kind's `parameters` as its `struct`, with defaults. Raises UsageError for unknown or wrong ones."""
    names = list(struct.__struct_fields__)
    for name in parameters:
        if name not in names:
            raise UsageError(f"index kind {kind!r} has no parameter {name!r}{nearest(name, names)}")
    try:
        return convert(parameters, struct)
    except ShapeError as error:
        raise UsageError(f"index kind {kind!r}: {error}") from None
