"""Parameters of a dense index, and the interface of its ways to store vectors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.corpus.layout import Rows
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.index.folder import IndexSegment, OpenedIndex
from exsearch.retrieval.rank import Ranked

Floats = npt.NDArray[np.float32]
Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]


class DenseParameters(msgspec.Struct, frozen=True):
    """Settings of a dense index."""

    encoder: str = EMBEDDED
    """The embedded encoder, or the folder or hub id of any sentence-transformers model."""
    query_prompt: str | None = None
    """Text before each query, such as `query: `; None uses the checkpoint's own prompt, if it has one."""
    passage_prompt: str | None = None
    """The same for passages."""
    index: Literal["flat", "ivfpq", "hnsw"] = "flat"
    nlist: Positive | None = None
    """ivfpq: number of clusters; None for the square root of the number of passages."""
    m: Positive = 64
    """ivfpq: number of groups that the dimensions are divided into; must divide their number."""
    bits: Annotated[int, msgspec.Meta(ge=1, le=12)] = 8
    """ivfpq: bits per group."""
    nprobe: Positive = 32
    """ivfpq: number of clusters searched per query."""
    links: Annotated[int, msgspec.Meta(ge=2, le=10**9)] = 32
    """hnsw: number of neighbours per vector (M)."""
    ef_construction: Positive = 100
    """hnsw: number of candidates for a vector's neighbours while the graph is built."""
    ef_search: Positive = 100
    """hnsw: number of candidates during a search; at least k."""


class VectorIndex(Protocol):
    """A way to store and search vectors."""

    def __call__(self, opened: OpenedIndex, dimensions: int) -> "OpenedVectors":
        """Map the files. Raises OSError or ValueError if they are damaged."""
        ...

    def train(self, sample: Callable[[int], Floats], passages: int, shared: Path, parameters: DenseParameters) -> None:
        """Write to `shared` what all segments need; `sample(n)` returns about n vectors, spread over the corpus."""
        ...

    def write(
        self, vectors: Iterator[Floats], rows: range, shared: Path, folder: Path, parameters: DenseParameters
    ) -> None:
        """Write the vectors of `rows`, which come in blocks, to `folder`."""
        ...

    def indivisible(self) -> str | None:
        """See `Kind.indivisible`."""
        ...

    def check(self, segment: IndexSegment, shared: Path, dimensions: int) -> None:
        """Map a segment's files. Raises OSError or ValueError if they are damaged."""
        ...

    def merge(
        self, parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: DenseParameters
    ) -> bool:
        """See `Merging.merge_segments`."""
        ...


class OpenedVectors(Protocol):
    """Vectors ready to be searched. Safe to share between threads."""

    def rank(self, queries: Floats, k: int) -> list[Ranked]:
        """Return the rows of the at most `k` best passages for each of `queries`, without deleted ones."""
        ...
