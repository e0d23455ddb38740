"""Each verb that writes, called on small inputs, and what it must leave: for tests of company, kills and full disks."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.world import World
from tiny_sentence_models import save_bert, save_sentence_encoder

VARYING = re.compile(r"(metrics\.jsonl|report\.html|summary\.json|tracking\.json|resume.*)$")
"""Names of files that tell times."""
TIMES = re.compile(r"(seconds|^cost|^checksum|^started|(prefilled|cached)_tokens)$")
"""Names of what tells times and costs within JSON, and of the checksums of such lines."""
MODEL = ["model.precision=fp32", "agent.turn_tokens=48", "agent.max_steps=1", "warmup.epochs=1", "learn.epochs=1"]
PASSAGES = 300
Words = list[object]


def make_inputs(folder: Path, checkpoint: Path) -> None:
    """Write what the verbs read."""
    world = World(seed=3, passages=PASSAGES)
    write_jsonl(folder / "passages.jsonl", world.passages())
    (folder / "ids.txt").write_text("\n".join(passage.id for passage in list(world.passages())[:40]))
    write_jsonl(folder / "more.jsonl", [Passage(f"new-{n}", "Lamp", f"green {n}") for n in range(400)])
    write_jsonl(folder / "questions.jsonl", world.questions("train", 6, [1]))
    write_jsonl(folder / "test.jsonl", world.questions("test", 2, [1]))
    build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    save_bert(folder / "late")
    save_sentence_encoder(folder / "dense")
    shutil.copytree(checkpoint, folder / "model")
    recipe = {
        "model": {"path": str(folder / "model"), "precision": "fp32"},
        "data": {name: str(folder / "questions.jsonl") for name in ("train", "dev")},
        "warmup": {"questions": 3, "epochs": 1},
        "explore": {"questions": 2, "samples": 2},
        "learn": {"warmup_mix": 3, "epochs": 1},
        "agent": {"turn_tokens": 48, "max_steps": 1},
        "loop": {"iterations": 1},
    }
    recipe["data"] |= {"test": str(folder / "test.jsonl"), "index": str(folder / "index")}
    (folder / "recipe.toml").write_bytes(msgspec.toml.encode(recipe))
    of_model = _of_model(folder)
    run("data", "warmup", folder / "questions.jsonl", *of_model, "--out", folder / "gold.jsonl")
    run("explore", folder / "questions.jsonl", *of_model, "--out", folder / "rollouts.jsonl")
    run("weigh", folder / "rollouts.jsonl", folder / "questions.jsonl", "--out", folder / "weights.jsonl")


def commands(data: Path, out: Path) -> dict[str, Words]:
    """Return the words of each verb's command that writes `out`."""
    questions, of_model = data / "questions.jsonl", _of_model(data)
    build = ["index", data / "corpus", "--out", out, "--retriever"]
    dense = [*build, "dense", "--set", f"encoder={data / 'dense'}", "--set"]
    return {
        "corpus import": ["corpus", "import", data / "passages.jsonl", "--out", out],
        "corpus add": ["corpus", "add", out, data / "more.jsonl"],
        "corpus delete": ["corpus", "delete", out, "--from", data / "ids.txt"],
        "corpus world": ["corpus", "world", "--passages", PASSAGES, "--seed", 3, "--train", 9, "--out", out],
        "index bm25": [*build, "bm25"],
        "index late": [*build, "late", "--set", f"encoder={data / 'late'}", "--set", "token_bytes=8"],
        "index flat": [*dense, "index=flat"],
        "index hnsw": [*dense, "index=hnsw", "--set", "links=8"],
        "data retrieve": ["data", "retrieve", questions, "--index", data / "index", "--out", out],
        "data warmup": ["data", "warmup", questions, *of_model, "--out", out],
        "warmup": ["warmup", questions, *of_model, "--out", out],
        "explore": ["explore", questions, *of_model, "--out", out],
        "weigh": ["weigh", data / "rollouts.jsonl", questions, "--out", out],
        "eval": ["eval", "--questions", data / "test.jsonl", *of_model, "--out", out],
        "train": ["train", data / "recipe.toml", "--out", out],
    }


def _of_model(data: Path) -> Words:
    settings = [part for word in MODEL for part in ("--set", word)]
    return ["--index", data / "index", "--model", data / "model", *settings]


VERBS = list(commands(Path(), Path()))


def begin(verb: str, out: Path) -> None:
    """Write what the verb changes."""
    if verb in ("corpus add", "corpus delete"):
        write_corpus(out, World(seed=3, passages=PASSAGES).passages())


def run(*words: object) -> None:
    """Run a command that succeeds."""
    command = [sys.executable, "-m", "exsearch.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def contents(out: Path) -> dict[str, str]:
    """Return a hash of each file, without what differs between two runs of one command: times."""
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    return {
        str(file.relative_to(out)): hashlib.sha256(_timeless(file)).hexdigest()
        for file in files
        if not VARYING.search(file.name)
    }


def _timeless(file: Path) -> bytes:
    """Return the content of a file without times."""
    content = file.read_bytes()
    if file.suffix == ".jsonl" or file.name == "out":
        lines = (msgspec.json.decode(line) for line in content.splitlines())
        return b"\n".join(msgspec.json.encode(_without_times(line)) for line in lines)
    if file.suffix == ".json":
        return msgspec.json.encode(_without_times(msgspec.json.decode(content)))
    return content


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if not TIMES.search(key)}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
