"""Worlds, indexes and questions of the quickstart's kind, one per seed, to measure EM on, and the scores of models.

Test questions are those of the world's test split and training questions that no run touches; none shares a gold
passage with a question that is learned from.
"""

import os
import shutil
import statistics
from pathlib import Path
from typing import Any

import msgspec

from exsearch.cli.quickstart import PASSAGES, RELATIONS
from exsearch.config import Config, load_config
from exsearch.core.atomic import atomic_path
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.scores import read_scores
from exsearch.questions.question import Question
from exsearch.retrieval.index.build import build_index
from exsearch.runs.layout import RunLayout
from exsearch.world import World

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "src" / "exsearch" / "recipes" / "quickstart.toml"
RESULTS = Path(__file__).parent / "results"


class Model(msgspec.Struct, frozen=True):
    """A model's scores, by question of the test set."""

    name: str
    em: list[float]
    probability: list[float]
    """p(y | x, z) of the greedy trajectory, 0 without an answer."""
    malformed: float


def prepare(seed: int, folder: Path, train: int, test: int) -> None:
    """Write corpus, index and questions of a seed, unless they are there; exit if there are too few to test on."""
    world = World(seed=seed, passages=PASSAGES)
    if not (folder / "index").exists():
        if not (folder / "corpus").exists():
            write_corpus(folder / "corpus", world.passages(), total=PASSAGES)
        build_index(Corpus.open(folder / "corpus"), "bm25", folder / "index")
    questions = list(world.questions("train", 1000, hops=[1], relations=RELATIONS))
    learned, beyond = questions[:train], questions[train:]
    tested = _apart(learned, [*world.questions("test", 1000, hops=[1], relations=RELATIONS), *beyond])
    if len(tested) < test:
        raise SystemExit(f"seed {seed}: {len(tested)} test questions; learn from fewer with --train")
    write_jsonl(folder / "train.jsonl", learned)
    write_jsonl(folder / "dev.jsonl", world.questions("dev", 16, hops=[1], relations=RELATIONS))
    write_jsonl(folder / "test.jsonl", tested[:test])


def _apart(learned: list[Question], others: list[Question]) -> list[Question]:
    """Return the questions with no gold passage in common with those that are learned from."""
    known = {passage for question in learned for passage in question.gold_passages}
    return [question for question in others if not known & set(question.gold_passages)]


def settings(folder: Path, seed: int, overrides: list[str]) -> Config:
    """Return the quickstart's recipe on the data of a seed, with some settings changed."""
    data = {split: folder / f"{split}.jsonl" for split in ("train", "dev", "test")} | {"index": folder / "index"}
    return load_config(RECIPE, [*(f"data.{key}={path}" for key, path in data.items()), f"seed={seed}", *overrides])


def share(base: Path, root: Path, parts: list[str]) -> None:
    """Begin the run folder `root` with parts of another; weights are linked, not copied."""
    with atomic_path(root) as temporary:
        for part in parts:
            (temporary / part).parent.mkdir(parents=True, exist_ok=True)
            if (base / part).is_dir():
                shutil.copytree(base / part, temporary / part, copy_function=_link_weights)
            else:
                shutil.copy(base / part, temporary / part)


def _link_weights(source: str, target: str) -> None:
    """Link a file of weights, which never changes; copy any other."""
    if source.endswith(".safetensors"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def scored(run: RunLayout, name: str) -> Model:
    """Return what a model of a run scored on the test questions."""
    questions = read_scores(run.test_eval(name)).questions
    return Model(
        name=name,
        em=[row.em for row in questions],
        probability=[row.answer_probability or 0.0 for row in questions],
        malformed=statistics.fmean(row.malformed or 0.0 for row in questions),
    )


def mean_of(values: list[float]) -> dict[str, Any]:
    """Return a mean with its interval, as JSON has it."""
    found: dict[str, Any] = msgspec.to_builtins(figure(values))
    return found


def difference(before: list[float], after: list[float]) -> dict[str, Any]:
    """Return a paired difference with its interval, as JSON has it."""
    found: dict[str, Any] = msgspec.to_builtins(paired_difference(before, after))
    return found
