"""Retrievers behind a URL: every dialect read right, failures few, bounded and clear."""

import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Hit, Passage
from exsearch.network import http_client
from exsearch.retrieval import remote
from exsearch.retrieval.base import RetrievalError
from exsearch.retrieval.open import open_retriever
from exsearch.retrieval.remote import Remote
from exsearch.wire.registry import CLIENTS
from scripted_server import Asked, Reply, as_json, search_r1, serving


def quick(location: str, **settings: Any) -> Remote:
    return Remote(location, **{"timeout": 60.0, "retries": 2, "backoff": 0.001, **settings})


@pytest.mark.parametrize(
    ("dialect", "asked", "answer", "passage", "score"),
    [
        (
            "search-r1",
            ("POST", "/retrieve", {"queries": ["who?"], "topk": 2, "return_scores": True}),
            {"result": [[{"document": {"id": "7", "contents": '"A title"\nA text\nof two lines'}, "score": 2.5}]]},
            Passage("7", "A title", "A text\nof two lines"),
            2.5,
        ),
        (
            "search-r1",
            ("POST", "/retrieve", {"queries": ["who?"], "topk": 2, "return_scores": True}),
            {"result": [[{"document": {"id": 7, "title": '"T"', "text": "x\ny", "contents": "?"}, "score": -1}]]},
            Passage("7", '"T"', "x\ny"),
            -1.0,
        ),
        (
            "skyrl",
            ("POST", "/retrieve", {"query": "who?", "topk": 2, "return_scores": True}),
            {"result": [[{"document": {"id": "7", "contents": "A title\nA text"}, "score": 2.5}]]},
            Passage("7", "A title", "A text"),
            2.5,
        ),
        (
            "colbert",
            ("GET", "/api/search", {"query": "who?", "k": "2"}),
            {
                "query": "who?",
                "topk": [{"text": "A title | A | text", "pid": 7, "rank": 1, "score": 21.5, "prob": 1.0}],
            },
            Passage("7", "A title", "A | text"),
            21.5,
        ),
        (
            "r1-searcher",
            ("POST", "/queries", {"queries": ["who?"], "k": 2}),
            {"queries": ["who?"], "answers": [["Without a title"]]},
            Passage("5547eb7242c0d992", "", "Without a title"),
            1.0,
        ),
        (
            "flashrag",
            ("POST", "/batch_search", {"query": ["who?"], "top_n": 2, "return_score": True}),
            [[[{"id": "7", "contents": "A title\nA text"}]], [[2.5]]],
            Passage("7", "A title", "A text"),
            2.5,
        ),
        (
            "zerosearch",
            ("POST", "/retrieve", {"query": "who?", "top_k": 2}),
            [{"text": '"A title"\nA text'}],
            Passage("6d7d2aa3967fa2ec", "A title", "A text"),
            1.0,
        ),
    ],
)
def test_a_dialect_is_asked_and_read_as_its_servers_have_it(
    dialect: str, asked: Asked, answer: Any, passage: Passage, score: float
) -> None:
    with serving(lambda request: as_json(answer)) as server:
        assert quick(f"{dialect}+http://{server.address}").search(["who?"], 2) == [[Hit(passage, score, 1)]]
        assert server.asked == [asked]


