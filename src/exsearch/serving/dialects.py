"""The wire formats that search agents and trainers speak to their retriever.

Each is a request: its fields are the JSON keys, `asks` says what to search for, `answer` makes the response.
Keys that a dialect does not know are ignored, as the clients' own servers do. Several share a path: the keys of the
body tell which it is (`request_at`).
"""

import math
import re
from collections.abc import Collection
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec

from exsearch.core.shape import ShapeError, convert
from exsearch.corpus.passage import Hit, Passage
from exsearch.serving.limits import RequestError


class SearchRequest(msgspec.Struct, frozen=True):
    """A request for the best passages of some queries."""

    dialect: ClassVar[str]
    """A letter, as in docs/serving.md."""
    path: ClassVar[str]
    most: ClassVar[int | None] = None
    """The dialect's own bound of the number of passages."""

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and the number of passages for each."""
        raise NotImplementedError

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return the response for the hits of each query, as what JSON can hold."""
        raise NotImplementedError


class SearchR1(SearchRequest, frozen=True):
    """Search-R1 and what grew from it: verl, ASearcher, agent-lightning, slime."""

    dialect = "A"
    path = "/retrieve"

    queries: list[str]
    topk: int | None = None
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Three passages, as its launch script asks for, if `topk` is missing or null."""
        return self.queries, 3 if self.topk is None else self.topk

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Lists of `{document, score}`; without scores lists of documents."""
        return _search_r1_answer(hits, self.return_scores)


class SearchR1Rerank(SearchRequest, frozen=True):
    """Search-R1's server that retrieves and re-ranks in one request.

    The index's own ranking is the answer: an index that is to be re-ranked is built so (`hybrid`).
    """

    dialect = "A2"
    path = "/retrieve"

    queries: list[str]
    topk_retrieval: int | None = 10
    topk_rerank: int | None = 3
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """As many passages as would be left after re-ranking."""
        retrieved = 10 if self.topk_retrieval is None else self.topk_retrieval
        return self.queries, min(retrieved, 3 if self.topk_rerank is None else self.topk_rerank)

    def answer(self, hits: list[list[Hit]]) -> Any:
        """As SearchR1."""
        return _search_r1_answer(hits, self.return_scores)


class SkyRL(SearchRequest, frozen=True):
    """SkyRL: as SearchR1, but one query."""

    dialect = "B"
    path = "/retrieve"

    query: str
    topk: int | None = None
    return_scores: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Three passages if `topk` is missing or null."""
        return [self.query], 3 if self.topk is None else self.topk

    def answer(self, hits: list[list[Hit]]) -> Any:
        """A list with one list."""
        return _search_r1_answer(hits, self.return_scores)


class ColBERT(SearchRequest, frozen=True):
    """ColBERT's server, as SearchLM and DSPy call it: GET with `query` and `k` in the URL, or POST."""

    dialect = "C"
    path = "/api/search"
    most = 100

    query: str
    k: int = 10

    def asks(self) -> tuple[list[str], int]:
        """Return the query and k."""
        return [self.query], self.k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Title and text in one string; `long_text` is what DSPy's client reads after a POST."""
        [ranked] = hits
        probabilities = _softmax([hit.score for hit in ranked])
        topk = []
        for hit, probability in zip(ranked, probabilities, strict=True):
            # SearchLM cuts at the first bar: there must be one, and none before it
            text = f"{hit.passage.title.replace('|', '/')} | {hit.passage.text}"
            pid = hit.passage.id
            topk.append(
                {
                    "text": text,
                    "pid": int(pid) if _INTEGER.fullmatch(pid) else pid,
                    "rank": hit.rank,
                    "score": hit.score,
                    "prob": probability,
                    "long_text": text,
                }
            )
        return {"query": self.query, "topk": topk}


class R1Searcher(SearchRequest, frozen=True):
    """R1-Searcher."""

    dialect = "D"
    path = "/queries"

    queries: list[str]
    k: int = 3

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and k."""
        return self.queries, self.k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Passages as strings. The quoted title comes first: clients strip a leading number as the passage's id."""
        answers = [[_contents(hit.passage) for hit in ranked] for ranked in hits]
        return {"queries": self.queries, "answers": answers}


class FlashRAG(SearchRequest, frozen=True):
    """The FlashRAG server of ReSearch and ReCall, one query."""

    dialect = "E"
    path = "/search"

    query: str
    top_n: int = 10
    return_score: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the query and its number of passages."""
        return [self.query], self.top_n

    def answer(self, hits: list[list[Hit]]) -> Any:
        """A bare list of passages; with scores a list of the passages' and the scores' list."""
        [documents], [scores] = _flashrag_answer(hits)
        return [documents, scores] if self.return_score else documents


class FlashRAGBatch(SearchRequest, frozen=True):
    """The same server, several queries."""

    dialect = "E"
    path = "/batch_search"

    query: list[str]
    top_n: int = 10
    return_score: bool = False

    def asks(self) -> tuple[list[str], int]:
        """Return the queries and their number of passages."""
        return self.query, self.top_n

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Lists of passages; with scores a list of the passages' lists and the scores' lists."""
        documents, scores = _flashrag_answer(hits)
        return [documents, scores] if self.return_score else documents


