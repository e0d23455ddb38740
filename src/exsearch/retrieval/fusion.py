"""Combines several retrievers: reciprocal rank fusion, and a cross-encoder for the first fused hits.

The score of a passage is the sum of 1 / (k0 + rank) over the retrievers that have it among their first `depth` hits
(Cormack, Clarke and Büttcher, 2009). Only ranks count, since scores of different retrievers are not comparable.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from exsearch.core.fingerprint import fingerprint
from exsearch.corpus.passage import Hit, Passage
from exsearch.retrieval.base import Retriever

if TYPE_CHECKING:
    from exsearch.retrieval.rerank import Reranker


class Fused:
    """Several retrievers of one corpus as one retriever. Passages are identified by id."""

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        k0: int = 60,
        depth: int = 100,
        reranker: "Reranker | None" = None,
        rerank: int = 20,
    ) -> None:
        """Fuse the first `depth` hits of each. With a `reranker`, reorder the first `rerank` fused hits.

        The larger `k0`, the less the first ranks stand out. Raises ValueError without retrievers and for numbers
        below 1.
        """
        if not retrievers or min(k0, depth, rerank) < 1:
            raise ValueError("fusion needs a retriever, and k0, depth and rerank of at least 1")
        self._retrievers = list(retrievers)
        self._k0, self._depth, self._reranker, self._rerank = k0, depth, reranker, rerank
        model = None if reranker is None else [reranker.hash, rerank]
        self.fingerprint = fingerprint(["fused", [member.fingerprint for member in retrievers], k0, depth, model])

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first; equal scores in the order of the retrievers and their hits.

        If `k` is greater than `depth` or `rerank`, `k` hits are fused or reordered instead. With a reranker, the scores
        are the reranker's.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        depth = max(self._depth, k)
        hits_of_each = [retriever.search(queries, depth) for retriever in self._retrievers]
        fused = [self._fuse(rankings) for rankings in zip(*hits_of_each, strict=True)]
        if self._reranker is not None:
            candidates = [[passage for passage, _ in scored[: max(self._rerank, k)]] for scored in fused]
            scores = self._reranker.score(queries, candidates)
            fused = [_best_first(passages, row) for passages, row in zip(candidates, scores, strict=True)]
        return [
            [Hit(passage, score, rank) for rank, (passage, score) in enumerate(scored[:k], start=1)] for scored in fused
        ]

    def _fuse(self, rankings: Sequence[list[Hit]]) -> list[tuple[Passage, float]]:
        passages: dict[str, Passage] = {}
        shares: dict[str, list[float]] = {}
        for hits in rankings:
            ranks: dict[str, int] = {}
            for hit in hits:
                passages.setdefault(hit.passage.id, hit.passage)
                ranks.setdefault(hit.passage.id, hit.rank)  # a server may return a passage twice
            for id, rank in ranks.items():
                shares.setdefault(id, []).append(1 / (self._k0 + rank))
        # fsum is exact: the order of the retrievers must not break ties by rounding
        return _best_first(list(passages.values()), [math.fsum(shares[id]) for id in passages])


def _best_first(passages: list[Passage], scores: list[float]) -> list[tuple[Passage, float]]:
    return sorted(zip(passages, scores, strict=True), key=lambda scored: -scored[1])
