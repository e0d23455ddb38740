"""The wire formats: what each request asks for, and the exact shape of its answer."""

import math
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.corpus.passage import Hit, Passage
from exsearch.wire.colbert import colbert_get
from exsearch.wire.errors import RequestError
from exsearch.wire.registry import request_at
from exsearch.wire.request import SearchRequest
from exsearch.wire.search_r1 import Access

FRANCE = Passage("11", "France", "Its capital is Paris.\nIt is large.")
NOVEL = Passage("n-2", "1984 |\na novel", "By Orwell | 1949")
HITS = [[Hit(FRANCE, 2.5, 1), Hit(NOVEL, 1.5, 2)], []]
FRANCE_CONTENTS = '"France"\nIts capital is Paris.\nIt is large.'
NOVEL_CONTENTS = '"1984 | a novel"\nBy Orwell | 1949'
FRANCE_DOCUMENT = {
    "id": "11",
    "contents": FRANCE_CONTENTS,
    "title": "France",
    "text": "Its capital is Paris.\nIt is large.",
    "url": "11",
}
NOVEL_DOCUMENT = {
    "id": "n-2",
    "contents": NOVEL_CONTENTS,
    "title": "1984 |\na novel",
    "text": "By Orwell | 1949",
    "url": "n-2",
}


def read(path: str, body: dict[str, Any]) -> SearchRequest:
    asked = msgspec.convert(body, request_at(path, body), strict=False)
    assert isinstance(asked, SearchRequest)
    return asked


def test_search_r1_with_scores() -> None:
    asked = read("/retrieve", {"queries": ["x", "y"], "topk": 4, "return_scores": True})
    assert asked.asks() == (["x", "y"], 4)
    scored = [{"document": FRANCE_DOCUMENT, "score": 2.5}, {"document": NOVEL_DOCUMENT, "score": 1.5}]
    assert asked.answer(HITS) == {"result": [scored, []]}


@pytest.mark.parametrize("scores", [{}, {"return_scores": False}])
def test_search_r1_without_scores_has_plain_documents_which_agent_lightning_can_read_too(scores: Any) -> None:
    answer = read("/retrieve", {"queries": ["x", "y"], **scores}).answer(HITS)
    [[france, novel], none] = answer["result"]
    assert none == []
    assert france == {**FRANCE_DOCUMENT, "document": FRANCE_DOCUMENT}
    assert novel == {**NOVEL_DOCUMENT, "document": NOVEL_DOCUMENT}


@pytest.mark.parametrize("body", [{"queries": []}, {"queries": [], "topk": None}])
def test_search_r1_asks_for_three_unless_it_says_how_many(body: dict[str, Any]) -> None:
    assert read("/retrieve", body).asks() == ([], 3)


@pytest.mark.parametrize(
    ("keys", "k"),
    [
        ({"topk_retrieval": 10, "topk_rerank": 3}, 3),
        ({"topk_rerank": 5}, 5),
        ({"topk_retrieval": 2}, 2),
        ({"topk_retrieval": None, "topk_rerank": None}, 3),
    ],
)
def test_search_r1_with_reranking_asks_for_what_is_left_after_it(keys: dict[str, Any], k: int) -> None:
    asked = read("/retrieve", {"queries": ["x"], "return_scores": True, **keys})
    assert (asked.dialect, asked.asks()) == ("search-r1-rerank", (["x"], k))
    assert asked.answer(HITS[:1])["result"][0][0] == {"document": FRANCE_DOCUMENT, "score": 2.5}


def test_skyrl_sends_one_query_and_gets_one_list() -> None:
    asked = read("/retrieve", {"query": "x", "topk": 2, "return_scores": True})
    assert (asked.dialect, asked.asks()) == ("skyrl", (["x"], 2))
    assert asked.answer(HITS[1:]) == {"result": [[]]}
    assert asked.answer(HITS[:1])["result"][0][1] == {"document": NOVEL_DOCUMENT, "score": 1.5}
    assert read("/retrieve", {"query": "x"}).dialect == "skyrl"


def test_colbert() -> None:
    asked = read("/api/search", {"query": "x", "k": 7})
    assert (asked.dialect, asked.asks(), asked.max_passages) == ("colbert", (["x"], 7), 100)
    answer = asked.answer(HITS[:1])
    assert answer["query"] == "x"
    first, second = answer["topk"]
    probability = 1 / (1 + math.exp(-1))
    text = "France | Its capital is Paris.\nIt is large."
    assert first.pop("prob") == pytest.approx(probability)
    assert first == {"text": text, "pid": 11, "rank": 1, "score": 2.5, "long_text": text}
    assert second["prob"] == pytest.approx(1 - probability)
    assert (second["text"], second["pid"]) == ("1984 /\na novel | By Orwell | 1949", "n-2")
    assert asked.answer([[]]) == {"query": "x", "topk": []}