@pytest.mark.parametrize("dialect", CLIENTS)
def test_every_dialect_of_our_own_server_gives_what_the_index_gives(
    dialect: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("uvicorn", reason="the server needs the extra `serve`")
    from exsearch.serving.app import retrieval_app
    from exsearch.serving.limits import Limits
    from serving_server import running, tiny_index

    retriever, corpus = tiny_index(tmp_path_factory.mktemp("served"))
    queries = ["capital", "", "capital of Italy & Rome +1 ü | ?", "novel", "nothing-of-that-kind"]
    with running(retrieval_app(retriever, corpus, Limits())) as url:
        found = quick(f"{dialect}+{url}").search(queries, 3)
    for hits, expected in zip(found, retriever.search(queries, 3), strict=True):
        assert [hit.passage.text for hit in hits] == [hit.passage.text for hit in expected]
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        if dialect not in ("r1-searcher", "zerosearch"):
            assert [(hit.passage.id, hit.score) for hit in hits] == [(hit.passage.id, hit.score) for hit in expected]
        if dialect != "colbert":  # a bar in a title is not told from the one after it
            assert [hit.passage.title for hit in hits] == [hit.passage.title for hit in expected]


def test_many_queries_are_few_requests_where_the_dialect_has_batches() -> None:
    queries = [f"query {number}" for number in range(150)]
    with serving(search_r1) as server:
        found = quick(f"http://{server.address}/retrieve").search(queries, 2)
        assert [[hit.passage.id for hit in hits] for hits in found] == [[query] * 2 for query in queries]
        assert sorted(len(body["queries"]) for _, _, body in server.asked) == [22, 64, 64]


def test_single_queries_are_sent_a_few_at_a_time() -> None:
    def slow(asked: Asked) -> Reply:
        time.sleep(0.02)
        return as_json([{"text": asked[2]["query"]}])

    queries = [f"query {number}" for number in range(12)]
    with serving(slow) as server:
        found = quick(f"zerosearch+http://{server.address}", concurrency=3).search(queries, 1)
        assert [hits[0].passage.text for hits in found] == queries
        assert 1 < server.most_at_once <= 3


def test_blank_queries_and_repetitions_are_not_sent() -> None:
    with serving(search_r1) as server:
        retriever = quick(f"http://{server.address}")
        found = retriever.search(["a", " ", "b", "a", ""], 1)
        assert [[hit.passage.id for hit in hits] for hits in found] == [["a"], [], ["b"], ["a"], []]
        assert server.asked[0][2]["queries"] == ["a", "b"]
        assert retriever.search([], 1) == []
        with pytest.raises(ValueError, match="at least 1"):
            retriever.search(["a"], 0)


def test_more_passages_than_asked_for_are_cut() -> None:
    with serving(lambda asked: as_json([{"text": str(number)} for number in range(9)])) as server:
        [hits] = quick(f"zerosearch+http://{server.address}").search(["a"], 4)
        assert [(hit.passage.text, hit.score) for hit in hits] == [("0", 1), ("1", 1 / 2), ("2", 1 / 3), ("3", 1 / 4)]


@pytest.mark.parametrize("failure", [429, 502, 503, 504, 0])
def test_a_passing_failure_is_tried_again(failure: int) -> None:
    replies = iter([(failure, {}, b""), (failure, {}, b"")])
    with serving(lambda asked: next(replies, None) or search_r1(asked)) as server:
        [hits] = quick(f"http://{server.address}").search(["a"], 1)
        assert hits[0].passage.id == "a"
        assert len(server.asked) == 3


def test_a_lasting_failure_is_given_up_after_the_retries() -> None:
    with serving(lambda asked: (503, {}, b"")) as server:
        with pytest.raises(RetrievalError, match=rf"{server.address}/retrieve: status 503 \(3 attempts\)"):
            quick(f"http://{server.address}").search(["a"], 1)
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500])
def test_other_failures_are_not_tried_again_and_say_what_the_server_says(status: int) -> None:
    with serving(lambda asked: (status, {"Location": "/elsewhere"}, b"no such \x00 thing" * 100)) as server:
        with pytest.raises(RetrievalError, match=rf"status {status}: 'no such \\x00 thing") as caught:
            quick(f"http://{server.address}").search(["a"], 1)
        assert len(str(caught.value)) < 400
        assert len(server.asked) == 1


def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    in_half_a_minute = formatdate(time.time() + 30, usegmt=True)
    headers = iter([{"Retry-After": "7"}, {"Retry-After": in_half_a_minute}, {"Retry-After": "soon"}])
    with serving(lambda asked: (503, head, b"") if (head := next(headers, None)) else search_r1(asked)) as server:
        quick(f"http://{server.address}", retries=3).search(["a"], 1)
    assert waited[0] == 7
    assert 20 < waited[1] <= 30
    assert waited[2] < 1


def test_a_server_that_asks_for_an_hour_is_given_up_at_once() -> None:
    with serving(lambda asked: (429, {"Retry-After": "3600"}, b"")) as server:
        with pytest.raises(RetrievalError, match="status 429, and the server asks to wait 3600 s"):
            quick(f"http://{server.address}").search(["a"], 1)
        assert len(server.asked) == 1


