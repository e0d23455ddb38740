"""Building one segment of an index."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from exsearch.core.atomic import atomic_path
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.folder import SHARED, segment_at
from exsearch.retrieval.index.kinds import Kind, segmented_kind


class Target(NamedTuple):
    """What the segments are to be of."""

    folder: Path
    """The index folder, whose `shared` is there."""
    kind: str
    settings: Any
    """The kind's parameters, of its type."""
    parameters: dict[str, Any]
    """The same as they are written."""
    corpus: Corpus
    encodes: bool
    """Whether passages are encoded, by a model."""

    @property
    def implementation(self) -> Kind:
        """The class of the kind."""
        return segmented_kind(self.kind)


def build_segment(target: Target, rows: range, advance: Callable[[int], None]) -> None:
    """Build the segment `rows`; `advance` is told of finished passages."""
    with atomic_path(segment_at(target.folder, rows).folder) as temporary:
        temporary.mkdir()
        shared = target.folder / SHARED
        target.implementation.build_segment(target.corpus, rows, shared, temporary, target.settings, advance)