@pytest.mark.parametrize("path", ["/", "/retrieve", "/search", "/wiki17_abstracts"])
def test_dspy_may_post_to_any_path(path: str) -> None:
    assert read(path, {"query": "x", "k": 2}).dialect == "colbert"


def test_r1_searcher_gets_strings_that_do_not_begin_with_a_number() -> None:
    asked = read("/queries", {"queries": ["x", "y"]})
    assert (asked.dialect, asked.asks()) == ("r1-searcher", (["x", "y"], 3))
    assert asked.answer(HITS) == {"queries": ["x", "y"], "answers": [[FRANCE_CONTENTS, NOVEL_CONTENTS], []]}


def test_flashrag() -> None:
    documents = [{"id": "11", "contents": FRANCE_CONTENTS}, {"id": "n-2", "contents": NOVEL_CONTENTS}]
    one = read("/search", {"query": "x"})
    assert (one.dialect, one.asks(), one.answer(HITS[:1])) == ("flashrag", (["x"], 10), documents)
    assert read("/search", {"query": "x", "top_n": 2, "return_score": True}).answer(HITS[:1]) == [documents, [2.5, 1.5]]
    batch = read("/batch_search", {"query": ["x", "y"], "top_n": 2})
    assert (batch.asks(), batch.answer(HITS)) == ((["x", "y"], 2), [documents, []])
    scored = read("/batch_search", {"query": ["x", "y"], "return_score": True})
    assert scored.answer(HITS) == [[documents, []], [[2.5, 1.5], []]]


def test_zerosearch_gets_a_bare_list() -> None:
    asked = read("/retrieve", {"query": "x", "top_k": 2})
    assert (asked.dialect, asked.asks()) == ("zerosearch", (["x"], 2))
    assert asked.answer(HITS[:1]) == [{"text": FRANCE_CONTENTS}, {"text": NOVEL_CONTENTS}]


def test_unknown_keys_are_ignored_and_numbers_may_be_strings() -> None:
    asked = read("/retrieve", {"queries": ["x"], "topk": "4", "return_scores": "true", "retriever": "e5"})
    assert asked.asks() == (["x"], 4)
    assert "score" in asked.answer(HITS[:1])["result"][0][0]


def test_access() -> None:
    assert request_at("/access", {"urls"}) is Access


@pytest.mark.parametrize(("path", "keys", "status"), [("/nowhere", {"queries"}, 404), ("/retrieve", {"q"}, 400)])
def test_a_body_of_no_dialect_is_refused(path: str, keys: set[str], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        request_at(path, keys)
    assert caught.value.status == status


@given(st.text(), st.integers(1, 100))
def test_a_query_arrives_whichever_way_a_url_encodes_it(query: str, k: int) -> None:
    for encoded in (urlencode({"query": query, "k": k}), f"k={k}&query={quote(query, safe='')}"):
        asked = colbert_get(encoded.encode())
        assert asked is not None
        assert (asked.query, asked.k) == (query, k)


@pytest.mark.parametrize(
    ("url", "query"),
    [
        (b"query=R&D%20spending&k=3", "R&D spending"),
        (b"query=C++%20or%20C&k=3", "C++ or C"),
        (b"query=what+is+a+cat&k=3", "what is a cat"),
        (b"query=100%%20sure&k=3", "100% sure"),
        (b"query=a#b%20&%20c=d&k=3", "a#b & c=d"),
        (b"source=x&query=cats&lang=en&k=3", "cats"),
        (b"query=&k=3", ""),
    ],
)
def test_a_query_that_was_pasted_into_a_url_is_understood(url: bytes, query: str) -> None:
    asked = colbert_get(url)
    assert asked is not None
    assert (asked.query, asked.k) == (query, 3)


def test_a_url_without_a_query_is_no_search_and_a_bad_one_is_refused() -> None:
    assert colbert_get(b"") is None
    assert colbert_get(b"k=3") is None
    for bad in (b"query=x&k=three", b"query=x&k=", b"query=%ff"):
        with pytest.raises(RequestError):
            colbert_get(bad)


@given(st.text(), st.text())
def test_clients_find_title_and_text_again(title: str, text: str) -> None:
    hits = [[Hit(Passage("p", title, text), 1.0, 1)]]
    contents = read("/search", {"query": "x"}).answer(hits)[0]["contents"]
    first, _, rest = contents.partition("\n")
    assert (first, rest) == ('"' + title.replace("\n", " ") + '"', text)
    joined = read("/api/search", {"query": "x", "k": 1}).answer(hits)["topk"][0]["text"]
    bar = joined.index("|")
    assert (joined[:bar], joined[bar + 1 :]) == (title.replace("|", "/") + " ", " " + text)
