"""Whatever is sent: no crash, no 500, no hang, and memory that does not grow."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from serving_server import tiny_index

PATHS = ["/retrieve", "/search", "/batch_search", "/queries", "/api/search", "/access", "/", "/health", "/nowhere"]
KEYS = ["query", "queries", "k", "topk", "top_k", "top_n", "topk_retrieval", "topk_rerank", "return_scores"]
KEYS += ["return_score", "urls"]
TOO_LONG = b'{"query": "' + b"x" * 5_000_000 + b'"}'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=10,
)
queries = st.text(max_size=300) | st.sampled_from(["capital of France", "Tiber"] * 3 + ["", "\x00", "x" * 9000])
numbers = st.integers(1, 12) | st.sampled_from([*range(1, 9), 0, 101, 1001, 10**6, 10**30, "3", 3.0, 3.5, None])
flags = st.booleans() | st.sampled_from(["true", None])
batches = st.lists(queries, max_size=6)
# what clients send, with a flaw here and there
DIALECTS = [
    ("/retrieve", {"queries": batches, "topk": numbers, "return_scores": flags}),
    ("/retrieve", {"queries": batches, "topk_retrieval": numbers, "topk_rerank": numbers}),
    ("/retrieve", {"query": queries, "topk": numbers, "return_scores": flags}),
    ("/retrieve", {"query": queries, "top_k": numbers}),
    ("/api/search", {"query": queries, "k": numbers}),
    ("/queries", {"queries": batches, "k": numbers}),
    ("/search", {"query": queries, "top_n": numbers, "return_score": flags}),
    ("/batch_search", {"query": batches, "top_n": numbers, "return_score": flags}),
    ("/access", {"urls": st.lists(st.text(max_size=20) | st.just("11"), max_size=4)}),
]
client_requests = st.sampled_from(DIALECTS).flatmap(
    lambda dialect: st.tuples(
        st.just("POST"), st.just(dialect[0]), st.fixed_dictionaries(dialect[1]).map(json.dumps).map(str.encode)
    )
)
likely = {"query": queries | batches, "queries": batches, "return_scores": flags, "return_score": flags}
objects = st.lists(st.sampled_from(KEYS), unique=True, max_size=5).flatmap(
    lambda keys: st.fixed_dictionaries({key: likely.get(key, numbers) | json_values for key in keys})
)
bodies = st.one_of(
    *[objects.map(json.dumps).map(str.encode)] * 3,
    json_values.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
    st.just(b"[" * 20_000),
    st.none(),  # stands for TOO_LONG, which would make hypothesis slow
)
targets = st.sampled_from(PATHS) | st.text(max_size=20).map(lambda text: "/" + quote_from_bytes(text.encode()))
query_strings = st.one_of(
    st.just(""),
    st.fixed_dictionaries({"query": queries}, optional={"k": numbers}).map(lambda fields: "?" + urlencode(fields)),
    st.binary(max_size=100).map(lambda text: "?query=" + quote_from_bytes(text, safe="&=%+#")),
)
posts = st.tuples(st.just("POST"), st.tuples(targets, query_strings).map("".join), bodies)
gets = st.tuples(st.sampled_from(["GET", "HEAD", "PUT", "OPTIONS"]), st.tuples(targets, query_strings).map("".join))
raw = st.binary(max_size=300) | st.text(max_size=100).map(
    lambda text: f"GET /api/search?query={text}&k=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
)
requests = st.one_of(*[client_requests] * 4, posts, gets, raw)


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Serve the tiny index in a process of its own; yield port and process."""
    tiny_index(folder)
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", "retrieval", str(folder / "index"), "--port", "0"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        found = re.search(r":(\d+) ", process.stderr.readline())
        assert found is not None
        try:
            yield int(found[1]), psutil.Process(process.pid)
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


def send(port: int, request: Any) -> None:
    """Send one generated request; fail for anything but an answer or a refusal."""
    if isinstance(request, bytes):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            try:
                received = b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                received = b""
        assert not received.startswith(b"HTTP/1.1 5")
        return
    method, target, *content = request
    body = TOO_LONG if content == [None] else content[0] if content else None
    client = HTTPConnection("127.0.0.1", port, timeout=60)
    client.request(method, target, body, {"Connection": "close"})
    response = client.getresponse()
    content = response.read()
    client.close()
    assert response.status == 200 or 400 <= response.status < 500, (response.status, content)
    if response.status != 200 and method != "HEAD":
        assert json.loads(content)["message"]


def fuzz(port: int, examples: int) -> None:
    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(requests)
    def each(request: Any) -> None:
        send(port, request)

    each()


def test_300_generated_requests_get_an_answer_or_a_refusal(tmp_path: Path) -> None:
    with served(tmp_path) as (port, process):
        fuzz(port, 300)
        send(port, ("POST", "/retrieve", b'{"queries": ["Tiber"]}'))
        assert process.is_running()


@pytest.mark.slow
def test_10000_generated_requests_leave_the_servers_memory_flat(tmp_path: Path) -> None:
    with served(tmp_path) as (port, process):
        fuzz(port, 2000)
        before = process.memory_info().rss
        fuzz(port, 10_000)
        after = process.memory_info().rss
        assert after < before * 1.05, f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after"
        assert process.num_fds() < 50


@pytest.mark.slow
def test_200_clients_for_60_seconds_are_answered_or_told_to_come_back(tmp_path: Path) -> None:
    body = json.dumps({"queries": ["capital of France", "Tiber"] * 4, "topk": 3, "return_scores": True}).encode()
    head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    statuses: Counter[int] = Counter()

    async def client(port: int, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(head + body)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            length = re.search(rb"content-length: (\d+)", answer.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
            statuses[int(answer.split()[1])] += 1
        writer.close()

    async def crowd(port: int) -> None:
        end = time.monotonic() + 60
        await asyncio.gather(*(client(port, end) for _ in range(200)))

    with served(tmp_path, "--max-requests", "150") as (port, _):
        asyncio.run(crowd(port))
    assert set(statuses) <= {200, 429, 503}
    assert statuses[200] > 200
