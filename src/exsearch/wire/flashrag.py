"""The FlashRAG server of ReSearch and ReCall."""

from typing import Any

from exsearch.core.shape import decode
from exsearch.corpus.passage import Hit
from exsearch.wire.checking import Checks, need_descending, need_documents, need_list, need_object, refusals
from exsearch.wire.client import Client, Found
from exsearch.wire.passages import WireDocument, contents_of
from exsearch.wire.probe import Probe, need
from exsearch.wire.request import SearchRequest


class FlashRAG(SearchRequest, frozen=True):
    """The FlashRAG server of ReSearch and ReCall, one query."""

    dialect = "flashrag"
    path = "/search"

    query: str
    top_n: int = 10
    return_score: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the query and its number of passages."""
        return [self.query], self.top_n

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return a bare list of passages; with scores, a list of the passages and of the scores."""
        [documents], [scores] = _answer(hits)
        return [documents, scores] if self.return_score else documents


class FlashRAGBatch(SearchRequest, frozen=True):
    """The same server, several queries."""

    dialect = "flashrag"
    path = "/batch_search"

    query: list[str]
    top_n: int = 10
    return_score: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and their number of passages."""
        return self.query, self.top_n

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return lists of passages; with scores, the passages' lists and the scores' lists."""
        documents, scores = _answer(hits)
        return [documents, scores] if self.return_score else documents


def _answer(hits: list[list[Hit]]) -> tuple[list[list[dict[str, str]]], list[list[float]]]:
    documents = [[{"id": hit.passage.id, "contents": contents_of(hit.passage)} for hit in ranked] for ranked in hits]
    return documents, [[hit.score for hit in ranked] for ranked in hits]


def _read(body: bytes) -> list[Found]:
    documents, scores = decode(body, tuple[list[list[WireDocument]], list[list[float]]])
    of_documents, of_scores = ([len(ranking) for ranking in rankings] for rankings in (documents, scores))
    if of_documents != of_scores:
        raise ValueError(f"it has {sum(of_documents)} passages and {sum(of_scores)} scores, which do not go together")
    return [
        [(document.passage(), score) for document, score in zip(*ranking, strict=True)]
        for ranking in zip(documents, scores, strict=True)
    ]


CLIENT = Client("/batch_search", True, lambda queries, k: {"query": queries, "top_n": k, "return_score": True}, _read)
CHECKS = Checks()


@CHECKS.add("flashrag", "search for one query, without and with scores")
def _(probe: Probe) -> None:
    plain = probe.post("/search", {"query": probe.query, "top_n": 2}).json()
    for item in need_documents(plain, 2, "the answer"):
        need_object(item, "a document", id=str, contents=str)
    documents, scores = need_list(
        probe.post("/search", {"query": probe.query, "top_n": 2, "return_score": True}).json(), 2, "the scored answer"
    )
    need(documents == plain, "other passages with scores than without")
    need_descending(need_list(scores, len(plain), "the scores"), "the answer")


@CHECKS.add("flashrag", "batch search, without and with scores")
def _(probe: Probe) -> None:
    batch = {"query": [probe.query, probe.other], "top_n": 2}
    plain = need_list(probe.post("/batch_search", batch).json(), 2, "the answer")
    for ranking in plain:
        for item in need_documents(ranking, 2, "the answer"):
            need_object(item, "a document", id=str, contents=str)
    documents, scores = need_list(
        probe.post("/batch_search", {**batch, "return_score": True}).json(), 2, "the scored answer"
    )
    need(documents == plain, "other passages with scores than without")
    for ranking, its_scores in zip(plain, need_list(scores, 2, "the scores"), strict=True):
        need_descending(need_list(its_scores, len(ranking), "the scores"), "the answer")


@CHECKS.add("flashrag", "health names the retrievers")
def _(probe: Probe) -> None:
    answer = need_object(probe.get("/health").json(), "the answer", status=str, retrievers=dict)
    need_object(answer["retrievers"], "`retrievers`", total=int, available=int)


REFUSALS = [*refusals("flashrag", "/search", lambda query, k: {"query": query, "top_n": k})]
