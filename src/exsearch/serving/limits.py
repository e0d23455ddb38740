"""Limits of a single request."""

import re

import msgspec

from exsearch.wire.errors import RequestError

# Tab, line feed and carriage return separate words; other control characters do not belong in a query.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Limits(msgspec.Struct, frozen=True):
    """Limits of a request. The defaults let a trainer send the queries of a whole batch at once."""

    body_bytes: int = 4 << 20
    query_characters: int = 8192
    queries: int = 4096
    """Queries per request."""
    k: int = 1000
    hits: int = 100_000
    """Queries times k."""
    requests: int = 256
    """Requests in progress: being read, waiting, searched for or answered."""
    seconds: float = 60.0
    """Time limit for a body to arrive, and then for the search."""

    def check(self, queries: int, k: int, max_passages: int | None = None) -> None:
        """Raise RequestError for too many `queries` or hits, `k` per query; `max_passages` may lower the limit of k."""
        limit = self.k if max_passages is None else min(max_passages, self.k)
        if not 1 <= k <= limit:
            raise RequestError(400, f"the number of passages must be from 1 to {limit}, got {k}")
        if queries > self.queries:
            raise RequestError(
                400, f"{queries} queries in one request, at most {self.queries} are answered; send fewer"
            )
        if queries * k > self.hits:
            raise RequestError(
                400, f"{queries} queries for {k} passages each: at most {self.hits} passages; send fewer"
            )

    def unsearchable(self, query: str) -> str | None:
        """Return why `query` cannot be searched for, or None if it can."""
        if not query.strip():
            return "is empty"
        if len(query) > self.query_characters:
            return f"has {len(query)} characters, at most {self.query_characters} are searched for"
        return "contains control characters" if _CONTROL.search(query) else None
