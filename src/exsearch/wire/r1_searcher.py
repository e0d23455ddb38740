"""R1-Searcher."""

from typing import Any

import msgspec

from exsearch.core.shape import decode
from exsearch.corpus.passage import Hit
from exsearch.wire.checking import Checks, need_documents, need_list, need_object, refusals
from exsearch.wire.client import Client, Found
from exsearch.wire.passages import contents_of, from_contents
from exsearch.wire.probe import Probe, need
from exsearch.wire.request import SearchRequest


class R1Searcher(SearchRequest, frozen=True):
    """R1-Searcher."""

    dialect = "r1-searcher"
    path = "/queries"

    queries: list[str]
    k: int = 3

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and k."""
        return self.queries, self.k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return passages as strings. The quoted title comes first, since clients strip a leading number as an id."""
        answers = [[contents_of(hit.passage) for hit in ranked] for ranked in hits]
        return {"queries": self.queries, "answers": answers}


class _R1SearcherAnswer(msgspec.Struct):
    answers: list[list[str]]


def _read(body: bytes) -> list[Found]:
    rankings = decode(body, _R1SearcherAnswer).answers
    return [[(from_contents(contents, None), None) for contents in ranking] for ranking in rankings]


CLIENT = Client("/queries", True, lambda queries, k: {"queries": queries, "k": k}, _read)
CHECKS = Checks()


@CHECKS.add("r1-searcher", "a batch of queries, passages as strings")
def _(probe: Probe) -> None:
    queries = [probe.query, probe.other]
    answer = probe.post("/queries", {"queries": queries, "k": 2}).json()
    need_object(answer, "the answer", queries=list, answers=list)
    need(answer["queries"] == queries, "`queries` are not those of the request")
    for documents in need_list(answer["answers"], 2, "`answers`"):
        need(all(isinstance(text, str) for text in need_documents(documents, 2, "`answers`")), "a passage is no string")


REFUSALS = [*refusals("r1-searcher", "/queries", lambda query, k: {"queries": [query], "k": k})]
