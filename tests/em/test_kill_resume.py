"""A run that is killed with `kill -9` again and again ends exactly like one that is left alone."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World

KILLS = 5
JOURNALS = ("eval/closed-book", "eval/warmup", "iter-1", "eval/iter-1")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole EM run on the real embedded model, as small as one can be that still learns something."""
    folder = tmp_path_factory.mktemp("kill")
    world = World(seed=5, passages=1000)
    index = build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    for split, count in (("train", 60), ("dev", 4), ("test", 8)):
        write_jsonl(folder / f"{split}.jsonl", list(world.questions(split, count, hops=[1])))  # type: ignore[arg-type]
    path = folder / "recipe.toml"
    path.write_text(
        f"""
        [data]
        index = "{index}"
        train = "{folder / "train.jsonl"}"
        dev = "{folder / "dev.jsonl"}"
        test = "{folder / "test.jsonl"}"
        [agent]
        max_steps = 2
        passages = 2
        turn_tokens = 32
        [warmup]
        questions = 48
        epochs = 1
        batch_size = 4
        learning_rate = 4e-4
        frozen_layers = 15
        save_steps = 2
        [explore]
        questions = 12
        samples = 2
        [rollout]
        in_flight = 8
        [learn]
        epochs = 1
        batch_size = 2
        frozen_layers = 15
        save_steps = 2
        [loop]
        iterations = 1
        """
    )
    return path


def start(recipe: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "exsearch.cli.main", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trajectories(path: Path) -> list[dict[str, object]]:
    """The journal without what a trajectory cost, and without the order in which trajectories ended."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        for part in [record, *record["steps"]]:
            del part["cost"]
    return sorted(records, key=lambda record: (record["question_id"], record["sample"]))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finished_lines(out: Path) -> dict[str, list[str]]:
    """The complete lines of each journal so far."""
    paths = {name: out / name / "trajectories.jsonl" for name in JOURNALS}
    return {name: path.read_text().split("\n")[:-1] for name, path in paths.items() if path.exists()}


@pytest.mark.slow
def test_a_run_killed_five_times_equals_an_uninterrupted_one(recipe: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.monotonic()
    assert start(recipe, whole).wait() == 0
    duration = time.monotonic() - began

    moments = random.Random(11)
    for _ in range(KILLS):
        before = finished_lines(broken)
        process = start(recipe, broken)
        time.sleep(moments.uniform(0.2, 0.5) * duration)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = finished_lines(broken)
        for name, lines in before.items():
            assert after[name][: len(lines)] == lines, f"{name}: finished work was done again"
    assert start(recipe, broken).wait() == 0

    for name in JOURNALS:
        journal = Path(name) / "trajectories.jsonl"
        assert trajectories(broken / journal) == trajectories(whole / journal)
    assert digest(broken / "iter-1/weights.jsonl") == digest(whole / "iter-1/weights.jsonl")
    for checkpoint in ("warmup", "iter-1/checkpoint"):
        file = Path(checkpoint) / "model.safetensors"
        assert digest(broken / file) == digest(whole / file)
