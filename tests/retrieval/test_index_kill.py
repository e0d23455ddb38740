"""Builds that are killed, and builds on a Ray cluster, end in the same index as an undisturbed one."""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index
from exsearch.world import World
from tiny_sentence_models import save_bert, save_sentence_encoder

PASSAGES = 600
BUILD = """
import importlib, sys
from pathlib import Path
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.registry import KINDS
module, name = KINDS[sys.argv[1]].split(":")
getattr(importlib.import_module(module), name).segment_rows = 50
build_index(Corpus.open(Path(sys.argv[2])), sys.argv[1], Path(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("kill") / "corpus", World(seed=5, passages=PASSAGES).passages())


def build(kind: str, corpus: Corpus, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", BUILD, kind, str(corpus.folder), str(out)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def contents(index: Path) -> dict[str, str]:
    """Every file of the index with the hash of what it holds."""
    return {
        str(file.relative_to(index)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(index.rglob("*"))
        if file.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bm25", "late", "dense"])
def test_a_build_killed_again_and_again_equals_an_undisturbed_one(kind: str, corpus: Corpus, tmp_path: Path) -> None:
    started = time.monotonic()
    assert build(kind, corpus, tmp_path / "undisturbed").wait() == 0
    takes = time.monotonic() - started
    generator = random.Random(kind)
    for _ in range(3):
        process = build(kind, corpus, tmp_path / "killed")
        time.sleep(generator.uniform(0.3, 0.9) * takes)
        process.kill()
        process.wait()
    assert build(kind, corpus, tmp_path / "killed").wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert len(read_index_info(tmp_path / "killed").segments) == PASSAGES / 50
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["killed", "undisturbed"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    write_corpus(folder / "corpus", World(seed=6, passages=200_000).passages())
    return folder / "corpus"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bm25", "late", "dense"])
def test_an_index_of_200_000_passages_killed_twice_equals_an_undisturbed_one(
    kind: str, large: Path, tmp_path: Path
) -> None:
    """The encoders are small random ones: what is tested is the build, which does not know the difference."""
    encoder = {"late": save_bert, "dense": save_sentence_encoder}.get(kind)
    named = ["--set", f"encoder={encoder(tmp_path / 'encoder')}"] if encoder else []
    named += ["--set", "token_bytes=8"] if kind == "late" else []

    def start(out: Path) -> "subprocess.Popen[bytes]":
        command = [
            sys.executable,
            "-m",
            "exsearch.cli.main",
            "index",
            str(large),
            "--retriever",
            kind,
            "--out",
            str(out),
        ]
        return subprocess.Popen([*command, *named], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "undisturbed").wait() == 0
    segments = tmp_path / ".killed.partial" / "segments"
    for complete in (0, 1):
        process = start(tmp_path / "killed")
        while len(list(segments.glob("[0-9]*"))) < complete or not list(segments.glob(".*.partial")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(0.2)
        process.kill()
        process.wait()
        assert not (tmp_path / "killed").exists(), "an index that is not finished can be opened"
    built = [file for segment in segments.glob("[0-9]*") for file in segment.iterdir()]
    made = {str(file.relative_to(segments)): file.stat().st_mtime_ns for file in built}
    assert start(tmp_path / "killed").wait() == 0
    assert made, "nothing was complete when it was killed"
    assert {name: (tmp_path / "killed" / "segments" / name).stat().st_mtime_ns for name in made} == made
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.needs("ray")
def test_a_build_on_ray_equals_one_without(corpus: Corpus, tmp_path: Path) -> None:
    import ray

    alone = build_index(corpus, "bm25", tmp_path / "alone")
    try:
        shared = build_index(corpus, "bm25", tmp_path / "shared", ray="local")
    finally:
        ray.shutdown()
    assert contents(shared) == contents(alone)
    assert open_index(shared).search(["museum"], 3) == open_index(alone).search(["museum"], 3)


@pytest.mark.parametrize("what", ["corpus", pytest.param("index", marks=pytest.mark.slow)])
def test_an_addition_that_merges_is_killed_before_each_change_of_the_disk_and_loses_nothing(
    what: str, tmp_path: Path
) -> None:
    program = Path(__file__).parents[1] / "merge_killed.py"
    command = [sys.executable, str(program), what, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 30
