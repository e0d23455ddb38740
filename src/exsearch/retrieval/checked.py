"""Checks what a user's own retriever returns, before a trajectory or a client gets it."""

import math

from exsearch.corpus.passage import Hit
from exsearch.retrieval.base import RetrievalError, Retriever


class CheckedRetriever:
    """A user's own retriever, whose answers have the shape of everyone's, or are a RetrievalError that says why not."""

    def __init__(self, retriever: Retriever) -> None:
        """Pass searches on to `retriever`."""
        self._retriever = retriever
        self.fingerprint = retriever.fingerprint

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query. Raises RetrievalError."""
        return checked_hits(self._retriever.search(queries, k), len(queries), k)


def checked_hits(answers: object, queries: int, k: int) -> list[list[Hit]]:
    """Return the answers to a number of `queries` if each is a list of at most `k` sound hits. Raises RetrievalError.

    Hits that are not ranked from 1 would be shown to the model under wrong numbers, and a score that is not finite is
    no JSON.
    """
    if not isinstance(answers, list) or len(answers) != queries:
        raise RetrievalError(f"the retriever did not return one list of hits for each of {queries} queries")
    for hits in answers:
        if not isinstance(hits, list) or len(hits) > k:
            raise RetrievalError(f"the retriever did not return at most {k} hits for a query")
        for rank, hit in enumerate(hits, start=1):
            if fault := _fault(hit, rank):
                raise RetrievalError(f"the retriever did not return sound hits: {fault}")
    return answers


def _fault(hit: object, rank: int) -> str | None:
    """Return what is wrong with the hit at a rank."""
    if not isinstance(hit, Hit):
        return f"hit {rank} is a {type(hit).__name__}, not an exsearch.Hit"
    if hit.rank != rank:
        return f"hit {rank} has the rank {hit.rank}; ranks count from 1"
    if not isinstance(hit.score, (int, float)) or not math.isfinite(hit.score):
        return f"hit {rank} has the score {hit.score}, which is not a finite number"
    passage = hit.passage
    for name in ("id", "title", "text"):
        if not isinstance(value := getattr(passage, name, None), str):
            return f"the {name} of hit {rank} is {value!r}, not a text"
    return None
