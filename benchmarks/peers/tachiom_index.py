"""tachiom with its defaults: token-aware clusters, product quantisation in 32 subspaces, a graph over the centroids."""

from pathlib import Path

import numpy as np
import tachiom
from runner import Data, Query, Search, run


def build(data: Data, index: Path, threads: int) -> None:
    """Build from the files; its thread pool follows RAYON_NUM_THREADS."""
    files = [str(data.encoded / name) for name in ("vectors.npy", "token_ids.npy", "lengths.npy")]
    index.mkdir(parents=True)
    tachiom.Tachiom.build(*files).save(str(index / "index.bin"))


def open_index(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Load the index; `wide` visits more centroids and scores more passages."""
    loaded = tachiom.Tachiom.load(str(index / "index.bin"))
    wide = {"k_centroids": 80, "k_docs_to_score": 4000, "ef_search": 160} if variant == "wide" else {}

    def search(queries: list[Query], k: int) -> list[np.ndarray]:
        if len(queries) == 1:
            return [valid(loaded.search(queries[0].vectors, k, **wide)[1])]
        tokens = np.concatenate([query.vectors for query in queries])
        offsets = np.cumsum([0, *(len(query.vectors) for query in queries)], dtype=np.uint64)
        _, rows = loaded.batch_search(tokens, len(queries), k, offsets=offsets, num_threads=threads, **wide)
        return [valid(row) for row in rows]

    return search


def valid(rows: np.ndarray) -> np.ndarray:
    """Drop the places that it fills up where it found less."""
    return rows[rows != np.iinfo(np.uint32).max]


if __name__ == "__main__":
    run(build, open_index, ["tachiom"])