def test_waits_double_to_a_minute_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    with serving(lambda asked: (503, {}, b"")) as server, pytest.raises(RetrievalError):
        quick(f"http://{server.address}", retries=5, backoff=4.0).search(["a"], 1)
    assert all(most / 2 <= wait <= most for most, wait in zip([4, 8, 16, 32, 60], waited, strict=True))
    assert len(set(waited)) == 5


def test_a_server_that_never_answers_or_drips_is_given_up() -> None:
    def drip(asked: Asked) -> Reply:
        if asked[2]["queries"] == ["silence"]:
            done.wait(5)
        return 200, {"Content-Length": "1000000"}, b"x" * 10

    done = threading.Event()
    with serving(drip) as server:
        retriever = quick(f"http://{server.address}", timeout=0.3)
        for query in ("silence", "a body that does not end"):
            with pytest.raises(RetrievalError, match=r"no answer within 0\.3 s"):
                retriever.search([query], 1)
        done.set()


def test_an_answer_without_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BYTES", 1 << 20)
    with (
        serving(lambda asked: (200, {}, b" " * (2 << 20))) as server,
        pytest.raises(RetrievalError, match="longer than 1 MiB"),
    ):
        quick(f"http://{server.address}").search(["a"], 1)


@pytest.mark.parametrize(
    ("dialect", "body", "complaint"),
    [
        ("search-r1", b"<html>", "not an answer of a search-r1 server: not valid JSON"),
        ("search-r1", b'{"result": [[["doc", 1.0]]]}', r"'result\[0\]\[0\]' must be an object, not a list"),
        ("search-r1", b'{"result": [[{"document": {"id": "1"}, "score": 1}]]}', "neither `contents` nor `text`"),
        ("search-r1", b'{"result": []}', "0 answers to 1 queries"),
        ("skyrl", b'{"result": [[], []]}', "2 answers to 1 queries"),
        ("skyrl", b'{"result": [[{"document": {"contents": "x"}, "score": NaN}]]}', "NaN is not JSON"),
        ("colbert", b'{"error": true, "message": "out of order"}', "reports an error: out of order"),
        ("colbert", b"{}", "no `topk`"),
        ("search-r1", b'{"error": {"message": "index is loading"}}', "the server reports an error: index is loading"),
        ("zerosearch", b'{"error": "no engine"}', "the server reports an error: no engine"),
        ("r1-searcher", b'{"answers": [[null]]}', r"'answers\[0\]\[0\]' must be a string, not null"),
        ("flashrag", b'[[[{"contents": "x"}]]]', "must be a list of 2, not of 1"),
        ("flashrag", b'[[[{"contents": "x"}]], [[]]]', "1 passages and 0 scores"),
        ("zerosearch", b'{"text": "x"}', "must be a list, not an object"),
        ("zerosearch", b"[" * 100_000, "not an answer of a zerosearch server"),
        ("zerosearch", b'[{"text": "\xff"}]', "not an answer of a zerosearch server"),
    ],
)
def test_an_answer_of_another_shape_is_refused_with_what_is_wrong(dialect: str, body: bytes, complaint: str) -> None:
    with serving(lambda asked: (200, {}, body)) as server:
        with pytest.raises(RetrievalError, match=complaint) as caught:
            quick(f"{dialect}+http://{server.address}").search(["a"], 1)
        assert f"http://{server.address}" in str(caught.value)


def test_one_failed_query_fails_the_call() -> None:
    def reply(asked: Asked) -> Reply:
        return (400, {}, b"bad") if asked[2]["query"] == "bad" else as_json([])

    with serving(reply) as server, pytest.raises(RetrievalError, match="status 400"):
        quick(f"zerosearch+http://{server.address}").search(["good", "bad", "fine"], 1)


def test_no_server_at_all_is_said_on_opening() -> None:
    with serving(search_r1) as server:
        address = server.address
    with pytest.raises(RetrievalError, match=rf"{address}/retrieve: .*refused.* \(3 attempts\)"):
        quick(f"http://{address}")


