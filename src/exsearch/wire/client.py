"""A dialect from the client's side: how to ask, and how to read the answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

from exsearch.corpus.passage import Passage

Found = list[tuple[Passage, float | None]]
"""The passages of one query, best first, with their scores where the server gives any."""


class Client(NamedTuple):
    """How one kind of server is asked."""

    path: str
    """Where its servers answer."""
    batched: bool
    """Whether one request takes many queries."""
    ask: Callable[[list[str], int], dict[str, Any]]
    """(queries, k) -> the JSON body, or the parameters in the URL where `in_url`."""
    read: Callable[[bytes], list[Found]]
    """Body of the response -> what was found for each query; raises ValueError if it is no such body."""
    in_url: bool = False
