"""Search-R1 and its descendants: verl, ASearcher, agent-lightning, slime."""

from typing import Any, ClassVar

import msgspec

from exsearch.core.shape import decode
from exsearch.corpus.passage import Hit, Passage
from exsearch.wire.checking import Checks, need_contents, need_documents, need_list, need_object, need_scored, refusals
from exsearch.wire.client import Client, Found
from exsearch.wire.passages import WireDocument, contents_of
from exsearch.wire.probe import Probe, need
from exsearch.wire.request import SearchRequest


class SearchR1(SearchRequest, frozen=True):
    """Search-R1 and its descendants: verl, ASearcher, agent-lightning, slime."""

    dialect = "search-r1"
    path = "/retrieve"

    queries: list[str]
    topk: int | None = None
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and their number of passages: three, as in its launch script, if `topk` is missing or
        null."""
        return self.queries, 3 if self.topk is None else self.topk

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return lists of `{document, score}`; without scores, lists of documents."""
        return search_r1_answer(hits, self.return_scores)


class SearchR1Rerank(SearchRequest, frozen=True):
    """The request of Search-R1's server that retrieves and re-ranks at once.

    Nothing is re-ranked here: the answer is the index's own ranking. For re-ranking, build an index that re-ranks
    (`hybrid`).
    """

    dialect = "search-r1-rerank"
    path = "/retrieve"

    queries: list[str]
    topk_retrieval: int | None = 10
    topk_rerank: int | None = 3
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and the number of passages that re-ranking would leave."""
        retrieved = 10 if self.topk_retrieval is None else self.topk_retrieval
        return self.queries, min(retrieved, 3 if self.topk_rerank is None else self.topk_rerank)

    def answer(self, hits: list[list[Hit]]) -> Any:
        """As SearchR1."""
        return search_r1_answer(hits, self.return_scores)


class Access(msgspec.Struct, frozen=True):
    """ASearcher's request for whole pages; here a page is a passage and its URL the passage's id."""

    dialect: ClassVar[str] = "asearcher-access"
    path: ClassVar[str] = "/access"

    urls: list[str]


def document(passage: Passage) -> dict[str, str]:
    """Return a passage as Search-R1's documents are: title and text both joined and apart; `url` is for ASearcher."""
    return {
        "id": passage.id,
        "contents": contents_of(passage),
        "title": passage.title,
        "text": passage.text,
        "url": passage.id,
    }


def search_r1_answer(hits: list[list[Hit]], scores: bool) -> Any:
    """Return lists of `{document, score}`; without scores, lists of documents."""
    if scores:
        return {"result": [[{"document": document(hit.passage), "score": hit.score} for hit in r] for r in hits]}
    # Search-R1's clients read the document itself, agent-lightning's its `document`
    plain = [[document(hit.passage) for hit in ranked] for ranked in hits]
    return {"result": [[{**fields, "document": fields} for fields in ranked] for ranked in plain]}


class _ScoredDocument(msgspec.Struct):
    document: WireDocument
    score: float | None = None


class _SearchR1Answer(msgspec.Struct):
    result: list[list[_ScoredDocument]]


def read_search_r1(body: bytes) -> list[Found]:
    """Read such an answer, with scores. Raises ValueError for another body."""
    rankings = decode(body, _SearchR1Answer).result
    return [[(hit.document.passage(), hit.score) for hit in hits] for hits in rankings]


CLIENT = Client(
    "/retrieve", True, lambda queries, k: {"queries": queries, "topk": k, "return_scores": True}, read_search_r1
)
CHECKS = Checks()


@CHECKS.add("search-r1", "a batch with scores")
def _(probe: Probe) -> None:
    body = {"queries": [probe.query, probe.other, probe.query], "topk": 2, "return_scores": True}
    result = need_list(
        need_object(probe.post("/retrieve", body).json(), "the answer", result=list)["result"], 3, "`result`"
    )
    first, _, third = (need_scored(ranked, 2, "`result`") for ranked in result)
    need(first == third, "one query asked twice in a batch has two answers")


@CHECKS.add("search-r1", "one query")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": [probe.query], "topk": 3, "return_scores": True}).json()
    need_scored(need_list(answer["result"], 1, "`result`")[0], 3, "`result`")


@CHECKS.add("search-r1", "topk may be missing or null")
def _(probe: Probe) -> None:
    for body in ({"queries": [probe.query], "return_scores": True}, {"queries": [probe.query], "topk": None}):
        answer = need_object(probe.post("/retrieve", body).json(), "the answer", result=list)
        need_documents(need_list(answer["result"], 1, "`result`")[0], 1000, "`result`")


@CHECKS.add("search-r1", "without scores: plain documents")
def _(probe: Probe) -> None:
    for queries in ([probe.query], [probe.query, probe.other], [probe.query] * 3):
        answer = probe.post("/retrieve", {"queries": queries, "topk": 2, "return_scores": False}).json()
        for ranked in need_list(need_object(answer, "the answer", result=list)["result"], len(queries), "`result`"):
            for item in need_documents(ranked, 2, "`result`"):
                need_contents(item, "a document")


@CHECKS.add("search-r1", "an empty batch, which Search-R1 sends when no rollout searches")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": [], "topk": 3, "return_scores": True}).json()
    need_list(need_object(answer, "the answer", result=list)["result"], 0, "`result`")


@CHECKS.add("search-r1", "an empty query among others does not fail the batch")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": ["", probe.query], "topk": 2, "return_scores": True}).json()
    need_scored(need_list(answer["result"], 2, "`result`")[1], 2, "`result`")


@CHECKS.add("search-r1-rerank", "retrieve and re-rank in one request")
def _(probe: Probe) -> None:
    body = {"queries": [probe.query], "topk_retrieval": 5, "topk_rerank": 2, "return_scores": True}
    answer = need_object(probe.post("/retrieve", body).json(), "the answer", result=list)
    need_scored(need_list(answer["result"], 1, "`result`")[0], 2, "`result`")


@CHECKS.add("asearcher-access", "the page of a returned URL, null for an unknown one")
def _(probe: Probe) -> None:
    body = {"queries": [probe.query], "topk": 1, "return_scores": False}
    documents = probe.post("/retrieve", body).json()["result"][0]
    url = need_object(need_documents(documents, 1, "`result`")[0], "a document", url=str)["url"]
    answer = probe.post("/access", {"urls": [url, "no:such/page"]}).json()
    page, unknown = need_list(need_object(answer, "the answer", result=list)["result"], 2, "`result`")
    need_object(page, "a page", contents=str)
    need(unknown is None, "an unknown page is not null")


REFUSALS = [
    *refusals("search-r1", "/retrieve", lambda query, k: {"queries": [query], "topk": k, "return_scores": True}),
    *refusals(
        "search-r1-rerank", "/retrieve", lambda query, k: {"queries": [query], "topk_retrieval": k, "topk_rerank": k}
    ),
]
