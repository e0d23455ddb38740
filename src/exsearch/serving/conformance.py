"""Checks of a retrieval server, anybody's: what the clients of each dialect send, and what they need back.

A check is a function that asserts; `run_checks` runs those of a dialect.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from exsearch.core.errors import UsageError, nearest
from exsearch.serving.probe import SECONDS, Probe, need

DIALECTS = {
    "A": "Search-R1, verl, ASearcher, agent-lightning, slime",
    "A2": "Search-R1's combined retrieval and re-ranking",
    "A3": "ASearcher's page access",
    "B": "SkyRL",
    "C": "ColBERT, SearchLM, DSPy",
    "D": "R1-Searcher",
    "E": "ReSearch, ReCall (FlashRAG)",
    "F": "ZeroSearch",
}


class CheckResult(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    dialect: str
    check: str
    fault: str | None
    """What is wrong; None if the check passed."""


Check = Callable[[Probe], None]
_CHECKS: list[tuple[str, str, Check]] = []


def run_checks(url: str, dialect: str, query: str, api_key: str | None = None) -> Iterator[CheckResult]:
    """Yield the outcome of each check of `dialect` ("all" for every one) as it is done.

    Every request carries the key, if there is one. Raises UsageError for an unknown dialect, for what is no URL, and
    if nothing answers there.
    """
    if dialect != "all" and dialect not in DIALECTS:
        raise UsageError(f"unknown dialect {dialect!r}; known: {', '.join(DIALECTS)}{nearest(dialect, list(DIALECTS))}")
    probe = Probe(url, query, api_key)
    try:
        probe.get("/")
    except (OSError, httpx2.HTTPError) as error:
        raise UsageError(f"{probe.shown}: no server answers there ({error})") from None
    for letter, name, check in _CHECKS:
        if dialect in ("all", letter):
            yield CheckResult(letter, name, _fault(check, probe))


def _fault(check: Check, probe: Probe) -> str | None:
    try:
        check(probe)
    except (TimeoutError, httpx2.TimeoutException):
        return f"no answer within {SECONDS} s"
    except (LookupError, TypeError, ValueError) as error:
        return f"the answer has another shape ({type(error).__name__}: {error})"
    except (AssertionError, OSError, httpx2.HTTPError) as error:
        return str(error) or type(error).__name__
    return None


def _check(dialect: str, name: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        _CHECKS.append((dialect, name, check))
        return check

    return register


def _list(value: Any, length: int | None, what: str) -> list[Any]:
    """Return `value`, which must be a list, of `length` if that is given."""
    need(isinstance(value, list), f"{what} is no list: {str(value)[:100]}")
    need(length is None or len(value) == length, f"{what} has {len(value)} entries, not {length}")
    return list(value)


def _keys(value: Any, what: str, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Return `value`, which must be an object with these keys of these types."""
    need(isinstance(value, dict), f"{what} is no object: {str(value)[:100]}")
    for key, kind in kinds.items():
        need(key in value, f"{what} has no `{key}`: {sorted(value)}")
        need(isinstance(value[key], kind), f"`{key}` of {what} has the wrong type: {str(value[key])[:100]}")
    return dict(value)


def _documents(value: Any, most: int, what: str) -> list[Any]:
    """Return the passages of one query: one to `most`."""
    found = _list(value, None, what)
    need(len(found) > 0, f"{what} is empty; say what this server has passages for (--query)")
    need(len(found) <= most, f"{what} has {len(found)} passages, {most} were asked for")
    return found


def _contents(value: Any, what: str) -> str:
    contents = str(_keys(value, what, contents=str)["contents"])
    title, feed, text = contents.partition("\n")
    need(bool(feed and title and text), f"`contents` of {what} is not a title line and a text: {contents[:80]!r}")
    return contents


def _descending(scores: list[float], what: str) -> None:
    need(all(isinstance(score, int | float) for score in scores), f"a score of {what} is no number")
    need(scores == sorted(scores, reverse=True), f"{what} is not sorted by score: {scores}")


def _scored(value: Any, most: int, what: str) -> list[str]:
    """Check one query's `{document, score}` list; return the contents."""
    found = [_keys(item, what, document=dict, score=(int, float)) for item in _documents(value, most, what)]
    _descending([item["score"] for item in found], what)
    return [_contents(item["document"], what) for item in found]


@_check("A", "a batch with scores")
def _(probe: Probe) -> None:
    asked = {"queries": [probe.query, probe.other, probe.query], "topk": 2, "return_scores": True}
    result = _list(_keys(probe.post("/retrieve", asked).json(), "the answer", result=list)["result"], 3, "`result`")
    first, _, third = (_scored(ranked, 2, "`result`") for ranked in result)
    need(first == third, "one query asked twice in a batch has two answers")


@_check("A", "one query")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": [probe.query], "topk": 3, "return_scores": True}).json()
    _scored(_list(answer["result"], 1, "`result`")[0], 3, "`result`")


