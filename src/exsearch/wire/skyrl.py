"""SkyRL: as Search-R1, but with one query."""

from typing import Any

from exsearch.corpus.passage import Hit
from exsearch.wire.checking import Checks, need_list, need_object, need_scored, refusals
from exsearch.wire.client import Client
from exsearch.wire.probe import Probe
from exsearch.wire.request import SearchRequest
from exsearch.wire.search_r1 import read_search_r1, search_r1_answer


class SkyRL(SearchRequest, frozen=True):
    """SkyRL: as Search-R1, but with one query."""

    dialect = "skyrl"
    path = "/retrieve"

    query: str
    topk: int | None = None
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the query and its number of passages: three if `topk` is missing or null."""
        return [self.query], 3 if self.topk is None else self.topk

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return a list of one list."""
        return search_r1_answer(hits, self.return_scores)


CLIENT = Client(
    "/retrieve", False, lambda queries, k: {"query": queries[0], "topk": k, "return_scores": True}, read_search_r1
)
CHECKS = Checks()


@CHECKS.add("skyrl", "one query with scores")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"query": probe.query, "topk": 2, "return_scores": True}).json()
    need_scored(need_list(need_object(answer, "the answer", result=list)["result"], 1, "`result`")[0], 2, "`result`")


REFUSALS = [*refusals("skyrl", "/retrieve", lambda query, k: {"query": query, "topk": k, "return_scores": True})]
