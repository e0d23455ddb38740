"""Whole runs with replay and a guard on a tiny model: what is kept of a step, resumable wherever it is stopped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from exsearch.config import Config, dump_config, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.effects import EARLIER
from exsearch.em import guard as guard_module
from exsearch.em import guarded, m_step
from exsearch.em.loop import EMRun
from exsearch.report.write import write_report
from exsearch.retrieval.index.build import build_index
from exsearch.runs.folder import RunFolder
from exsearch.runs.records import RunSummary
from exsearch.world import World

SETTINGS = [
    "model.precision=fp32",
    "warmup.questions=4",
    "warmup.epochs=1",
    "explore.questions=2",
    "explore.samples=2",
    "learn.warmup_mix=4",
    "learn.batch_size=2",
    "learn.epochs=1",
    "learn.replay=decay",
    "loop.iterations=2",
    "loop.guard=3",
    "agent.max_steps=2",
    "agent.turn_tokens=32",
]
"""A random model breaks the grammar in its first turn, so that each M-step learns from the warm-up's trajectories."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("world")
    world = World(seed=4, passages=400)
    index = build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    write_jsonl(folder / "train.jsonl", world.questions("train", 14, [1]))
    write_jsonl(folder / "test.jsonl", world.questions("test", 2, [1]))
    return {"index": str(index), "train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}


Configured = Callable[..., Config]


@pytest.fixture(scope="module")
def configured(data: dict[str, str], tiny_checkpoint: Path) -> Configured:
    def make(*more: str, **files: str) -> Config:
        return parse_config({"data": data | files, "model": {"path": str(tiny_checkpoint)}}, [*SETTINGS, *more], "test")

    return make


def run(config: Config, root: Path) -> tuple[RunSummary, list[str]]:
    said: list[str] = []
    return EMRun(config, root, said.append).run(), said


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(configured: Configured, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSummary]:
    root = tmp_path_factory.mktemp("whole") / "run"
    return root, run(configured(), root)[0]


def test_a_run_with_a_guard_says_what_became_of_each_step(whole: tuple[Path, RunSummary]) -> None:
    root, summary = whole
    assert summary.models == ["closed-book", "majority", "warmup", "iter-1", "iter-2"]
    said = [iteration.guard for iteration in summary.iterations]
    assert said == [f"iteration {n} was taken whole: p(answer) 0.00 -> 0.00" for n in (1, 2)], "all malformed counts 0"
    assert all(iteration.malformed == 1.0 for iteration in summary.iterations)
    left = {path.name for path in (root / "iter-1").iterdir()}
    journal = {"trajectories.jsonl", "trajectories.jsonl.origin.json"}
    assert left == journal | {"weights.jsonl", "checkpoint", "guard.json"}, "no candidate is left"
    assert not (root / "warmup-eval").exists() and not (root / "train-eval").exists(), "the guard takes their place"
    assert {path.name for path in (root / "guard").iterdir()} == {"warmup", "iter-1-whole", "iter-2-whole"}
    assert summary.train_answer_probability["iter-2"].n == 3
    assert said[1] in write_report(root).read_text(encoding="utf-8")


def slow(*words: Any) -> Any:
    """Parameters of a test that is one of many alike."""
    return pytest.param(*words, marks=pytest.mark.slow)


def interrupted(*words: Any, **named: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        (m_step, "train", 2),  # calls: warm-up, iter-1, iter-2
        (m_step, "train", 3),
        (guard_module, "Journals", 2),  # calls: warm-up, iter-1 in two parts, ...
        (guard_module, "Journals", 3),
        (guarded, "write_json", 1),
        (guarded, "replace_atomically", 1),
        (guarded, "remove", 1),
        (guarded, "remove", 4),
    ],
)
def test_a_run_with_a_guard_that_is_stopped_goes_on_to_the_same_models(
    configured: Configured,
    whole: tuple[Path, RunSummary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    at: int,
) -> None:
    calls, original = [0], getattr(module, name)

    def until(*words: Any, **named: Any) -> Any:
        calls[0] += 1
        return interrupted() if calls[0] == at else original(*words, **named)

    with monkeypatch.context() as stopping:
        stopping.setattr(module, name, until)
        with pytest.raises(KeyboardInterrupt):
            run(configured(), tmp_path / "run")
    summary, _ = run(configured(), tmp_path / "run")
    assert [iteration.guard for iteration in summary.iterations] == [each.guard for each in whole[1].iterations]
    for model in ("warmup", "iter-1/checkpoint", "iter-2/checkpoint"):
        before, after = weights(whole[0] / model), weights(tmp_path / "run" / model)
        assert all(torch.equal(before[key], after[key]) for key in before)


def deciding(verdicts: list[bool]) -> Callable[[list[float], int], bool | None]:
    """Judge as it is told, once all questions are asked."""

    def judge(differences: list[float], total: int) -> bool | None:
        return verdicts.pop(0) if len(differences) == total else None

    return judge


def test_a_refused_step_leaves_the_model_before_and_the_next_e_step_asks_more(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "judge", deciding([False, False, False, True]))
    summary, said = run(configured(), tmp_path / "run")
    assert summary.models == ["closed-book", "majority", "warmup", "iter-2"]
    assert summary.iterations[0].guard.startswith("iteration 1 was refused: p(answer) 0.00 -> 0.00 (whole), ")
    assert [iteration.questions for iteration in summary.iterations] == [2, 3]
    folder = RunFolder(tmp_path / "run")
    assert not folder.checkpoint("iter-1").exists() and folder.checkpoint("iter-2").exists()
    assert "Guard: iteration 2 was taken whole: p(answer) 0.00 -> 0.00." in said
    again, _ = run(configured(), tmp_path / "run")
    assert again.models == summary.models and again.iterations == summary.iterations
    write_report(tmp_path / "run")


@pytest.mark.slow
def test_a_shortened_step_goes_half_the_way(
    configured: Configured, whole: tuple[Path, RunSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "judge", deciding([False, True, True]))
    summary, _ = run(configured(), tmp_path / "run")
    assert summary.iterations[0].guard == "iteration 1 was shortened by half: p(answer) 0.00 -> 0.00"
    start, end = weights(whole[0] / "warmup"), weights(whole[0] / "iter-1" / "checkpoint")
    found = weights(tmp_path / "run" / "iter-1" / "checkpoint")
    assert max(float((end[name] - start[name]).abs().max()) for name in start) > 1e-4
    for name in start:
        assert torch.allclose(found[name], (start[name] + end[name]) / 2, atol=1e-7), name
    for iteration in ("iter-1", "iter-2"):
        shutil.rmtree(tmp_path / "run" / iteration / "checkpoint")
    again, _ = run(configured(), tmp_path / "run")
    assert again.iterations == summary.iterations, "a deleted checkpoint is made again, a decision is not"
    made = weights(tmp_path / "run" / "iter-1" / "checkpoint")
    assert all(torch.equal(made[name], found[name]) for name in found)


@pytest.mark.slow
def test_the_mean_of_several_orders_is_the_model(
    configured: Configured, whole: tuple[Path, RunSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, dict[str, torch.Tensor]] = {}
    remove = m_step.remove

    def watched(path: Path) -> None:
        kept[path.name] = weights(path)
        remove(path)

    monkeypatch.setattr(m_step, "remove", watched)
    run(configured("learn.orders=2", "loop.iterations=1", "loop.guard=0", dev=configured().data.test), tmp_path / "run")
    found = weights(tmp_path / "run" / "iter-1" / "checkpoint")
    one, two = kept["order-1"], kept["order-2"]
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert all(torch.allclose(found[name], (one[name] + two[name]) / 2, atol=1e-7) for name in found)
    assert not (tmp_path / "run" / "iter-1" / "order-1").exists()


@pytest.mark.slow
def test_a_run_of_an_earlier_version_is_continued_without_replay_and_guard_and_says_so(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(root: Path) -> Config:
        """Return the settings of a run as the version before would have had them; its folder lacks the later ones."""
        earlier = ["learn.replay=none", "loop.guard=0", "learn.denominator=batch", "learn.keep_float32=false"]
        earlier += ["warmup.denominator=batch", "warmup.keep_float32=false"]
        config = configured(*earlier, dev=configured().data.test)
        root.mkdir()
        RunFolder(root).config.write_text(dump_config(config, leave_out=EARLIER))
        return config

    config = begun(tmp_path / "whole")
    expected, _ = run(config, tmp_path / "whole")
    config = begun(tmp_path / "run")
    with monkeypatch.context() as stopping:
        stopping.setattr(m_step, "train", lambda *words, **named: interrupted())
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "run")
    now = configured(dev=configured().data.test)  # asks for replay and a guard
    found, said = run(now, tmp_path / "run")
    assert said[0].startswith("Started by an earlier version, so this run keeps its behaviour: ")
    assert 'learn.replay = "none"' in said[0] and "loop.guard = 0" in said[0]
    assert found.models == expected.models and all(not iteration.guard for iteration in found.iterations)
    assert [iteration.sources for iteration in found.iterations] == [it.sources for it in expected.iterations]
    for model in ("iter-1/checkpoint", "iter-2/checkpoint"):
        before, after = weights(tmp_path / "whole" / model), weights(tmp_path / "run" / model)
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_replayed_journal_that_was_replaced_is_refused(
    configured: Configured, whole: tuple[Path, RunSummary], tmp_path: Path
) -> None:
    root = shutil.copytree(whole[0], tmp_path / "run")
    for file in ("trajectories.jsonl", "weights.jsonl"):
        shutil.copy(root / "iter-2" / file, root / "iter-1" / file)
    with pytest.raises(UsageError, match=r"iter-1/trajectories\.jsonl: trajectory .* is from another model than"):
        run(configured(), root)
