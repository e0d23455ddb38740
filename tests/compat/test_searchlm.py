"""The reference's commands, as its README writes them, from the repository root."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from exsearch.agent.chat import ChatFormat
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World
from tiny_models import save_tiny

ROOT = Path(__file__).parents[2]
COMMON = ["--model_name_or_path", "m", "--output_dir", "o"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    save_tiny(folder / "model", chat, spread=0.3)
    world = World(seed=3, passages=200)
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    entries = [
        {"query_id": q.id, "question": q.text, "answer": q.answers[0]} for q in world.questions("train", limit=4)
    ]
    (folder / "questions.json").write_text(json.dumps(entries))
    return folder


def run(procedure: str, *words: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PROCEDURE": procedure, **variables}
    command = [sys.executable, "./src/run.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_inference_writes_every_question_of_its_range(folder: Path, tmp_path: Path) -> None:
    words = ["--model_name_or_path", folder / "model", "--input_file", folder / "questions.json"]
    words += ["--output_dir", tmp_path / "log", "--left", 1, "--right", 3, "--set", "agent.max_steps=3"]
    done = run("inference", *words, "--index", folder / "index", CUDA_VISIBLE_DEVICES="0,1")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "log" / "questions.1-3.json").read_text())
    assert set(written) == {"score", "output", "config"}
    asked = json.loads((folder / "questions.json").read_text())[1:3]
    assert [o["query_id"] for o in written["output"]] == [q["query_id"] for q in asked]
    for output, question in zip(written["output"], asked, strict=True):
        assert question["question"] in output["messages"][0]["content"]
        assert output["messages"][1]["role"] == "assistant"
        assert output["stop_reason"]
    explore, agent = written["config"]["explore"], written["config"]["agent"]
    assert (explore["temperature"], explore["top_p"]) == (0.8, 0.95)
    assert (agent["max_steps"], agent["passages"], agent["turn_tokens"]) == (3, 3, 64)


def conversation(answer: str, facts: int = 0) -> list[dict[str, str]]:
    turns = ["Who?", "<QUERY> who", "<SEARCH> [1] Title: A Content: b"]
    turns += ["<FACT> <QUERY> more", "<SEARCH>"] * facts
    turns += ["<FACT> it is A <FINAL>", "Please answer: who?", answer]
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def test_entropy_weighs_by_the_likelihood_of_the_gold_answer(folder: Path, tmp_path: Path, chat: ChatFormat) -> None:
    asked = {"query_id": "a", "question": "Who?", "answer": ["Ada", "Ada L."]}
    outputs = [
        asked | {"prediction": "x", "messages": conversation("x")},
        asked | {"prediction": "", "messages": conversation("x")[:-1]},
        asked | {"prediction": "y", "messages": conversation("y", facts=3)},
    ]
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"score": {}, "output": outputs, "config": {}}))
    words = ["--model_name_or_path", folder / "model", "--inference_file", file, "--output_dir", tmp_path, "--epo", 2]
    done = run("entropy", *words, "--set", "model.precision=fp32")
    assert done.returncode == 0, done.stderr
    assert "1 weights of 3 trajectories" in done.stdout
    [entry] = json.loads((tmp_path / "found.epo2.json").read_text())
    assert entry["messages"][:-1] == outputs[0]["messages"][:-1]
    assert entry["messages"][-1]["content"] in ("Ada", "Ada L.")

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    text = chat.tokenizer.apply_chat_template(entry["messages"][:-1], tokenize=False, add_generation_prompt=True)
    prefix = chat.tokenizer(text).input_ids
    losses = []
    for alias in ("Ada", "Ada L."):
        target = [*chat.encode(alias), chat.stop_id]
        with torch.inference_mode():
            full = model(torch.tensor([prefix + target])).logits[0].log_softmax(dim=-1)
        losses.append(-sum(full[len(prefix) + i - 1, t].item() for i, t in enumerate(target)) / len(target))
    assert entry["entropy"] == pytest.approx(min(losses), abs=1e-3)
    assert entry["prob"] == pytest.approx(4 * torch.tensor(-min(losses)).exp().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("procedure", "words", "said"),
    [
        ("inferense", [], "set it to one of sft, inference, entropy, align; did you mean 'inference'?"),
        (
            "inference",
            [*COMMON, "--input_file", "q", "--index", "i", "--rihgt", "3"],
            "unknown flag --rihgt; did you mean '--right'?",
        ),
        ("inference", [*COMMON, "--input_file", "q"], "--index FOLDER or URL"),
        ("inference", COMMON, "the following arguments are required: --input_file"),
        ("inference", [*COMMON, "--input_file", "q", "--left", "two"], "argument --left: invalid int value: 'two'"),
        ("entropy", [*COMMON, "--inference_file", "q", "--epo", "1"], "q: no such file"),
    ],
)
def test_a_mistake_is_one_line(procedure: str, words: list[str], said: str) -> None:
    done = run(procedure, *words, API_SEARCH="")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