class ZeroSearch(SearchRequest, frozen=True):
    """ZeroSearch in wiki mode."""

    dialect = "F"
    path = "/retrieve"

    query: str
    top_k: int

    def asks(self) -> tuple[list[str], int]:
        """Return the query and its number of passages."""
        return [self.query], self.top_k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """A bare list."""
        return [{"text": _contents(hit.passage)} for hit in hits[0]]


class Access(msgspec.Struct, frozen=True):
    """ASearcher's request for whole pages; here a page is a passage and its URL the passage's id."""

    dialect: ClassVar[str] = "A3"
    path: ClassVar[str] = "/access"

    urls: list[str]


REQUESTS: list[type[SearchRequest] | type[Access]] = [
    SearchR1, SearchR1Rerank, Access, SkyRL, ColBERT, R1Searcher, FlashRAG, FlashRAGBatch, ZeroSearch,
]  # fmt: skip
ANY_PATH = (frozenset({"query", "k"}), ColBERT)
"""DSPy's client posts this to any URL it is given."""
REQUESTS_BY_KEYS: dict[str, list[tuple[frozenset[str], type[SearchRequest] | type[Access]]]] = {
    "/retrieve": [
        ANY_PATH,
        (frozenset({"queries", "topk_retrieval"}), SearchR1Rerank),
        (frozenset({"queries", "topk_rerank"}), SearchR1Rerank),
        (frozenset({"queries"}), SearchR1),
        (frozenset({"query", "top_k"}), ZeroSearch),
        (frozenset({"query"}), SkyRL),
    ],
    **{
        request.path: [ANY_PATH, (frozenset(), request)]
        for request in (Access, ColBERT, R1Searcher, FlashRAG, FlashRAGBatch)
    },
}
"""What a POST to a path is: the first request all of whose keys are in the body."""
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")


def request_at(path: str, keys: Collection[str]) -> type[SearchRequest] | type[Access]:
    """Return the request that a POST to `path` with these keys is. Raises RequestError if it is none."""
    for needed, request in REQUESTS_BY_KEYS.get(path, [ANY_PATH]):
        if needed.issubset(keys):
            return request
    if path not in REQUESTS_BY_KEYS:
        raise RequestError(404, f"nothing is at {path}; searches go to {', '.join(sorted(REQUESTS_BY_KEYS))}")
    raise RequestError(400, "the body has neither `queries`, a list of strings, nor `query`, a string")


def colbert_get(query_string: bytes) -> ColBERT | None:
    """Read dialect C from a URL; None if there is no `query` in it. Raises RequestError.

    SearchLM puts the query into the URL as it is: a bare `&` belongs to it unless it begins another parameter, and so
    does a `+` beside spaces that are not written as one.
    """
    raw = query_string.decode("ascii")
    plus_is_space = "%20" not in raw
    found: dict[str, str] = {}
    name = ""
    for piece in raw.split("&"):
        if parameter := re.match(r"(\w+)=", piece):
            name = parameter[1]
            found.setdefault(name, piece[parameter.end() :])
        elif name == "query":
            found[name] += "&" + piece
    if "query" not in found:
        return None
    try:
        values = {
            name: unquote(value.replace("+", " ") if plus_is_space else value, errors="strict")
            for name, value in found.items()
        }
        return convert(values, ColBERT, strict=False)
    except UnicodeDecodeError:
        raise RequestError(400, "the URL is not UTF-8") from None
    except ShapeError as error:
        raise RequestError(400, f"in the URL: {error}") from None


def document(passage: Passage) -> dict[str, str]:
    """Return a passage as dialect A has it: title and text both joined and apart; `url` is for ASearcher."""
    return {
        "id": passage.id,
        "contents": _contents(passage),
        "title": passage.title,
        "text": passage.text,
        "url": passage.id,
    }


def _contents(passage: Passage) -> str:
    """Return the quoted title as the first line, then the text: clients cut at the first line feed."""
    return f'"{passage.title.replace(chr(10), " ")}"\n{passage.text}'


def _search_r1_answer(hits: list[list[Hit]], scores: bool) -> Any:
    if scores:
        return {"result": [[{"document": document(hit.passage), "score": hit.score} for hit in r] for r in hits]}
    # Search-R1's clients read the document itself here, agent-lightning's its `document`
    plain = [[document(hit.passage) for hit in ranked] for ranked in hits]
    return {"result": [[{**fields, "document": fields} for fields in ranked] for ranked in plain]}


def _flashrag_answer(hits: list[list[Hit]]) -> tuple[list[list[dict[str, str]]], list[list[float]]]:
    documents = [[{"id": hit.passage.id, "contents": _contents(hit.passage)} for hit in ranked] for ranked in hits]
    return documents, [[hit.score for hit in ranked] for ranked in hits]


def _softmax(scores: list[float]) -> list[float]:
    highest = max(scores, default=0.0)
    exponentials = [math.exp(score - highest) for score in scores]
    total = sum(exponentials)
    return [value / total for value in exponentials]
