"""A search as a server is asked for it."""

from typing import Any, ClassVar

import msgspec

from exsearch.corpus.passage import Hit


class SearchRequest(msgspec.Struct, frozen=True):
    """A request for the best passages of some queries."""

    dialect: ClassVar[str]
    """A letter, as in docs/reference/wire-formats.md."""
    path: ClassVar[str]
    max_passages: ClassVar[int | None] = None
    """The dialect's own bound of the number of passages."""

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and the number of passages for each."""
        raise NotImplementedError

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return the response for the hits of each query, as what JSON can hold."""
        raise NotImplementedError