def test_a_query_that_is_not_unicode_is_refused() -> None:
    with serving(search_r1) as server:
        for dialect in ("search-r1", "colbert"):
            with pytest.raises(RetrievalError, match="not valid Unicode"):
                quick(f"{dialect}+http://{server.address}").search(["\ud800"], 1)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [("", "search-r1"), ("/", "search-r1"), ("/retrieve", "search-r1"), ("/api/search", "colbert"),
     ("/queries", "r1-searcher"), ("/batch_search", "flashrag")],
)  # fmt: skip
def test_the_path_tells_the_dialect(path: str, dialect: str) -> None:
    with serving(search_r1) as server:
        told = Remote(f"http://{server.address}{path}").fingerprint
        assert told == Remote(f"{dialect}+http://{server.address}").fingerprint
        assert told == Remote(f"{dialect}+http://{server.address}{path}").fingerprint


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("ftp://host/retrieve", "not the URL of a server"),
        ("http://", "not the URL of a server"),
        ("http://host:99999", "not the URL of a server"),
        ("http://s3cret@host:port/", "http://host:port/: not a URL: Invalid port"),
        ("serchr1+http://s3cret@host", r"serchr1\+http://host: unknown dialect .*; did you mean 'search-r1'"),
        ("http://s3cret@host/find", "http://host/find: put the server's dialect in front"),
    ],
)
def test_a_location_that_cannot_be_one_is_refused(location: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Remote(location)


def test_the_fingerprint_names_the_index_if_the_server_does_else_the_url() -> None:
    seen = []
    for index in ("a", "a", "b", None):
        with serving(search_r1) as server:
            if index is not None:
                server.health = {"status": "healthy", "fingerprint": index}
            seen.append(Remote(f"http://{server.address}").fingerprint)
            seen.append(Remote(f"skyrl+http://{server.address}").fingerprint)
    assert seen[:2] == seen[2:4]
    assert len(set(seen)) == 6


@pytest.mark.parametrize(
    ("user", "sent"), [("s3cret@", "Bearer s3cret"), ("me:s3cret@", "Basic bWU6czNjcmV0"), ("", None)]
)
def test_a_key_in_the_url_is_sent_and_shown_nowhere(user: str, sent: str | None) -> None:
    with serving(lambda asked: (401, {}, b"")) as server:
        retriever = quick(f"http://{user}{server.address}")
        with pytest.raises(RetrievalError, match="status 401") as caught:
            retriever.search(["a"], 1)
        assert [headers.get("Authorization") for headers in server.headers] == [sent, sent]
        assert "s3cret" not in str(caught.value)
        assert retriever.fingerprint == quick(f"http://{server.address}").fingerprint


def test_a_url_an_index_and_a_recording_are_opened_by_their_location(tmp_path: Path) -> None:
    from exsearch.corpus.store import write_corpus
    from exsearch.retrieval.index.build import build_index

    corpus = write_corpus(tmp_path / "corpus", [Passage("1", "Shark", "lives in the sea")])
    build_index(corpus, "bm25", tmp_path / "index")
    file = tmp_path / "searches#1.sqlite"
    with serving(search_r1) as server:
        url = f"http://{server.address}"
        recorded = {location: open_retriever(location, record_to=file) for location in (str(tmp_path / "index"), url)}
        found = {location: recorder.search(["shark"], 1) for location, recorder in recorded.items()}
        assert found[url] == open_retriever(url).search(["shark"], 1)
        assert found[str(tmp_path / "index")] == open_retriever(str(tmp_path / "index")).search(["shark"], 1)
    for location, recorder in recorded.items():
        replay = open_retriever(f"replay:{file}#{recorder.fingerprint}")
        assert replay.search(["shark"], 1) == found[location]
    with pytest.raises(UsageError, match="several indexes"):
        open_retriever(f"replay:{file}")
    with pytest.raises(UsageError, match="is already a recording"):
        open_retriever(f"replay:{file}", record_to=tmp_path / "other")
    with pytest.raises(UsageError, match="not an index folder"):
        open_retriever(str(tmp_path / "nothing"))