@_check("A", "topk may be missing or null")
def _(probe: Probe) -> None:
    for asked in ({"queries": [probe.query], "return_scores": True}, {"queries": [probe.query], "topk": None}):
        answer = _keys(probe.post("/retrieve", asked).json(), "the answer", result=list)
        _documents(_list(answer["result"], 1, "`result`")[0], 1000, "`result`")


@_check("A", "without scores: plain documents")
def _(probe: Probe) -> None:
    for queries in ([probe.query], [probe.query, probe.other], [probe.query] * 3):
        answer = probe.post("/retrieve", {"queries": queries, "topk": 2, "return_scores": False}).json()
        for ranked in _list(_keys(answer, "the answer", result=list)["result"], len(queries), "`result`"):
            for item in _documents(ranked, 2, "`result`"):
                _contents(item, "a document")


@_check("A", "an empty batch, which Search-R1 sends when no rollout searches")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": [], "topk": 3, "return_scores": True}).json()
    _list(_keys(answer, "the answer", result=list)["result"], 0, "`result`")


@_check("A", "an empty query among others does not fail the batch")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"queries": ["", probe.query], "topk": 2, "return_scores": True}).json()
    _scored(_list(answer["result"], 2, "`result`")[1], 2, "`result`")


@_check("A2", "retrieve and re-rank in one request")
def _(probe: Probe) -> None:
    asked = {"queries": [probe.query], "topk_retrieval": 5, "topk_rerank": 2, "return_scores": True}
    answer = _keys(probe.post("/retrieve", asked).json(), "the answer", result=list)
    _scored(_list(answer["result"], 1, "`result`")[0], 2, "`result`")


@_check("A3", "the page of a found URL, null for an unknown one")
def _(probe: Probe) -> None:
    found = probe.post("/retrieve", {"queries": [probe.query], "topk": 1, "return_scores": False}).json()["result"][0]
    url = _keys(_documents(found, 1, "`result`")[0], "a document", url=str)["url"]
    answer = probe.post("/access", {"urls": [url, "no:such/page"]}).json()
    page, unknown = _list(_keys(answer, "the answer", result=list)["result"], 2, "`result`")
    _keys(page, "a page", contents=str)
    need(unknown is None, "an unknown page is not null")


@_check("B", "one query with scores")
def _(probe: Probe) -> None:
    answer = probe.post("/retrieve", {"query": probe.query, "topk": 2, "return_scores": True}).json()
    _scored(_list(_keys(answer, "the answer", result=list)["result"], 1, "`result`")[0], 2, "`result`")


def _colbert(answer: Any, most: int) -> list[str]:
    topk = _keys(answer, "the answer", query=str, topk=list)["topk"]
    found = _documents(topk, most, "`topk`")
    for rank, item in enumerate(found, start=1):
        _keys(item, "an entry of `topk`", text=str, pid=(int, str), rank=int, score=(int, float), prob=(int, float))
        need("|" in item["text"], f"no bar between title and text, where SearchLM cuts: {item['text'][:80]!r}")
        need(item["rank"] == rank, f"rank {item['rank']} at place {rank}")
    _descending([item["score"] for item in found], "`topk`")
    total = sum(item["prob"] for item in found)
    need(abs(total - 1) < 1e-6, f"`prob` sums to {total}, not to 1")
    return [item["text"] for item in found]


@_check("C", "GET with query and k in the URL")
def _(probe: Probe) -> None:
    _colbert(probe.get("/api/search?" + urlencode({"query": probe.query, "k": 3})).json(), 3)


@_check("C", "k may be missing and is 10 then")
def _(probe: Probe) -> None:
    _colbert(probe.get("/api/search?" + urlencode({"query": probe.query})).json(), 10)


@_check("C", "the answer names the query, percent-encoded or with plus signs")
def _(probe: Probe) -> None:
    query = f"{probe.query} R&D + 100% C#"
    for encoded in (quote(query, safe=""), urlencode({"": query})[1:]):
        found = probe.get(f"/api/search?query={encoded}&k=3").json()["query"]
        need(found == query, f"asked for {query!r}, answered {found!r}")


@_check("C", "a query that is not URL-encoded, as SearchLM writes it")
def _(probe: Probe) -> None:
    for query in (probe.query, f"{probe.query} Zürich, R&D"):
        answer = probe.get_unencoded(f"/api/search?query={query}&k=3").json()
        need(answer["query"] == query, f"asked for {query!r}, answered {answer['query']!r}")
        _colbert(answer, 3)


@_check("C", "POST of query and k as JSON, which DSPy's client can do")
def _(probe: Probe) -> None:
    _colbert(probe.post("/api/search", {"query": probe.query, "k": 3}).json(), 3)


@_check("C", "an error is an HTTP error with error and message")
def _(probe: Probe) -> None:
    reply = probe.get("/api/search?k=3")
    need(400 <= reply.status < 500, f"HTTP {reply.status} for a request without a query")
    reply = probe.get("/api/search?" + urlencode({"query": probe.query, "k": "three"}))
    need(400 <= reply.status < 500, f"HTTP {reply.status} for k=three")
    _keys(json.loads(reply.body), "the answer", error=bool, message=str)


