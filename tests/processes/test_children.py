"""No process of a command runs a user's file in place of a standard module, whichever library starts the process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.processes.children import start_module
from exsearch.retrieval.index.build import build_index
from exsearch.world import World

NAMES = ["http", "logging", "queue", "random", "secrets", "socket", "statistics", "tempfile", "types", "typing"]
"""Standard modules; a user may well have files with such names."""
COMMAND = "from exsearch.cli.main import main; main()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with an index, questions, and files that say so if they are run."""
    world = World(seed=3, passages=200)
    build_index(write_corpus(tmp_path / "corpus", world.passages()), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "questions.jsonl", world.questions("train", limit=4, hops=[1]))
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / f'{name}.ran')!r}, 'w'); raise ImportError('{name}')"
        )
    return tmp_path


def run(folder: Path, program: str, *words: object) -> None:
    """Run a program, which lies elsewhere, in the folder; none of the files there may be run."""
    script = folder / "elsewhere" / "program.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program)
    command = [sys.executable, str(script), *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert not list(folder.glob("*.ran"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_copies_of_the_model(folder: Path, tiny_checkpoint: Path) -> None:
    words = ["explore", "questions.jsonl", "--index", "index", "--model", tiny_checkpoint, "--out", "out.jsonl"]
    settings = ["model.data_parallel=2", "agent.turn_tokens=8", "explore.samples=2", "model.precision=fp32"]
    run(folder, COMMAND, *words, *(word for setting in settings for word in ("--set", setting)))


@pytest.mark.slow
def test_ranks(folder: Path, tiny_checkpoint: Path) -> None:
    words = ["warmup", "questions.jsonl", "--index", "index", "--model", tiny_checkpoint, "--out", "out"]
    settings = ["warmup.ranks=2", "warmup.epochs=1", "model.precision=fp32"]
    run(folder, COMMAND, *words, *(word for setting in settings for word in ("--set", setting)))


WATCHDOG = """
import os, select
from exsearch.engine.watchdog import watch
process = watch()
assert not select.select([os.pidfd_open(process.pid)], [], [], 5)[0], "it ended"
process.kill()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system does not tell when a process ends")
def test_the_watchdog(folder: Path) -> None:
    run(folder, WATCHDOG)


SPAWNED = """
import multiprocessing, sys
from exsearch.processes.children import guard_others

if __name__ == "__main__":
    guard_others()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
"""


def test_processes_that_a_library_spawns(folder: Path) -> None:
    run(folder, SPAWNED)


RAY = """
import os
import ray
from exsearch.processes import cluster

def folder_of(name):
    import importlib
    return importlib.import_module(name).__file__

cluster.join("local")
for name in {names!r}:
    assert not ray.get(ray.remote(folder_of).remote(name)).startswith(os.getcwd())
"""


@pytest.mark.slow
def test_workers_of_ray(folder: Path, tiny_checkpoint: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs exsearch[ray]")
    run(folder, RAY.replace("{names!r}", repr(NAMES)))
    words = ["explore", "questions.jsonl", "--index", "index", "--model", tiny_checkpoint, "--out", "out.jsonl"]
    settings = ["agent.turn_tokens=8", "explore.samples=2", "model.precision=fp32", "rollout.workers=2"]
    run(folder, COMMAND, *words, "--ray", "local", *(word for setting in settings for word in ("--set", setting)))


def test_what_a_user_puts_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asked_for.py").write_text("print('found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with start_module("asked_for", stdout=subprocess.PIPE) as process:
        assert process.communicate()[0] == b"found\n"
