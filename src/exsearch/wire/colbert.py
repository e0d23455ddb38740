"""ColBERT's server, as SearchLM and DSPy call it."""

import json
import math
import re
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec

from exsearch.core.shape import ShapeError, convert, decode
from exsearch.corpus.passage import Hit, Passage
from exsearch.wire.checking import Checks, need_descending, need_documents, need_object, refusals
from exsearch.wire.client import Client, Found
from exsearch.wire.errors import RequestError
from exsearch.wire.passages import passage_of
from exsearch.wire.probe import Probe, need
from exsearch.wire.request import SearchRequest

_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")


class ColBERT(SearchRequest, frozen=True):
    """ColBERT's server, as SearchLM and DSPy call it: GET with `query` and `k` in the URL, or POST."""

    dialect = "colbert"
    path = "/api/search"
    max_passages = 100

    query: str
    k: int = 10

    def asks(self) -> tuple[list[str], int]:
        """Return the query and k."""
        return [self.query], self.k

    def answer(self, hits: list[list[Hit]]) -> Any:
        """Return title and text in one string; `long_text` is what DSPy's client reads after a POST."""
        [ranked] = hits
        probabilities = _softmax([hit.score for hit in ranked])
        topk = []
        for hit, probability in zip(ranked, probabilities, strict=True):
            # SearchLM splits at the first bar, so the title must not contain one
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


def colbert_get(query_string: bytes) -> ColBERT | None:
    """Read such a request from a URL; None if it has no `query`. Raises RequestError.

    SearchLM writes the query into the URL unencoded: a bare `&` belongs to the query unless another parameter follows,
    and so does a `+` if there are also unencoded spaces.
    """
    raw = query_string.decode("ascii")
    plus_is_space = "%20" not in raw
    parameters: dict[str, str] = {}
    name = ""
    for piece in raw.split("&"):
        if parameter := re.match(r"(\w+)=", piece):
            name = parameter[1]
            parameters.setdefault(name, piece[parameter.end() :])
        elif name == "query":
            parameters[name] += "&" + piece
    if "query" not in parameters:
        return None
    try:
        values = {
            name: unquote(value.replace("+", " ") if plus_is_space else value, errors="strict")
            for name, value in parameters.items()
        }
        return convert(values, ColBERT, strict=False)
    except UnicodeDecodeError:
        raise RequestError(400, "the URL is not UTF-8") from None
    except ShapeError as error:
        raise RequestError(400, f"in the URL: {error}") from None


def _softmax(scores: list[float]) -> list[float]:
    highest = max(scores, default=0.0)
    exponentials = [math.exp(score - highest) for score in scores]
    total = sum(exponentials)
    return [value / total for value in exponentials]


class _ColbertHit(msgspec.Struct):
    text: str
    pid: str | int | None = None
    score: float | None = None


class _ColbertAnswer(msgspec.Struct):
    topk: list[_ColbertHit] | None = None
    error: bool = False
    message: str = ""


def _read(body: bytes) -> list[Found]:
    answer = decode(body, _ColbertAnswer)
    if answer.error or answer.topk is None:
        raise ValueError("no `topk`")
    return [[(_from_bar(hit.text, hit.pid), hit.score) for hit in answer.topk]]


def _from_bar(line: str, id: str | int | None) -> Passage:
    """Take the text before the first bar as the title."""
    title, bar, text = line.partition("|")
    return passage_of(title.strip(), text.strip(), id) if bar else passage_of("", line, id)


CLIENT = Client("/api/search", False, lambda queries, k: {"query": queries[0], "k": k}, _read, in_url=True)
CHECKS = Checks()


def _topk(answer: Any, k: int) -> list[str]:
    topk = need_object(answer, "the answer", query=str, topk=list)["topk"]
    documents = need_documents(topk, k, "`topk`")
    for rank, item in enumerate(documents, start=1):
        need_object(
            item, "an entry of `topk`", text=str, pid=(int, str), rank=int, score=(int, float), prob=(int, float)
        )
        need("|" in item["text"], f"no bar between title and text, where SearchLM splits: {item['text'][:80]!r}")
        need(item["rank"] == rank, f"rank {item['rank']} at place {rank}")
    need_descending([item["score"] for item in documents], "`topk`")
    total = sum(item["prob"] for item in documents)
    need(abs(total - 1) < 1e-6, f"`prob` sums to {total}, not to 1")
    return [item["text"] for item in documents]


@CHECKS.add("colbert", "GET with query and k in the URL")
def _(probe: Probe) -> None:
    _topk(probe.get("/api/search?" + urlencode({"query": probe.query, "k": 3})).json(), 3)


@CHECKS.add("colbert", "k may be missing and then is 10")
def _(probe: Probe) -> None:
    _topk(probe.get("/api/search?" + urlencode({"query": probe.query})).json(), 10)


@CHECKS.add("colbert", "the answer names the query, percent-encoded or with plus signs")
def _(probe: Probe) -> None:
    query = f"{probe.query} R&D + 100% C#"
    for encoded in (quote(query, safe=""), urlencode({"": query})[1:]):
        echo = probe.get(f"/api/search?query={encoded}&k=3").json()["query"]
        need(echo == query, f"asked for {query!r}, answered {echo!r}")


@CHECKS.add("colbert", "a query that is not URL-encoded, as SearchLM writes it")
def _(probe: Probe) -> None:
    for query in (probe.query, f"{probe.query} Zürich, R&D"):
        answer = probe.get_unencoded(f"/api/search?query={query}&k=3").json()
        need(answer["query"] == query, f"asked for {query!r}, answered {answer['query']!r}")
        _topk(answer, 3)


@CHECKS.add("colbert", "POST of query and k as JSON, which DSPy's client can do")
def _(probe: Probe) -> None:
    _topk(probe.post("/api/search", {"query": probe.query, "k": 3}).json(), 3)


@CHECKS.add("colbert", "an error is an HTTP error with error and message")
def _(probe: Probe) -> None:
    reply = probe.get("/api/search?k=3")
    need(400 <= reply.status < 500, f"HTTP {reply.status} for a request without a query")
    reply = probe.get("/api/search?" + urlencode({"query": probe.query, "k": "three"}))
    need(400 <= reply.status < 500, f"HTTP {reply.status} for k=three")
    need_object(json.loads(reply.body), "the answer", error=bool, message=str)


REFUSALS = [*refusals("colbert", "/api/search", lambda query, k: {"query": query, "k": k})]
