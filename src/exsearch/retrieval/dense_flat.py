"""All vectors as they are, in float16, memory-mapped and compared exactly.

segments/../vectors.f16    the vectors of the segment's passages one after another
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exsearch import compute
from exsearch.retrieval.index import OpenedIndex
from exsearch.retrieval.ranking import Best, Ranked

_PASSAGES_AT_ONCE = 4096
_QUERIES_AT_ONCE = 256
"""Both bound what is held at a time: so many vectors in float32, and 4096 x 256 scores."""


class Flat:
    """Exact search; a query reads all vectors once, queries of one call together."""

    def __init__(self, opened: OpenedIndex, dimensions: int) -> None:
        """Map the vectors; raises OSError or ValueError if they are not complete."""
        self._segments = []
        for segment in opened.segments:
            path, shape = segment.folder / "vectors.f16", (len(segment.rows), dimensions)
            if path.stat().st_size != 2 * shape[0] * shape[1]:
                raise ValueError(f"{path} is incomplete")
            # a private mapping: never written to, and read faster by torch than by numpy
            mapped = torch.from_file(str(path), shared=False, size=shape[0] * shape[1], dtype=torch.float16)
            self._segments.append((segment.rows, mapped.view(shape)))
        self._corpus = opened.corpus
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @staticmethod
    def train(sample: Callable[[int], npt.NDArray[np.float32]], passages: int, shared: Path, parameters: Any) -> None:
        """Nothing is shared."""

    @staticmethod
    def write(
        vectors: Iterator[npt.NDArray[np.float32]], rows: range, shared: Path, folder: Path, parameters: Any
    ) -> None:
        """Write the vectors block by block."""
        with (folder / "vectors.f16").open("wb") as file:
            for block in vectors:
                file.write(block.astype(np.float16).tobytes())

    @compute.owned
    @torch.inference_mode()
    def rank(self, queries: npt.NDArray[np.float32], k: int) -> list[Ranked]:
        """Return the rows of the at most `k` best passages for each query, equal scores in row order."""
        best = [Best(k) for _ in queries]
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            some = best[start : start + _QUERIES_AT_ONCE]
            wanted = torch.from_numpy(queries[start : start + _QUERIES_AT_ONCE]).to(self._device)
            for rows, vectors in self._segments:
                for first in range(0, len(rows), _PASSAGES_AT_ONCE):
                    block = vectors[first : first + _PASSAGES_AT_ONCE].to(self._device, torch.float32)
                    scores = (wanted @ block.T).cpu().numpy()
                    scores[:, self._corpus.deleted_in(rows[first : first + len(block)])] = -np.inf
                    for of_query, row in zip(some, scores, strict=True):
                        of_query.offer(row, rows.start + first, above=-np.inf)
        return [of_query.ranked() for of_query in best]
