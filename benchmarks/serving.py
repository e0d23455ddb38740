"""What the retrieval server costs: added latency, and throughput for many clients, against in-process search.

    python benchmarks/serving.py

Both sides search one bm25 index of a synthetic world for the same queries, no query twice in a round. Latency: one
query at a time, over a kept connection and in process by turns; what HTTP adds is the difference of each pair, which
includes writing the JSON answer but not parsing it. Throughput: clients that each send one request after the other
over their own connection, from a process of their own that reads the answers and does not parse them. A request
carries a batch of queries, since that is what trainers such as Search-R1 and verl send. The in-process rate is that of
batches of as many queries as all clients together have in flight. The two take turns, round after round.

Prints a table and writes benchmarks/results/serving.json.
"""

import argparse
import asyncio
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from page import command_line, insert_table, rows

from exsearch.core.atomic import write_text
from exsearch.retrieval.base import Retriever

RESULT = Path(__file__).parent / "results" / "serving.json"
PACKAGES = ("exsearch", "starlette", "uvicorn", "h11", "msgspec", "numba")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--single-queries", type=int, default=2000, help="for latency")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--queries-per-request", type=int, default=32)
    parser.add_argument("--requests-per-client", type=int, default=8, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/serving"))
    options = parser.parse_args()
    needed = options.clients * options.queries_per_request * options.requests_per_client
    folder, queries = prepare(options.passages, options.seed, max(needed, options.single_queries), options.out)

    from exsearch.retrieval.index.open import open_index

    retriever = open_index(folder)
    retriever.search(queries[:100], options.k)
    with served(folder) as port:
        latency = measure_latency(retriever, port, queries[: options.single_queries], options.k)
        throughput = measure_throughput(retriever, port, queries[:needed], options)
    result = {
        "command": command_line(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "latency": latency,
        "throughput": throughput,
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(table(result))
    insert_table("serving", table(result))


def prepare(passages: int, seed: int, count: int, out: Path) -> tuple[Path, list[str]]:
    """Make the world's index, unless it is there; return it and `count` different questions as queries."""
    from exsearch.corpus.store import write_corpus
    from exsearch.retrieval.index.build import build_index
    from exsearch.world import World

    world = World(seed, passages)
    folder = out / f"{passages}-{seed}"
    if not (folder / "index" / "index.json").exists():
        build_index(write_corpus(folder / "corpus", world.passages(), total=passages), "bm25", folder / "index")
    texts = (question.text for split in ("train", "dev", "test") for question in world.questions(split))
    queries = list(islice(dict.fromkeys(texts), count))
    if len(queries) < count:
        sys.exit(f"{passages} passages have only {len(queries)} questions, {count} are needed; take more passages")
    return folder / "index", queries


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve the index with `exsearch serve retrieval`; yield the port."""
    command = [sys.executable, "-m", "exsearch.cli.main", "serve", "retrieval", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the server did not start"
            found = re.search(r"listening at http://127\.0\.0\.1:(\d+)", line)
        try:
            yield int(found[1])
        finally:
            process.terminate()


def measure_latency(retriever: Retriever, port: int, queries: list[str], k: int) -> dict[str, float]:
    """Ask each query over HTTP and in process, the two in turn; milliseconds."""
    over_http, in_process = [], []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for query in queries:
            request = as_request([query], k)
            start = time.perf_counter()
            connection.sendall(request)
            received = b""
            while (length := answer_length(received)) is None or len(received) < length:
                received += connection.recv(1 << 16)
            over_http.append(1000 * (time.perf_counter() - start))
            start = time.perf_counter()
            retriever.search([query], k)
            in_process.append(1000 * (time.perf_counter() - start))
    added = [http - direct for http, direct in zip(over_http, in_process, strict=True)]
    return {
        "in_process_median_ms": statistics.median(in_process),
        "http_median_ms": statistics.median(over_http),
        "added_median_ms": statistics.median(added),
        "added_95th_percentile_ms": statistics.quantiles(added, n=20)[-1],
    }


def measure_throughput(
    retriever: Retriever, port: int, queries: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Let all clients work through the queries, and search for them in process, the two in turn; queries per second."""
    requests = [as_request(batch, options.k) for batch in chunks(queries, options.queries_per_request)]
    in_flight = options.clients * options.queries_per_request
    over_http, in_process = [], []
    with multiprocessing.get_context("spawn").Pool(1) as clients:
        clients.apply(work_through, (port, requests[: options.clients], options.clients))  # connects, warms up
        for _ in range(options.rounds):
            over_http.append(len(queries) / clients.apply(work_through, (port, requests, options.clients)))
            start = time.perf_counter()
            for batch in chunks(queries, in_flight):
                retriever.search(batch, options.k)
            in_process.append(len(queries) / (time.perf_counter() - start))
    return {
        "in_process_queries_per_second": statistics.median(in_process),
        "http_queries_per_second": statistics.median(over_http),
        "http_share": statistics.median(http / direct for http, direct in zip(over_http, in_process, strict=True)),
        "rounds": {"in_process": in_process, "http": over_http},
    }


def chunks(queries: list[str], size: int) -> list[list[str]]:
    """Cut a list into lists of `size`."""
    return [queries[start : start + size] for start in range(0, len(queries), size)]


def as_request(queries: list[str], k: int) -> bytes:
    """Return the bytes of a request in Search-R1's dialect."""
    body = json.dumps({"queries": queries, "topk": k, "return_scores": True}).encode()
    head = f"POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer_length(received: bytes) -> int | None:
    """Return the number of bytes of the answer that `received` begins; None while its head is incomplete."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end:
        return None
    assert head.startswith(b"HTTP/1.1 200 "), head
    found = re.search(rb"content-length: (\d+)", head.lower())
    assert found is not None
    return len(head) + len(end) + int(found[1])


def work_through(port: int, requests: list[bytes], clients: int) -> float:
    """Send all requests from `clients` connections, each the next one when it has its answer; return seconds."""
    left = iter(requests)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = answer_length(head)
            assert length is not None
            await reader.readexactly(length - len(head))
        writer.close()

    async def crowd() -> None:
        await asyncio.gather(*(client() for _ in range(clients)))

    start = time.perf_counter()
    asyncio.run(crowd())
    return time.perf_counter() - start


def table(result: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    latency, throughput, settings = result["latency"], result["throughput"], result["settings"]
    about = (
        f"`{result['command'].strip()}`: bm25 over {settings['passages']:,} passages, k = {settings['k']}, "
        f"{result['machine']['cores']} cores; {settings['clients']} clients with {settings['queries_per_request']} "
        "queries per request."
    )
    lines = [
        ["ms of one query, median", f"{latency['in_process_median_ms']:.2f}", f"{latency['http_median_ms']:.2f}"],
        [
            "queries/s of all clients, median",
            f"{throughput['in_process_queries_per_second']:,.0f}",
            f"{throughput['http_queries_per_second']:,.0f}",
        ],
    ]
    added = (
        f"HTTP adds {latency['added_median_ms']:.2f} ms to a query at the median, "
        f"{latency['added_95th_percentile_ms']:.2f} at the 95th percentile, and leaves "
        f"{throughput['http_share']:.0%} of the in-process rate (median of the rounds)."
    )
    return "\n\n".join([about, rows(["", "in process", "over HTTP"], lines), added])


if __name__ == "__main__":
    main()
