"""Uncompressed vectors in float16, memory-mapped and compared exactly.

segments/../vectors.f16    the vectors of the segment's passages one after another
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exsearch.core.trouble import probe
from exsearch.corpus.layout import Rows
from exsearch.processes import compute
from exsearch.retrieval.index.folder import IndexSegment, OpenedIndex
from exsearch.retrieval.rank import BestRows, Ranked

_VECTORS = "vectors.f16"

_PASSAGES_AT_ONCE = 4096
_QUERIES_AT_ONCE = 256
"""Limits of working memory: this many vectors in float32, and 4096 x 256 scores."""


class Flat:
    """Exact search. A call reads all vectors once, for all its queries."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the vectors. Raises OSError or ValueError if they are incomplete."""
        self._segments = [(segment.rows, _mapped(segment, dimensions)) for segment in opened.segments]
        self._corpus = opened.corpus
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @staticmethod
    def train(sample: Callable[[int], npt.NDArray[np.float32]], passages: int, shared: Path, parameters: Any) -> None:
        """Do nothing: segments share nothing."""

    @staticmethod
    def write(
        vectors: Iterator[npt.NDArray[np.float32]], rows: range, shared: Path, folder: Path, parameters: Any
    ) -> None:
        """Write the vectors block by block."""
        with (folder / _VECTORS).open("wb") as file:
            for block in vectors:
                file.write(block.astype(np.float16).tobytes())

    @staticmethod
    def indivisible() -> None:
        """Return None: blocks are cut across all rows. In another block, a sum of products might be rounded
        differently."""

    @staticmethod
    def check(segment: IndexSegment, shared: Path, dimensions: int) -> None:
        """Map a segment's vectors."""
        _mapped(segment, dimensions)

    @staticmethod
    def merge(parts: list[IndexSegment], deleted: list[Rows], shared: Path, folder: Path, parameters: Any) -> bool:
        """Concatenate the files; a vector's position is its row, so none is dropped."""
        with (folder / _VECTORS).open("wb") as file:
            for part in parts:
                with (part.folder / _VECTORS).open("rb") as own:
                    shutil.copyfileobj(own, file)
        return False

    @compute.owned
    @torch.inference_mode()
    def rank(self, queries: npt.NDArray[np.float32], k: int) -> list[Ranked]:
        """Return the rows of the at most `k` best passages per query; equal scores in row order."""
        best = [BestRows(k) for _ in queries]
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = best[start : start + _QUERIES_AT_ONCE]
            block_of_queries = torch.from_numpy(queries[start : start + _QUERIES_AT_ONCE]).to(self._device)
            for first in range(0, len(self._corpus), _PASSAGES_AT_ONCE):
                rows = range(first, min(first + _PASSAGES_AT_ONCE, len(self._corpus)))
                block = self._block(rows).to(self._device, torch.float32)
                scores = (block_of_queries @ block.T).cpu().numpy()
                scores[:, self._corpus.deleted_in(rows)] = -np.inf
                for of_query, row in zip(some, scores, strict=True):
                    of_query.offer(row, first, above=-np.inf)
        return [of_query.ranked() for of_query in best]

    def _block(self, rows: range) -> torch.Tensor:
        """Return the vectors of these rows, which may be in several segments."""
        pieces = [
            vectors[max(rows.start - own.start, 0) : rows.stop - own.start]
            for own, vectors in self._segments
            if own.start < rows.stop and rows.start < own.stop
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _mapped(segment: IndexSegment, dimensions: int) -> torch.Tensor:
    """Map a segment's vectors [rows, dimensions]. Raises OSError or ValueError if they are incomplete."""
    path, count = segment.folder / _VECTORS, len(segment.rows) * dimensions
    if path.stat().st_size != 2 * count:
        raise ValueError(f"{path} is incomplete")
    probe(path)
    # a private mapping, which is never written to; torch reads it faster than numpy
    mapped = torch.from_file(str(path), shared=False, size=count, dtype=torch.float16)
    return mapped.view(len(segment.rows), dimensions)
