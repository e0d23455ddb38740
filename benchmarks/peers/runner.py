"""What every system that is measured shares: its input, its clock, and the figures it writes.

A system is one script that names its two functions and calls `run`:

    build(data, index, threads)   builds the index folder `index` from `data`
    open_index(data, index, threads, variant) -> search
    search(queries, k) -> rows    answers one query or many; the rows of passages, best first

It is started as a process of its own, in its own environment:

    python SYSTEM.py build DATA INDEX --threads 2 --out FIGURES.json
    python SYSTEM.py search DATA INDEX --threads 1 --out FIGURES.json --rows ROWS.npy [--k 20] [--variant NAME]

DATA is a folder with

    texts.jsonl        the text of each passage, a JSON string a line
    query_texts.json   the text of each query

and, for systems that work on token vectors, in its folder vectors/

    vectors.npy        float16 [tokens, dimensions]   the passages' token vectors one after another, of length 1
    token_ids.npy      int64   [tokens]               the vocabulary id of each
    lengths.npy        int32   [passages]             tokens of each passage, at least 1
    queries.npy        float32 [tokens, dimensions]   and query_lengths.npy, the same for the queries

This file needs only numpy and no other part of the project, since the peers' environments hold neither.
"""

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = Sequence[int] | npt.NDArray[Any]
WARM_UP = 20
"""Queries that are answered before the clock runs, so that what is loaded or compiled at first use is there."""
SECONDS = 1.0
"""The queries are answered again until the clock has run that long."""


@dataclass(frozen=True)
class Query:
    """A question as text and as token vectors, float32 [tokens, dimensions]."""

    text: str
    vectors: npt.NDArray[np.float32]


Search = Callable[[list[Query], int], Sequence[Rows]]


class Data:
    """The folder with the passages and queries."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self.folder = folder
        self.encoded = folder / "vectors"

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Return the tokens of each passage."""
        return np.load(self.encoded / "lengths.npy")

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Return where each passage's tokens begin, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    @cached_property
    def dimensions(self) -> int:
        """Return the length of a vector."""
        return int(self._mapped.shape[1])

    @cached_property
    def _mapped(self) -> np.memmap:
        return np.load(self.encoded / "vectors.npy", mmap_mode="r")

    def vectors(self, first: int, stop: int) -> npt.NDArray[np.float16]:
        """Read the vectors of the passages `first` to `stop`, [tokens, dimensions].

        They are read, not mapped: an encoder would hand them over in memory, too.
        """
        tokens = int(self.offsets[stop] - self.offsets[first])
        begin = self._mapped.offset + int(self.offsets[first]) * self.dimensions * 2
        found = np.fromfile(self.encoded / "vectors.npy", np.float16, tokens * self.dimensions, offset=begin)
        return found.reshape(tokens, self.dimensions)

    def texts(self) -> Iterator[str]:
        """Yield the text of each passage."""
        with (self.folder / "texts.jsonl").open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def queries(self) -> list[Query]:
        """Return the queries, with their vectors if there are any."""
        texts = json.loads((self.folder / "query_texts.json").read_text(encoding="utf-8"))
        if not self.encoded.exists():
            return [Query(text, np.empty((0, 0), dtype=np.float32)) for text in texts]
        ends = np.cumsum(np.load(self.encoded / "query_lengths.npy"))
        vectors = np.split(np.load(self.encoded / "queries.npy"), ends[:-1])
        return [Query(*pair) for pair in zip(texts, vectors, strict=True)]


def run(
    build: Callable[[Data, Path, int], None],
    open_index: Callable[[Data, Path, int, str], Search],
    packages: Sequence[str],
    batched: bool = True,
) -> None:
    """Do what the command line says.

    The versions of `packages` belong to the figures. A system that is not `batched` answers a batch one by one, which
    then need not be measured.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["build", "search"])
    parser.add_argument("data", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variant", default="")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=Path)
    options = parser.parse_args()
    data = Data(options.data)
    figures: dict[str, Any] = {"versions": {name: importlib.metadata.version(name) for name in packages}}
    start = time.perf_counter()
    if options.task == "build":
        build(data, options.index, options.threads)
        figures |= {"build_seconds": time.perf_counter() - start, "index_bytes": size(options.index)}
    else:
        search = open_index(data, options.index, options.threads, options.variant)
        figures["open_seconds"] = time.perf_counter() - start
        rows = measure(search, data.queries(), options.k, batched, figures)
        np.save(options.rows, rows)
    figures["memory"] = memory()
    options.out.write_text(json.dumps(figures) + "\n", encoding="utf-8")


def measure(
    search: Search, queries: list[Query], k: int, batched: bool, figures: dict[str, Any]
) -> npt.NDArray[np.int64]:
    """Answer all queries one by one and then in one call; return the rows, [queries, k], -1 where there are fewer."""
    for query in queries[:WARM_UP]:
        search([query], k)
    if batched:
        search(queries[:WARM_UP], k)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    latencies: list[float] = []
    while sum(latencies) < SECONDS * 1000:
        for number, query in enumerate(queries):
            start = time.perf_counter()
            found = search([query], k)[0]
            latencies.append((time.perf_counter() - start) * 1000)
            rows[number, : len(found)] = found
    answered, seconds = len(latencies), sum(latencies) / 1000
    if batched:
        answered, seconds = 0, 0.0
        while seconds < SECONDS:
            start = time.perf_counter()
            search(queries, k)
            answered, seconds = answered + len(queries), seconds + time.perf_counter() - start
    figures |= {"milliseconds": latencies, "queries_per_second": answered / seconds}
    return rows


def in_threads(search: Search, threads: int) -> Search:
    """Return a search that cuts a batch into as many parts as there are threads; for one that is safe to share."""
    if threads == 1:
        return search
    pool = ThreadPoolExecutor(threads)

    def parallel(queries: list[Query], k: int) -> Sequence[Rows]:
        if len(queries) == 1:
            return search(queries, k)
        part = -(-len(queries) // threads)
        parts = [queries[start : start + part] for start in range(0, len(queries), part)]
        return [rows for found in pool.map(search, parts, [k] * len(parts)) for rows in found]

    return parallel


def size(folder: Path) -> int:
    """Return the bytes of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def memory() -> dict[str, int]:
    """Return the process's memory in bytes; mapped files count where they were touched, save in `anonymous`.

    Not from getrusage: its peak is at least what the parent had when it started this process.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"peak": "VmHWM", "resident": "VmRSS", "anonymous": "RssAnon"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in names.items()}


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables that bound the threads of every library in use here."""
    pools = ("OMP", "MKL", "OPENBLAS", "RAYON", "NUMBA", "TORCH")
    return {**os.environ, **{f"{pool}_NUM_THREADS": str(threads) for pool in pools}}