@_check("D", "a batch of queries, passages as strings")
def _(probe: Probe) -> None:
    queries = [probe.query, probe.other]
    answer = probe.post("/queries", {"queries": queries, "k": 2}).json()
    _keys(answer, "the answer", queries=list, answers=list)
    need(answer["queries"] == queries, "`queries` are not those of the request")
    for found in _list(answer["answers"], 2, "`answers`"):
        need(all(isinstance(text, str) for text in _documents(found, 2, "`answers`")), "a passage is no string")


@_check("E", "search for one query, without and with scores")
def _(probe: Probe) -> None:
    plain = probe.post("/search", {"query": probe.query, "top_n": 2}).json()
    found = [_keys(item, "a document", id=str, contents=str) for item in _documents(plain, 2, "the answer")]
    documents, scores = _list(
        probe.post("/search", {"query": probe.query, "top_n": 2, "return_score": True}).json(), 2, "the scored answer"
    )
    need(documents == plain, "other passages with scores than without")
    _descending(_list(scores, len(found), "the scores"), "the answer")


@_check("E", "batch search, without and with scores")
def _(probe: Probe) -> None:
    asked = {"query": [probe.query, probe.other], "top_n": 2}
    plain = _list(probe.post("/batch_search", asked).json(), 2, "the answer")
    for found in plain:
        for item in _documents(found, 2, "the answer"):
            _keys(item, "a document", id=str, contents=str)
    documents, scores = _list(
        probe.post("/batch_search", {**asked, "return_score": True}).json(), 2, "the scored answer"
    )
    need(documents == plain, "other passages with scores than without")
    for found, its_scores in zip(plain, _list(scores, 2, "the scores"), strict=True):
        _descending(_list(its_scores, len(found), "the scores"), "the answer")


@_check("E", "health names the retrievers")
def _(probe: Probe) -> None:
    answer = _keys(probe.get("/health").json(), "the answer", status=str, retrievers=dict)
    _keys(answer["retrievers"], "`retrievers`", total=int, available=int)


@_check("F", "one query, a bare list")
def _(probe: Probe) -> None:
    for item in _documents(probe.post("/retrieve", {"query": probe.query, "top_k": 2}).json(), 2, "the answer"):
        _keys(item, "a passage", text=str)


_VALID: dict[str, tuple[str, Callable[[str, int], dict[str, Any]]]] = {
    "A": ("/retrieve", lambda query, k: {"queries": [query], "topk": k, "return_scores": True}),
    "A2": ("/retrieve", lambda query, k: {"queries": [query], "topk_retrieval": k, "topk_rerank": k}),
    "B": ("/retrieve", lambda query, k: {"query": query, "topk": k, "return_scores": True}),
    "C": ("/api/search", lambda query, k: {"query": query, "k": k}),
    "D": ("/queries", lambda query, k: {"queries": [query], "k": k}),
    "E": ("/search", lambda query, k: {"query": query, "top_n": k}),
    "F": ("/retrieve", lambda query, k: {"query": query, "top_k": k}),
}
"""Of each dialect the path and a request for one query."""


def _refusals(dialect: str) -> None:
    """Register the checks that bad input gets a client error and does no harm."""
    path, valid = _VALID[dialect]
    bad: dict[str, Callable[[str], Any]] = {
        "k = 0": lambda query: valid(query, 0),
        "k = -1": lambda query: valid(query, -1),
        "k = 1,000,000": lambda query: valid(query, 1_000_000),
        "an empty query": lambda query: valid("", 3),
        "control characters": lambda query: valid(f"{query}\x00\x1b[2J", 3),
        "a query of 10 MB": lambda query: valid("word " * 2_000_000, 3),
        "invalid JSON": lambda query: json.dumps(valid(query, 3)).encode()[:-2],
        "JSON that is no object": lambda query: [query],
        "bytes that are not UTF-8": lambda query: json.dumps(valid(query, 3)).encode() + b"\xff",
        "a number as the query": lambda query: {**valid(query, 3), **dict.fromkeys(valid(query, 3).keys() & _NAMES, 5)},
    }
    for name, content in bad.items():

        def refused(probe: Probe, content: Callable[[str], Any] = content) -> None:
            reply = probe.post(path, content(probe.query))
            need(400 <= reply.status < 500, f"HTTP {reply.status}: {reply.body[:200]!r}")
            need(probe.post(path, valid(probe.query, 3)).status == 200, "the next request is not answered")

        _check(dialect, f"refused: {name}")(refused)

    def survives(probe: Probe) -> None:
        for _ in range(5):
            probe.hang_up(path, valid(probe.query, 3))
        time.sleep(0.1)
        need(probe.post(path, valid(probe.query, 3)).status == 200, "the next request is not answered")

    _check(dialect, "survived: clients that hang up")(survives)


_NAMES = {"query", "queries"}
for _dialect in _VALID:
    _refusals(_dialect)
