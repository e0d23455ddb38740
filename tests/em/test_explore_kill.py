"""`exsearch explore`, killed at ten random moments, loses no trajectory and makes none twice.

On the transformers engine, the result is that of an undisturbed run in every bit.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World

KILLS = 10
QUESTIONS = 24
SETTINGS = [
    "explore.samples=4",
    "agent.turn_tokens=48",
    "agent.context=1024",
    "agent.max_steps=2",
    "rollout.in_flight=8",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore-kill")
    world = World(seed=3, passages=300)
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    write_jsonl(folder / "questions.jsonl", world.questions("train", limit=QUESTIONS))
    return folder


def explore(folder: Path, model: Path, engine: str, journal: Path) -> "subprocess.Popen[bytes]":
    words = [str(folder / "questions.jsonl"), "--index", str(folder / "index"), "--model", str(model)]
    words += [word for setting in [*SETTINGS, f"model.engine={engine}"] for word in ("--set", setting)]
    command = [sys.executable, "-m", "exsearch.cli.main", "explore", *words, "--out", str(journal)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def records(journal: Path) -> dict[tuple[str, int], dict[str, object]]:
    """The journal's trajectories, without what they cost; fails if one occurs twice."""
    found = {}
    for line in journal.read_text().splitlines():
        record = json.loads(line)
        for part in [record, *record["steps"]]:
            del part["cost"]
        assert (record["question_id"], record["sample"]) not in found
        found[record["question_id"], record["sample"]] = record
    return found


def kill_in_the_middle(process: "subprocess.Popen[bytes]", journal: Path, lines: int, pause: float) -> None:
    """Kill a process a little after it has written this many further lines."""
    written = count(journal)
    while process.poll() is None and count(journal) < written + lines:
        time.sleep(0.02)
    time.sleep(pause)
    process.kill()
    process.wait()


def count(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.needs("vllm"))])
def test_an_exploration_killed_ten_times_is_complete(folder: Path, builtin: Path, engine: str) -> None:
    whole, broken = folder / f"{engine}-whole.jsonl", folder / f"{engine}-broken.jsonl"
    assert explore(folder, builtin, engine, whole).wait() == 0
    moments = random.Random(7)
    kept = b""
    for _ in range(KILLS):
        kill_in_the_middle(
            explore(folder, builtin, engine, broken), broken, moments.randint(1, 8), moments.random() / 2
        )
        written = broken.read_bytes()
        assert written.startswith(kept[: kept.rfind(b"\n") + 1]), "finished lines stay as they are"
        assert len(written) > len(kept), "it was not killed in the middle of its work"
        kept = written
    assert len(records(whole)) == QUESTIONS * 4 > count(broken), "the last kill came too late"
    assert explore(folder, builtin, engine, broken).wait() == 0
    assert records(broken).keys() == records(whole).keys()
    if engine == "transformers":
        assert records(broken) == records(whole)
