"""Builds one segment of an index."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from exsearch.core.atomic import atomic_path
from exsearch.core.checksums import write_checksums
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.folder import SHARED, segment_at
from exsearch.retrieval.index.kinds import IndexKind, segmented_kind


class BuildTarget(NamedTuple):
    """The index that segments are built for."""

    folder: Path
    """The index folder, whose `shared` exists."""
    kind: str
    settings: Any
    """The kind's parameters, of its type."""
    parameters: dict[str, Any]
    """The same parameters, as written to index.json."""
    corpus: Corpus
    encodes: bool
    """Whether a model encodes the passages."""

    @property
    def implementation(self) -> IndexKind:
        """The class of the kind."""
        return segmented_kind(self.kind)


def build_segment(target: BuildTarget, rows: range, advance: Callable[[int], None]) -> None:
    """Build the segment `rows`; call `advance` with the number of finished passages."""
    with atomic_path(segment_at(target.folder, rows).folder) as temporary:
        temporary.mkdir()
        shared = target.folder / SHARED
        target.implementation.build_segment(target.corpus, rows, shared, temporary, target.settings, advance)
        write_checksums(temporary)
