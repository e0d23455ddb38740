"""The interface of all retrievers."""

from typing import Protocol

from exsearch.core.errors import ExSearchError
from exsearch.corpus.passage import Hit


class RetrievalError(ExSearchError):
    """The retriever could not answer. A trajectory in which it is raised ends as `retrieval_failed`.

    >>> class Down:
    ...     fingerprint = "down"
    ...     def search(self, queries: list[str], k: int) -> list[list[xs.Hit]]:
    ...         raise xs.RetrievalError("the search server is down")
    >>> retriever: xs.Retriever = Down()
    """


class Retriever(Protocol):
    """Searches one corpus, with one call for many queries.

    An agent can search anything that has these two:

    >>> class Nothing:
    ...     fingerprint = "nothing"
    ...     def search(self, queries: list[str], k: int) -> list[list[xs.Hit]]:
    ...         return [[] for _ in queries]
    >>> retriever: xs.Retriever = Nothing()
    """

    fingerprint: str
    """Identifies corpus, kind and parameters. Equal fingerprints give equal hits."""

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, best first. Raises RetrievalError, or ValueError for k < 1."""
        ...
