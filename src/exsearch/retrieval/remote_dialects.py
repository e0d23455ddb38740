"""The wire formats of retrieval servers, from the client's side: how to ask, and how to read the answer.

Passages come as dialects have them: title and text apart, or both in one string. A passage without an id gets one
from its content; an answer without scores gets 1 / rank.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from exsearch.core.shape import decode
from exsearch.corpus.passage import Passage

Found = list[tuple[Passage, float | None]]
"""The passages of one query, best first, with their scores where the server gives any."""


class Dialect(NamedTuple):
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


class _Document(msgspec.Struct):
    id: str | int | None = None
    contents: str | None = None
    title: str | None = None
    text: str | None = None

    def passage(self) -> Passage:
        if self.text is not None:
            return _passage(self.title or "", self.text, self.id)
        if self.contents is None:
            raise ValueError("a document has neither `contents` nor `text`")
        return _from_contents(self.contents, self.id)


class _ScoredDocument(msgspec.Struct):
    document: _Document
    score: float | None = None


class _SearchR1Answer(msgspec.Struct):
    result: list[list[_ScoredDocument]]


class _ColbertHit(msgspec.Struct):
    text: str
    pid: str | int | None = None
    score: float | None = None


class _ColbertAnswer(msgspec.Struct):
    topk: list[_ColbertHit] | None = None
    error: bool = False
    message: str = ""


class _R1SearcherAnswer(msgspec.Struct):
    answers: list[list[str]]


class _Text(msgspec.Struct):
    text: str


def _read_search_r1(body: bytes) -> list[Found]:
    rankings = decode(body, _SearchR1Answer).result
    return [[(hit.document.passage(), hit.score) for hit in hits] for hits in rankings]


def _read_colbert(body: bytes) -> list[Found]:
    answer = decode(body, _ColbertAnswer)
    if answer.error or answer.topk is None:
        raise ValueError("no `topk`")
    return [[(_from_bar(hit.text, hit.pid), hit.score) for hit in answer.topk]]


def _read_r1_searcher(body: bytes) -> list[Found]:
    rankings = decode(body, _R1SearcherAnswer).answers
    return [[(_from_contents(contents, None), None) for contents in ranking] for ranking in rankings]


def _read_flashrag(body: bytes) -> list[Found]:
    documents, scores = decode(body, tuple[list[list[_Document]], list[list[float]]])
    of_documents, of_scores = ([len(ranking) for ranking in rankings] for rankings in (documents, scores))
    if of_documents != of_scores:
        raise ValueError(f"it has {sum(of_documents)} passages and {sum(of_scores)} scores, which do not go together")
    return [
        [(document.passage(), score) for document, score in zip(*ranking, strict=True)]
        for ranking in zip(documents, scores, strict=True)
    ]


def _read_zerosearch(body: bytes) -> list[Found]:
    return [[(_from_contents(hit.text, None), None) for hit in decode(body, list[_Text])]]


def _from_contents(contents: str, id: str | int | None) -> Passage:
    """Take the first line, quoted or not, as the title; text of one line has none."""
    title, line_feed, text = contents.partition("\n")
    if not line_feed:
        return _passage("", contents, id)
    title = title.strip()
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1]
    return _passage(title, text, id)


def _from_bar(line: str, id: str | int | None) -> Passage:
    """Take what is before the first bar as the title."""
    title, bar, text = line.partition("|")
    return _passage(title.strip(), text.strip(), id) if bar else _passage("", line, id)


def _passage(title: str, text: str, id: str | int | None) -> Passage:
    if id is None:
        id = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=8).hexdigest()
    return Passage(str(id), title, text)


DIALECTS = {
    "search-r1": Dialect(
        "/retrieve", True, lambda queries, k: {"queries": queries, "topk": k, "return_scores": True}, _read_search_r1
    ),
    "skyrl": Dialect(
        "/retrieve", False, lambda queries, k: {"query": queries[0], "topk": k, "return_scores": True}, _read_search_r1
    ),
    "colbert": Dialect(
        "/api/search", False, lambda queries, k: {"query": queries[0], "k": k}, _read_colbert, in_url=True
    ),
    "r1-searcher": Dialect("/queries", True, lambda queries, k: {"queries": queries, "k": k}, _read_r1_searcher),
    "flashrag": Dialect(
        "/batch_search", True, lambda queries, k: {"query": queries, "top_n": k, "return_score": True}, _read_flashrag
    ),
    "zerosearch": Dialect("/retrieve", False, lambda queries, k: {"query": queries[0], "top_k": k}, _read_zerosearch),
}
"""By name; each is spoken by the project of that name and its relatives.

search-r1: verl, ASearcher, agent-lightning, slime; colbert: SearchLM, DSPy; flashrag: ReSearch, ReCall.
"""
