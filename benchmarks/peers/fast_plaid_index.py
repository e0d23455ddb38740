"""fast-plaid on the processor, at 2 bits per dimension like colbert-ai, with its defaults otherwise."""

from pathlib import Path

import torch
from fast_plaid.search import FastPlaid
from runner import Data, Query, Search, run


def build(data: Data, index: Path, threads: int) -> None:
    """Index the vectors."""
    torch.set_num_threads(threads)
    passages = [torch.from_numpy(data.vectors(row, row + 1)) for row in range(len(data.lengths))]
    FastPlaid(str(index), device="cpu").create(passages, nbits=2, start_from_scratch=0)


def open_index(data: Data, index: Path, threads: int, variant: str) -> Search:
    """Load the index."""
    torch.set_num_threads(threads)
    loaded = FastPlaid(str(index), device="cpu")

    def search(queries: list[Query], k: int) -> list[list[int]]:
        vectors = [torch.from_numpy(query.vectors) for query in queries]
        return [[row for row, _ in found] for found in loaded.search(vectors, top_k=k, show_progress=False)]

    return search


if __name__ == "__main__":
    run(build, open_index, ["fast-plaid", "torch"])
