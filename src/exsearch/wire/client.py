"""A dialect from the client's side: how to send queries, and how to read the answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

from exsearch.corpus.passage import Passage

Found = list[tuple[Passage, float | None]]
"""The passages of one query, best first, with their scores if the server returns them."""


class Client(NamedTuple):
    """How to query one kind of server."""

    path: str
    """Path at which its servers answer."""
    batched: bool
    """Whether one request can have many queries."""
    ask: Callable[[list[str], int], dict[str, Any]]
    """(queries, k) -> the JSON body, or the parameters in the URL if `in_url`."""
    read: Callable[[bytes], list[Found]]
    """Body of the response -> the passages of each query. Raises ValueError for another body."""
    in_url: bool = False
