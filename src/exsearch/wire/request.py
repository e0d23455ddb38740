"""A search request as a server receives it."""

from typing import Any, ClassVar

import msgspec

from exsearch.corpus.passage import Hit


class SearchRequest(msgspec.Struct, frozen=True):
    """A request for the best passages of one or more queries."""

    dialect: ClassVar[str]
    """Name of the wire format, as in docs/reference/wire-formats.md."""
    path: ClassVar[str]
    max_passages: ClassVar[int | None] = None
    """The dialect's own maximum number of passages."""

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and the number of passages for each."""
        raise NotImplementedError

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return the response with the hits of each query, as JSON-serialisable values."""
        raise NotImplementedError
