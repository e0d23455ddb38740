"""How fast are passages encoded? Torch in float32 and bfloat16 and OpenVINO, on the same passages, in turns.

    python benchmarks/encoding.py [--corpus DIR] [--passages 1024] [--rounds 4]

In each round every back end encodes the same part of the passages, in another order each time, so that what disturbs
the machine disturbs all of them. Prints passages and tokens per second, the ratio to torch in float32 with the least
and the greatest of a round, the cosine of each token's vector with that of torch in float32, and the median time of a
query (a title) by itself, which each library encodes in float32; writes benchmarks/results/encoding.json. The passages
are those of the built-in world unless a corpus is named.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from page import command_line, insert_table, rows

from exsearch.core.atomic import write_text
from exsearch.corpus.store import Corpus
from exsearch.retrieval.encoders.base import EMBEDDED
from exsearch.retrieval.encoders.runner import Backend, Vectors, best_backend
from exsearch.retrieval.encoders.token_encoder import TokenEncoder
from exsearch.world import World

RESULT = Path(__file__).parent / "results" / "encoding.json"
REFERENCE: Backend = "torch-float32"
QUERIES = 64


def main() -> None:
    """Encode, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--passages", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--encoder", default=EMBEDDED)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--backends", nargs="+", default=[b for b in get_args(Backend) if usable(b)])
    options = parser.parse_args()
    texts = read(options.corpus, options.passages)
    names = list(dict.fromkeys([REFERENCE, *options.backends]))
    encoders = {name: TokenEncoder(options.encoder, name) for name in names}
    for encoder in encoders.values():
        encoder.encode_passages(texts[:32], options.max_tokens)  # compile and warm up
    seconds, cosines = encode_in_turns(encoders, texts, options.rounds, options.max_tokens)
    query_seconds = ask_in_turns(encoders, [text.split("\n")[0] for text in texts[:QUERIES]])
    tokens = len(cosines[REFERENCE])
    result = {
        "command": command_line(),
        "versions": {name: version(name) for name in ("exsearch", "torch", "transformers", "openvino")},
        "machine": machine(),
        "encoder": encoders[REFERENCE].info.id,
        "passages": len(texts),
        "tokens_per_passage": round(tokens / len(texts), 1),
        "default": best_backend(),
        "backends": {
            name: {
                "passages_per_second": round(len(texts) / sum(seconds[name]), 1),
                "tokens_per_second": round(tokens / sum(seconds[name])),
                "speedup": ratio(seconds[REFERENCE], seconds[name]),
                "cosine": {
                    "mean": round(float(cosines[name].mean()), 6),
                    "least": round(float(cosines[name].min()), 6),
                },
                "query_milliseconds": round(1000 * statistics.median(query_seconds[name]), 2),
            }
            for name in names
        },
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(table(result))
    insert_table("encoding", table(result))


def encode_in_turns(
    encoders: dict[str, TokenEncoder], texts: list[str], rounds: int, max_tokens: int
) -> tuple[dict[str, list[float]], dict[str, Vectors]]:
    """Return for each back end the seconds of each round, and of each token the cosine with the reference."""
    names = list(encoders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cosines: dict[str, list[Vectors]] = {name: [] for name in names}
    for number in range(rounds):
        part, first = texts[number::rounds], number % len(names)
        found: dict[str, Vectors] = {}
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            vectors = encoders[name].encode_passages(part, max_tokens)
            seconds[name].append(time.perf_counter() - start)
            found[name] = np.concatenate(vectors)
            print(f"round {number + 1} {name:18} {len(part) / seconds[name][-1]:8.1f} passages/s", file=sys.stderr)
        for name in names:
            cosines[name].append((found[name] * found[REFERENCE]).sum(axis=1))
    return seconds, {name: np.concatenate(parts) for name, parts in cosines.items()}


def ask_in_turns(encoders: dict[str, TokenEncoder], queries: list[str]) -> dict[str, list[float]]:
    """Return for each back end the seconds of each query, encoded by itself."""
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for encoder in encoders.values():
        encoder.encode_queries(queries[:4])
    for query in queries:
        for name, encoder in encoders.items():
            start = time.perf_counter()
            encoder.encode_queries([query])
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return how many times faster a back end is, round by round."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {
        "median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "greatest": round(max(ratios), 2),
    }


def usable(backend: str) -> bool:
    """Say whether a back end can run here."""
    if torch.cuda.is_available():
        return backend.startswith("torch")
    return backend.startswith("torch") or version("openvino") is not None


def read(corpus: Path | None, count: int) -> list[str]:
    """Return passages as they are indexed, spread evenly over the corpus."""
    if corpus is None:
        passages = list(islice(World(1, max(count, 400)).passages(), count))
    else:
        opened = Corpus.open(corpus)
        passages = opened.rows(np.unique(np.linspace(0, len(opened) - 1, count).astype(np.int64)).tolist())
    return [f"{passage.title}\n{passage.text}" for passage in passages]


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads(), **gpu}


def version(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(result: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    about = (
        f"`{result['command']}` on {result['machine']['processor']}, {result['machine']['cores']} cores: "
        f"{result['passages']:,} passages of {result['tokens_per_passage']} tokens; the default there is "
        f"`{result['default']}`."
    )
    heads = [
        "",
        "passages/s",
        "tokens/s",
        "times torch-float32 (minimum to maximum)",
        "cosine, mean",
        "minimum",
        "ms per query",
    ]
    lines = [
        [
            name,
            f"{row['passages_per_second']:.0f}",
            f"{row['tokens_per_second']:,}",
            f"{row['speedup']['median']:.2f} ({row['speedup']['least']:.2f} to {row['speedup']['greatest']:.2f})",
            f"{row['cosine']['mean']:.5f}",
            f"{row['cosine']['least']:.5f}",
            f"{row['query_milliseconds']:.1f}",
        ]
        for name, row in result["backends"].items()
    ]
    return f"{about}\n\n{rows(heads, lines)}"


if __name__ == "__main__":
    main()
