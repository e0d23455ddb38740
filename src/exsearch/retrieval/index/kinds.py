"""The kinds of index that are built segment by segment. One is a module and a line in SEGMENTED."""

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
from exsearch.retrieval.index.folder import EncoderInfo, OpenedIndex, Segment

T = TypeVar("T", bound=msgspec.Struct)

SEGMENTED = {
    "bm25": "exsearch.retrieval.bm25.bm25:Bm25",
    "late": "exsearch.retrieval.late.late:Late",
    "dense": "exsearch.retrieval.dense.dense:Dense",
    "plaid": "exsearch.retrieval.late.plaid:Plaid",
}
DAMAGE = (ValueError, KeyError, TypeError, EOFError)
"""What a kind raises for files that are damaged, beside OSError."""


class Kind(Protocol):
    """What a kind's class must offer. A class that can merge its segments also offers what `Merging` does."""

    Parameters: type[msgspec.Struct]
    """Its defaults are the kind's defaults."""
    version: ClassVar[int]
    """Of the files and of what goes into them: an index of another version must be built again."""
    segment_rows: ClassVar[int]

    def __call__(self, opened: OpenedIndex) -> Retriever:
        """Open the index; raises OSError or one of DAMAGE if its files are damaged."""
        ...

    def encoder_hash(self, parameters: Any) -> str:
        """Return the content hash of the encoder, as it is now; only asked of kinds that have one."""
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
        """Index `rows` in `folder`, which is empty; tell `advance` of finished passages."""
        ...

    def check_shared(self, shared: Path, parameters: Any) -> None:
        """Raise OSError or one of DAMAGE if what the segments share is damaged, by sizes and headers of its files."""
        ...

    def check_segment(self, segment: Segment, shared: Path, parameters: Any) -> None:
        """Do the same for a segment."""
        ...

    def indivisible(self, parameters: Any) -> str | None:
        """Name what a segment holds as a whole, such as a graph; None if that is nothing.

        If there is something, the same rows in other segments may give other hits, so that the rows of each segment and
        this name enter the fingerprint. What is made otherwise needs another name.
        """
        ...


class Merging(Protocol):
    """What a kind's class offers where merging costs less than building anew."""

    def merge_segments(
        self, parts: list[Segment], deleted: list[Rows], shared: Path, folder: Path, parameters: Any
    ) -> bool:
        """Put the content of `parts`, neighbours, into the one segment `folder`, which is empty.

        Of each part, the `deleted` rows, sorted and counted from its first, may be dropped, as long as no hit or score
        changes. Returns whether they were.
        """
        ...


def can_merge(kind: Kind | Merging) -> TypeGuard[Merging]:
    """Return whether the kind's segments can be merged without building their rows anew."""
    return hasattr(kind, "merge_segments")


def segmented_kind(kind: str) -> Kind:
    """Import the class of one of SEGMENTED."""
    return cast(Kind, load_class(SEGMENTED[kind]))


def load_class(place: str) -> Any:
    """Import a class that is named as `module:Class`."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def typed(kind: str, parameters: dict[str, Any], struct: type[T]) -> T:
    """Return a kind's `parameters` as its `struct`, defaults filled in; raises UsageError for unknown or wrong ones."""
    known = list(struct.__struct_fields__)
    for name in parameters:
        if name not in known:
            raise UsageError(f"index kind {kind!r} has no parameter {name!r}{nearest(name, known)}")
    try:
        return convert(parameters, struct)
    except ShapeError as error:
        raise UsageError(f"index kind {kind!r}: {error}") from None
