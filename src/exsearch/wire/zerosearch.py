"""ZeroSearch in wiki mode."""

from typing import Any

import msgspec

from exsearch.core.shape import decode
from exsearch.corpus.passage import Hit
from exsearch.wire.checking import Checks, need_documents, need_object, refusals
from exsearch.wire.client import Client, Found
from exsearch.wire.passages import contents_of, from_contents
from exsearch.wire.probe import Probe
from exsearch.wire.request import SearchRequest


class ZeroSearch(SearchRequest, frozen=True):
    """ZeroSearch in wiki mode."""

    dialect = "zerosearch"
    path = "/retrieve"

    query: str
    top_k: int

    def asks(self) -> tuple[list[str], int]:
        """Return the query and its number of passages."""
        return [self.query], self.top_k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return a bare list."""
        return [{"text": contents_of(hit.passage)} for hit in hits[0]]


class _Text(msgspec.Struct):
    text: str


def _read(body: bytes) -> list[Found]:
    return [[(from_contents(hit.text, None), None) for hit in decode(body, list[_Text])]]


CLIENT = Client("/retrieve", False, lambda queries, k: {"query": queries[0], "top_k": k}, _read)
CHECKS = Checks()


@CHECKS.add("zerosearch", "one query, a bare list")
def _(probe: Probe) -> None:
    for item in need_documents(probe.post("/retrieve", {"query": probe.query, "top_k": 2}).json(), 2, "the answer"):
        need_object(item, "a passage", text=str)


REFUSALS = [*refusals("zerosearch", "/retrieve", lambda query, k: {"query": query, "top_k": k})]
