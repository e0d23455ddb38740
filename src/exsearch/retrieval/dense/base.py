"""Settings of a dense index, and what a way of keeping its vectors offers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.corpus.layout import Rows
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.index.folder import OpenedIndex, Segment
from exsearch.retrieval.rank import Ranked

Floats = npt.NDArray[np.float32]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class DenseParameters(msgspec.Struct, frozen=True):
    """Settings of a dense index."""

    encoder: str = EMBEDDED
    """The embedded encoder, or the folder or hub id of any sentence-transformers model."""
    query_prompt: str | None = None
    """Put before each query, such as `query: `; None takes the checkpoint's own prompt, if it has one."""
    passage_prompt: str | None = None
    """The same for passages."""
    index: Literal["flat", "ivfpq", "hnsw"] = "flat"
    nlist: Positive | None = None
    """ivfpq: clusters; None for the square root of the number of passages."""
    m: Positive = 64
    """ivfpq: groups that the dimensions are cut into; divides their number."""
    bits: Annotated[int, msgspec.Meta(ge=1, le=12)] = 8
    """ivfpq: bits a group."""
    nprobe: Positive = 32
    """ivfpq: clusters that a search looks into."""
    links: Annotated[int, msgspec.Meta(ge=2)] = 32
    """hnsw: neighbours of each vector (M)."""
    ef_construction: Positive = 100
    """hnsw: candidates for a vector's neighbours while the graph is built."""
    ef_search: Positive = 100
    """hnsw: candidates while it is searched; at least k."""


class VectorIndex(Protocol):
    """How vectors are kept and searched."""

    def __call__(self, opened: OpenedIndex, dimensions: int) -> "OpenedVectors":
        """Map the files; raises OSError or ValueError if they are damaged."""
        ...

    def train(self, sample: Callable[[int], Floats], passages: int, shared: Path, parameters: DenseParameters) -> None:
        """Write to `shared` what all segments need; `sample` gives about so many vectors, spread over the corpus."""
        ...

    def write(
        self, vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: DenseParameters
    ) -> None:
        """Write the vectors of `rows`, which come in blocks, to `folder`."""
        ...

    def indivisible(self) -> str | None:
        """Do what `Kind.indivisible` says."""
        ...

    def check(self, segment: Segment, shared: Path, dimensions: int) -> None:
        """Map a segment's files; raises OSError or ValueError if they are damaged."""
        ...

    def merge(
        self, parts: list[Segment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """Do what `Merging.merge_segments` says."""
        ...


class OpenedVectors(Protocol):
    """Vectors ready to be searched; safe to share between threads."""

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of the at most `k` best passages for each of `queries`, deleted ones left out."""
        ...
