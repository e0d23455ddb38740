"""Models of other kinds than the usual go through the whole of `exsearch train`, killed and continued."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_kill_resume import digest, trajectories
from transformers import AutoModelForCausalLM

from exsearch.agent.chat import ChatFormat
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World
from model_families import save_family

JOURNALS = ("eval/warmup", "iter-1", "eval/iter-1")


def start(recipe: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "exsearch.cli.main", "train", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lfm2", "gemma3_text", "mamba2"])
def test_a_run_ends_resumes_and_scores_as_a_plain_forward(name: str, chat: ChatFormat, tmp_path: Path) -> None:
    model = save_family(name, tmp_path / "model", chat, initializer_range=0.05)
    world = World(seed=5, passages=300)
    index = build_index(write_corpus(tmp_path / "corpus", world.passages()), "bm25", tmp_path / "index")
    for split, count in (("train", 16), ("dev", 2), ("test", 3)):
        write_jsonl(tmp_path / f"{split}.jsonl", list(world.questions(split, count, hops=[1])))  # type: ignore[arg-type]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
        [model]
        path = "{model}"
        precision = "fp32"
        device = "cpu"
        [data]
        index = "{index}"
        train = "{tmp_path / "train.jsonl"}"
        dev = "{tmp_path / "dev.jsonl"}"
        test = "{tmp_path / "test.jsonl"}"
        [agent]
        max_steps = 2
        passages = 2
        turn_tokens = 24
        [warmup]
        questions = 8
        epochs = 2
        batch_size = 4
        learning_rate = 3e-3
        save_steps = 2
        [explore]
        questions = 4
        samples = 2
        [rollout]
        in_flight = 4
        [learn]
        epochs = 1
        batch_size = 2
        warmup_mix = 4
        save_steps = 1
        [loop]
        iterations = 1
        """
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.monotonic()
    process = start(recipe, whole)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    duration = time.monotonic() - began
    for share in (0.45, 0.5):
        process = start(recipe, broken)
        time.sleep(share * duration)
        process.kill()
        process.communicate()
    process = start(recipe, broken)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    for journal in JOURNALS:
        file = Path(journal) / "trajectories.jsonl"
        assert trajectories(broken / file) == trajectories(whole / file)
    for checkpoint in ("warmup", "iter-1/checkpoint"):
        assert digest(broken / checkpoint / "model.safetensors") == digest(whole / checkpoint / "model.safetensors")
    plain = AutoModelForCausalLM.from_pretrained(whole / "iter-1" / "checkpoint", dtype=torch.float32)
    records = (whole / "eval" / "iter-1" / "trajectories.jsonl").read_text().splitlines()
    assert records
    for record in map(json.loads, records):
        ids, mask, told = record["token_ids"], record["loss_mask"], record["logprobs"]
        with torch.inference_mode():
            expected = plain(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(dim=-1)
        said = [position for position, own in enumerate(mask) if own]
        assert said, "the model has said nothing"
        apart = [abs(float(expected[position - 1, ids[position]]) - told[position]) for position in said]
        assert max(apart) < 1e-3
