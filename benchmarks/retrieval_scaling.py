"""How indexes of the built-in world grow: time, disk and memory, each step a process of its own.

Run by itself with an index and a file of questions, it is the process that opens the index and searches.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers.runner import memory, size
from retrieval_data import load_set

from exsearch.corpus.store import Corpus
from exsearch.questions.question import read_questions
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.index.registry import KINDS


def measure_sizes(work: Path, sizes: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return the figures of an index of each kind and size; what was measured before is not measured again."""
    rows = []
    for kind, passages in ((kind, passages) for kind, several in sizes.items() for passages in several):
        folder = work / f"world-{passages}"
        index = folder / "scaling" / kind
        done = index.with_suffix(".json")
        if not done.exists():
            corpus, _ = load_set(folder.name, folder, None)
            print(f"{folder.name}: {kind}", flush=True)
            row = {"kind": kind, "passages": passages, "words": words(corpus)}
            row |= built(corpus.folder, kind, index) | served(index, folder / "questions.jsonl")
            done.write_text(json.dumps(row), encoding="utf-8")
        rows.append(json.loads(done.read_text(encoding="utf-8")))
    return rows


def words(corpus: Corpus) -> int:
    """Return the number of words of all texts."""
    return sum(len(passage.text.split()) for passage in corpus)


def built(corpus: Path, kind: str, index: Path) -> dict[str, Any]:
    """Build an index with the command that users run."""
    shutil.rmtree(index, ignore_errors=True)
    command = ["index", str(corpus), "--retriever", kind, "--out", str(index)]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "exsearch.cli.main", *command])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"exsearch {' '.join(command)} failed")
    # the peak counts from what this process had when it started the other, which is less than that needs
    figures = {"build_seconds": time.perf_counter() - start, "build_peak_bytes": used.ru_maxrss * 1024}
    return figures | {"index_bytes": size(index)}


def served(index: Path, questions: Path) -> dict[str, Any]:
    """Open the index in a fresh process and answer the questions one by one."""
    command = [sys.executable, __file__, str(index), str(questions)]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{index} could not be searched")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def serve(index: Path, questions: Path) -> dict[str, Any]:
    """Return seconds to open, memory and the median latency of this process."""
    importlib.import_module(KINDS[read_index_info(index).kind].split(":")[0])
    start = time.perf_counter()
    retriever = open_index(index)
    opened = time.perf_counter() - start
    milliseconds = []
    for question in read_questions(questions):
        start = time.perf_counter()
        retriever.search([question.text], 20)
        milliseconds.append((time.perf_counter() - start) * 1000)
    used = memory()
    return {
        "open_seconds": opened,
        "median_ms": float(np.median(milliseconds)),
        "resident_bytes": used["resident"],
        "anonymous_bytes": used["anonymous"],
    }


if __name__ == "__main__":
    print(json.dumps(serve(Path(sys.argv[1]), Path(sys.argv[2]))))
