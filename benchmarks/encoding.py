"""How fast are passages encoded? Torch in float32 and bfloat16 and OpenVINO, on the same passages, in turns.

    python benchmarks/encoding.py [--corpus DIR] [--passages 1024] [--rounds 4]

In each round every back end encodes the same part of the passages, in another order each time, so that what disturbs
the machine disturbs all of them. Prints passages and tokens a second, the ratio to torch in float32 with the least
and the greatest of a round, and the cosine of each token's vector with that of torch in float32; writes
benchmarks/results/encoding.json. The passages are those of the built-in world unless a corpus is named.
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

from exsearch.corpus.store import Corpus
from exsearch.data.world import World
from exsearch.files import write_text
from exsearch.retrieval.encoder import EMBEDDED, TokenEncoder, best_backend
from exsearch.retrieval.encoder_backend import Backend, Vectors

RESULT = Path(__file__).parent / "results" / "encoding.json"
REFERENCE: Backend = "torch-float32"


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
    loading = {}
    for name, encoder in encoders.items():  # compile and warm up
        start = time.perf_counter()
        encoder.encode_passages(texts[:32], options.max_tokens)
        loading[name] = round(time.perf_counter() - start, 1)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cosines: dict[str, list[Vectors]] = {name: [] for name in names}
    tokens = 0
    for number in range(options.rounds):
        part = texts[number :: options.rounds]
        found: dict[str, list[Vectors]] = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            found[name] = encoders[name].encode_passages(part, options.max_tokens)
            seconds[name].append(time.perf_counter() - start)
            print(f"round {number + 1} {name:18} {len(part) / seconds[name][-1]:8.1f} passages/s", file=sys.stderr)
        reference = np.concatenate(found[REFERENCE])
        tokens += len(reference)
        for name in names:
            cosines[name].append((np.concatenate(found[name]) * reference).sum(axis=1))
    rows = {}
    for name in names:
        ratios = [slow / fast for slow, fast in zip(seconds[REFERENCE], seconds[name], strict=True)]
        cosine = np.concatenate(cosines[name])
        rows[name] = {
            "passages_per_second": round(len(texts) / sum(seconds[name]), 1),
            "tokens_per_second": round(tokens / sum(seconds[name])),
            "speedup": {
                "median": round(statistics.median(ratios), 2),
                "least": round(min(ratios), 2),
                "greatest": round(max(ratios), 2),
            },
            "cosine": {"mean": round(float(cosine.mean()), 6), "least": round(float(cosine.min()), 6)},
            "first_batch_seconds": loading[name],
        }
    result = {
        "command": " ".join(["python benchmarks/encoding.py", *(public(word) for word in sys.argv[1:])]),
        "versions": {name: version(name) for name in ("exsearch", "torch", "transformers", "openvino")},
        "machine": machine(),
        "encoder": encoders[REFERENCE].info.id,
        "passages": len(texts),
        "tokens_per_passage": round(tokens / len(texts), 1),
        "default": best_backend(),
        "backends": rows,
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    show(result)


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


def public(word: str) -> str:
    """Return a word of the command line without a path of this machine."""
    return "DIR" if Path(word).is_absolute() else word


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{result['passages']} passages, {result['tokens_per_passage']} tokens each; default: {result['default']}")
    print(f"{'':18} passages/s  tokens/s  times torch-float32   cosine mean / least")
    for name, row in result["backends"].items():
        ratio, cosine = row["speedup"], row["cosine"]
        print(
            f"{name:18} {row['passages_per_second']:10.1f} {row['tokens_per_second']:9}"
            f"  {ratio['median']:5.2f} [{ratio['least']:.2f}, {ratio['greatest']:.2f}]"
            f"   {cosine['mean']:.5f} / {cosine['least']:.5f}"
        )


if __name__ == "__main__":
    main()
