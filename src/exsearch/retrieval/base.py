"""What every retriever offers."""

from typing import Protocol

from exsearch.core.errors import ExSearchError
from exsearch.corpus.passage import Hit


class RetrievalError(ExSearchError):
    """The retriever could not answer; a trajectory that meets it ends as `retrieval_failed`.

    >>> raise xs.RetrievalError("the search server is down")
    Traceback (most recent call last):
    exsearch.retrieval.base.RetrievalError: the search server is down
    """


class Retriever(Protocol):
    """Searches one corpus. Batch-first: one call for all queries at hand.

    Whatever has these two can be searched by an agent:

    >>> class Nothing:
    ...     fingerprint = "nothing"
    ...     def search(self, queries: list[str], k: int) -> list[list[xs.Hit]]:
    ...         return [[] for _ in queries]
    >>> retriever: xs.Retriever = Nothing()
    """

    fingerprint: str
    """Identifies corpus, kind and parameters: equal fingerprints give equal hits."""

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits a query, best first. Raises RetrievalError, ValueError for k < 1."""
        ...
