"""exsearch's `bm25` index. Variant `passages` also reads the passages it found, as `search` does."""

from pathlib import Path
from typing import Any

import numpy as np
from runner import Data, Query, Rows, Search, in_threads, run

from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index


def build(data: Data, index: Path, threads: int) -> None:
    """Build the index of the set's corpus."""
    build_index(Corpus.open(data.folder.parent / "corpus"), "bm25", index)


def open_(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Open the index."""
    opened: Any = open_index(index)

    def rank(queries: list[Query], k: int) -> list[np.ndarray]:
        return [rows for rows, _ in opened.rank([query.text for query in queries], k)]

    def search(queries: list[Query], k: int) -> list[Rows]:
        opened.search([query.text for query in queries], k)
        return [[]] * len(queries)

    return in_threads(search if variant == "passages" else rank, threads)


if __name__ == "__main__":
    run(build, open_, ["exsearch", "numba"])
