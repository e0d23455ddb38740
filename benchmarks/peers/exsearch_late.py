"""exsearch's `late` index, built and searched by its own code with its defaults, at 2 bits per dimension as colbert-ai.

Only its encoder is replaced, by one that looks the vectors up. Finding the candidates is part of the time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from runner import Data, Query, Search, in_threads, run

from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import EncoderInfo
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.late import late


class Stored:
    """Stands for the encoder: finds the vectors of a passage by its text."""

    def __init__(self, data: Data) -> None:
        """Note which text is which; the vectors stay on the disk until they are asked for."""
        self.info = info(data)
        self._data = data
        self._rows = {hash(text): row for row, text in enumerate(data.texts())}

    def encode_passages(
        self, texts: list[str], max_tokens: int, advance: Callable[[int], None] = lambda count: None
    ) -> list[np.ndarray]:
        """Return the vectors of each text."""
        rows = [self._rows[hash(text)] for text in texts]
        advance(len(rows))
        if rows == list(range(rows[0], rows[0] + len(rows))):
            offsets = self._data.offsets[rows[0] : rows[-1] + 2] - self._data.offsets[rows[0]]
            return np.split(self._data.vectors(rows[0], rows[-1] + 1).astype(np.float32), offsets[1:-1])
        return [self._data.vectors(row, row + 1).astype(np.float32) for row in rows]


class Named(NamedTuple):
    """Stands for the encoder of an index that is opened, whose queries come as vectors."""

    info: EncoderInfo


def info(data: Data) -> EncoderInfo:
    """Return what the index says of its encoder."""
    return EncoderInfo("stored", "0", "float16", data.dimensions)


def build(data: Data, index: Path, threads: int) -> None:
    """Build the index of the set's corpus."""
    late.TokenEncoder = lambda id: Stored(data)  # type: ignore[assignment,misc]
    build_index(Corpus.open(data.folder.parent / "corpus"), "late", index, token_bytes=data.dimensions * 2 // 8)


def open_(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Open the index; the rows are taken, the passages not read, as with the other systems."""
    late.TokenEncoder = lambda id: Named(info(data))  # type: ignore[assignment,misc]
    opened: Any = open_index(index)

    def search(queries: list[Query], k: int) -> list[np.ndarray]:
        texts, vectors = [query.text for query in queries], [query.vectors for query in queries]
        return [rows for rows, _ in opened.rank_encoded(texts, vectors, k)]

    return in_threads(search, threads)


if __name__ == "__main__":
    run(build, open_, ["exsearch", "numba"])
