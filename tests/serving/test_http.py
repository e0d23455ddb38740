"""The retrieval server over real connections: it answers, refuses clearly, and lives on."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from exsearch.core.errors import UsageError
from exsearch.corpus.store import Corpus
from exsearch.network.api_key import read_api_key
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.app import retrieval_app
from exsearch.serving.conformance import DIALECTS, run_checks
from exsearch.serving.limits import Limits
from exsearch.serving.uvicorn_server import HardenedHttp, open_socket
from serving_server import PASSAGES, ScriptedRetriever, running, tiny_index

QUERY = "capital of France"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> tuple[Retriever, Corpus]:
    return tiny_index(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def url(index: tuple[Retriever, Corpus]) -> Iterator[str]:
    with running(retrieval_app(*index, Limits())) as url:
        yield url


def send(
    url: str, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, decoded where it is JSON; GET without a body, else POST."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method or ("GET" if body is None else "POST"), path, content, headers or {})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    named = {name.lower(): value for name, value in response.getheaders()}
    return response.status, named, json.loads(data) if named["content-type"] == "application/json" else data.decode()


def search(url: str, *queries: str, k: int = 3) -> tuple[int, dict[str, str], Any]:
    return send(url, "/retrieve", {"queries": queries, "topk": k, "return_scores": True})


def metric(url: str, name: str) -> float:
    lines = send(url, "/metrics")[2].splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(name)))


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_server_passes_the_conformance_suite(url: str, dialect: str) -> None:
    results = list(run_checks(url, dialect, QUERY))
    assert len(results) >= 1
    assert [result for result in results if result.fault is not None] == []


def test_the_answer_is_that_of_the_index(url: str, index: tuple[Retriever, Corpus]) -> None:
    [hits] = index[0].search([QUERY], 2)
    found = search(url, QUERY, k=2)[2]["result"][0]
    assert [(item["document"]["id"], item["score"]) for item in found] == [(hit.passage.id, hit.score) for hit in hits]


def test_health_description_and_openapi(url: str) -> None:
    health = send(url, "/health")[2]
    assert (health["status"], health["retrievers"]) == ("healthy", {"total": 1, "available": 1})
    assert re.fullmatch("[0-9a-f]{16}", health["fingerprint"])
    assert send(url, "/healthz")[2] == {"status": "ok"}
    assert f"{len(PASSAGES)} passages" in send(url, "/")[2]
    described = send(url, "/openapi.json")[2]
    paths = set(described["paths"])
    assert paths >= {
        "/retrieve",
        "/access",
        "/api/search",
        "/queries",
        "/search",
        "/batch_search",
        "/health",
        "/metrics",
    }
    references = set(json.dumps(described).split('"#/components/schemas/')[1:])
    assert {reference.split('"')[0] for reference in references} <= set(described["components"]["schemas"])
    body = described["paths"]["/retrieve"]["post"]["requestBody"]["content"]["application/json"]
    assert {variant["$ref"].rpartition("/")[2] for variant in body["schema"]["anyOf"]} == {
        *("SearchR1", "SearchR1Rerank", "SkyRL", "ZeroSearch", "ColBERT")
    }


def test_any_url_with_a_query_is_a_search_for_dspy(url: str) -> None:
    assert send(url, "/?query=capital+of+France&k=1")[2]["topk"][0]["pid"] == 11
    assert send(url, "/some/where?query=capital+of+Italy")[2]["topk"][0]["pid"] == 12


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("POST", "/nowhere", {"queries": ["x"]}, 404),
        ("PUT", "/retrieve", {"queries": ["x"]}, 405),
        ("POST", "/retrieve", {"queries": ["x"] * 101, "topk": 1000}, 400),
        ("POST", "/retrieve", {"queries": ["x"] * 5000}, 400),
        ("POST", "/retrieve", {"queries": ["word " * 2000]}, 400),
        ("POST", "/retrieve", b"[" * 100_000, 400),
        ("POST", "/retrieve", b"", 400),
        ("POST", "/retrieve", b'{"queries": ["\\ud800"]}', 400),
        ("GET", "/api/search?query=x&k=101", None, 400),
        ("POST", "/access", {"urls": 5}, 400),
    ],
)
def test_a_wrong_request_gets_a_client_error_that_says_why(
    url: str, method: str, path: str, body: Any, status: int
) -> None:
    answered, _, content = send(url, path, body, method=method)
    assert answered == status
    assert content["error"] is True
    assert content["message"] == content["detail"] != ""
    assert search(url, QUERY)[0] == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"queries": ', "the body: not valid JSON (it ends too early)"),
        (b'{"queries": NaN}', "the body: not valid JSON (NaN is not JSON; write null)"),
        (b"", "the body: empty, where JSON must be"),
        (b"\xff", "the body: not UTF-8 (byte 1)"),
        (b"\x1f\x8b\x08\x00", "the body: packed by gzip; unpack it first (gunzip)"),
        (b"[1]", "the body must be a JSON object"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_once(url: str, body: bytes, message: str) -> None:
    status, _, content = send(url, "/retrieve", body)
    assert (status, content["message"]) == (400, message)


def test_a_client_that_closes_after_a_long_body_still_sees_why_it_was_refused(url: str) -> None:
    status, _, content = send(url, "/retrieve", {"queries": ["x" * 20_000_000]}, {"Connection": "close"})
    assert status == 413
    assert "the maximum is 4194304" in content["message"]


def test_a_request_line_in_pieces_and_what_is_no_http_at_all(url: str) -> None:
    with connected(url) as connection:
        for piece in (b"GET /api/search?query=capital of", b" Fran", b"ce&k=1 HTTP/1.1\r", b"\nHost: x\r\n", b"\r\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        received = b""
        while b'"topk"' not in received:
            received += connection.recv(65536)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")  # the connection goes on
        received = b""
        while b'{"status":"ok"}' not in received:
            received += connection.recv(65536)
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"\r\n\r\n\r\n", b"GET \xff\xfe\r\n\r\n"):
        with connected(url) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)
    assert search(url, QUERY)[0] == 200


def test_no_part_of_an_answer_waits_for_the_acknowledgement_of_another() -> None:
    with open_socket("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()):
        connection, _ = server.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_with_an_api_key_only_its_holders_are_answered(index: tuple[Retriever, Corpus], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n", encoding="utf-8-sig")  # as Windows' editor writes it
    key = read_api_key(tmp_path / "key")
    with running(retrieval_app(*index, Limits(), key)) as url:
        for headers in ({}, {"X-API-Key": "s3cre"}, {"Authorization": "Bearer S3CRET"}, {"Authorization": "s3cret"}):
            for path in ("/retrieve", "/", "/metrics", "/openapi.json", "/api/search?query=x"):
                status, answered, content = send(url, path, None, headers)
                assert status == 401
                assert answered["www-authenticate"] == "Bearer"
                assert "API key" in content["message"]
        assert send(url, "/retrieve", {"queries": [QUERY]}, {"Authorization": "Bearer s3cret"})[0] == 200
        assert send(url, "/retrieve", {"queries": [QUERY]}, {"X-API-Key": "s3cret"})[0] == 200
        assert send(url, "/health")[0] == send(url, "/healthz")[0] == 200
        assert [result for result in run_checks(url, "all", QUERY, key) if result.fault is not None] == []
        assert all(result.fault is not None for result in run_checks(url, "search-r1", QUERY))


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", "schlüssel".encode()])
def test_a_bad_key_file_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(UsageError, match="key"):
        read_api_key(tmp_path / "key")
    with pytest.raises(UsageError, match="no such file"):
        read_api_key(tmp_path / "missing")


def test_what_waits_while_the_retriever_is_busy_is_searched_for_together(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()
    retriever = ScriptedRetriever(lambda queries: (go_on.wait(20), None)[1])
    with running(retrieval_app(retriever, index[1], Limits())) as url, ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(search, url, "first")]
        wait_until(lambda: retriever.calls)
        answers += [pool.submit(search, url, f"query {number % 5}", "again", k=2) for number in range(10)]
        answers += [pool.submit(search, url, "other k", k=4)]
        wait_until(lambda: metric(url, "exsearch_queue_depth") == 11)
        assert metric(url, "exsearch_requests_in_flight") == 12
        go_on.set()
        results = [answer.result()[2]["result"] for answer in answers]
    assert [len(result) for result in results] == [1] + [2] * 10 + [1]
    assert [len(result[0]) for result in results] == [3] + [2] * 10 + [4]
    # one call for each k, and no query twice
    assert sorted(map(sorted, retriever.calls)) == [
        ["again", *(f"query {number}" for number in range(5))],
        ["first"],
        ["other k"],
    ]


def test_a_full_server_says_so_and_when_to_come_back(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()
    retriever = ScriptedRetriever(lambda queries: (go_on.wait(20), None)[1])
    with running(retrieval_app(retriever, index[1], Limits(requests=2))) as url, ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(search, url, "x") for _ in range(2)]
        wait_until(lambda: metric(url, "exsearch_requests_in_flight") == 2)
        status, headers, content = search(url, "y")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "in flight" in content["message"]
        assert metric(url, "exsearch_rejected_total") == 1
        assert send(url, "/health")[0] == 200
        go_on.set()
        assert [answer.result()[0] for answer in answers] == [200, 200]
        assert search(url, "y")[0] == 200


def test_a_search_that_takes_too_long_is_given_up(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()
    retriever = ScriptedRetriever(lambda queries: (go_on.wait(20), None)[1])
    with running(retrieval_app(retriever, index[1], Limits(seconds=0.2))) as url:
        assert search(url, "slow")[0] == 504
        assert search(url, "never begun")[0] == 504
        go_on.set()
        wait_until(lambda: search(url, "quick")[0] == 200)
    assert ["never begun"] not in retriever.calls


def test_a_body_that_does_not_arrive_is_given_up(index: tuple[Retriever, Corpus]) -> None:
    with running(retrieval_app(*index, Limits(seconds=0.2))) as url:
        with connected(url) as connection:
            connection.sendall(b"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 408 ")


def test_nobody_searches_for_a_client_that_hung_up(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()
    retriever = ScriptedRetriever(lambda queries: (go_on.wait(20), None)[1])
    with running(retrieval_app(retriever, index[1], Limits())) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(search, url, "first")
        wait_until(lambda: retriever.calls)
        body = json.dumps({"queries": ["gone"]}).encode()
        with connected(url) as connection:
            head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_until(lambda: metric(url, "exsearch_requests_in_flight") == 2)
        wait_until(lambda: metric(url, "exsearch_requests_in_flight") == 1)
        go_on.set()
        assert first.result()[0] == 200
        assert search(url, "next")[0] == 200
    assert ["gone"] not in retriever.calls


def test_a_retriever_that_cannot_answer_is_a_503_and_the_server_lives_on(index: tuple[Retriever, Corpus]) -> None:
    def fail(queries: list[str]) -> None:
        if "fail" in queries:
            raise RetrievalError("the remote index is away")

    with running(retrieval_app(ScriptedRetriever(fail), index[1], Limits())) as url:
        status, headers, content = search(url, "fail")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "the remote index is away" in content["message"]
        assert search(url, "fine")[0] == 200


def test_a_query_that_crashes_the_retriever_fails_alone(index: tuple[Retriever, Corpus]) -> None:
    go_on = threading.Event()

    def crash(queries: list[str]) -> None:
        go_on.wait(20)
        if "crash" in queries:
            raise ZeroDivisionError

    retriever = ScriptedRetriever(crash)
    with running(retrieval_app(retriever, index[1], Limits())) as url, ThreadPoolExecutor(3) as pool:
        first = pool.submit(search, url, "first")
        wait_until(lambda: retriever.calls)
        crashing, other = pool.submit(search, url, "crash"), pool.submit(search, url, "other")
        wait_until(lambda: metric(url, "exsearch_queue_depth") == 2)
        go_on.set()
        assert (first.result()[0], crashing.result()[0], other.result()[0]) == (200, 500, 200)
        assert "internal error" in crashing.result()[2]["message"]


def test_bad_queries_among_good_ones_get_no_hits(url: str) -> None:
    status, _, content = search(url, "", QUERY, "\x00", "x" * 10_000, QUERY)
    assert status == 200
    assert [len(ranked) > 0 for ranked in content["result"]] == [False, True, False, False, True]
    assert search(url, "", " \n ")[0] == 400


def test_pages_are_passages_and_unknown_ones_null(url: str) -> None:
    pages = send(url, "/access", {"urls": ["d-4", "https://example.org/", "11"]})[2]["result"]
    assert [None if page is None else page["contents"] for page in pages] == [
        '""\nNo title, but capital letters.',
        None,
        '"France"\nThe capital of France is Paris.',
    ]


class WrongServer(BaseHTTPRequestHandler):
    """Answers every POST as Search-R1's own server does two queries without scores, and errors with HTTP 200."""

    def do_GET(self) -> None:
        self._say({"error": True, "message": "no"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say({"result": [[[{"contents": '"T"\nx'}]], [[1.0]]]})

    def _say(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def test_the_conformance_suite_finds_what_a_wrong_server_does_wrong() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), WrongServer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        results = list(run_checks(f"http://127.0.0.1:{server.server_port}", "all", QUERY))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    passed = [result.check for result in results if result.fault is None]
    assert {check for check in passed if not check.startswith("survived")} == set()
    faults = {(result.dialect, result.check): result.fault for result in results}
    batch = str(faults["search-r1", "a batch with scores"])
    assert "no list" in batch or "entries" in batch
    assert "200" in str(faults["colbert", "an error is an HTTP error with error and message"])


def test_the_conformance_suite_refuses_what_is_no_server() -> None:
    for url, dialect in (
        ("localhost:8000", "all"),
        ("ftp://x", "all"),
        ("http://127.0.0.1:1", "all"),
        ("http://x", "Q"),
    ):
        with pytest.raises(UsageError):
            list(run_checks(url, dialect, QUERY))


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_whose_request_does_not_arrive_is_cut_off(
    index: tuple[Retriever, Corpus], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(HardenedHttp, "head_seconds", 0.3)
    with running(retrieval_app(*index, Limits())) as url, connected(url) as connection:
        connection.sendall(sent)
        assert ends(connection)
        assert send(url, "/health")[0] == 200


def test_a_later_request_that_does_not_arrive_is_cut_off_and_an_idle_connection_is_not(
    index: tuple[Retriever, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HardenedHttp, "head_seconds", 0.3)
    with running(retrieval_app(*index, Limits())) as url, connected(url) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert ends(connection)


def test_a_client_that_does_not_read_holds_a_place_and_is_cut_off(
    index: tuple[Retriever, Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HardenedHttp, "reading_seconds", 1.0)
    body = json.dumps({"queries": ["x"] * 60_000, "topk": 1, "return_scores": True}).encode()
    head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    limits = Limits(requests=1, queries=100_000)
    with running(retrieval_app(ScriptedRetriever(), index[1], limits)) as url, connected(url) as connection:
        connection.sendall(head + body)
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert search(url, "y")[0] == 503
        wait_until(lambda: metric(url, "exsearch_requests_in_flight") == 0)  # though nothing more has been read
        assert search(url, "y")[0] == 200


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        yield connection


def ends(connection: socket.socket) -> bool:
    """Whether the server ends the connection before the time-out."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
