"""A run folder: its layout, and the records of earlier versions."""

from pathlib import Path

import msgspec
import pytest

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_growing, write_json
from exsearch.evaluation.scores import Figure
from exsearch.runs.layout import RunLayout, is_trained
from exsearch.runs.reader import RunReader
from exsearch.runs.records import ExactMatchDifference, Iteration, RunSummary

MODELS = ["majority", "warmup", "iter-1", "iter-10"]


@pytest.mark.parametrize("model", MODELS)
def test_an_evaluation_finds_the_run_around_it_and_its_questions(tmp_path: Path, model: str) -> None:
    run = RunLayout(tmp_path / "run")
    places = {"test": run.test_eval(model), "train": run.train_eval(model)}
    if is_trained(model):
        places["dev"] = run.dev_eval(model)
    for split, folder in places.items():
        found = RunLayout.around(folder)
        assert found is not None
        assert (found[0].root, found[1]) == (run.root.resolve(), split)
    assert RunLayout.around(tmp_path / "alone") is None


def test_models_and_iterations_come_in_their_order(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    for model in reversed(MODELS):
        write_json(run.test_eval(model) / "scores.json", {})
    for name in ("iter-10", "iter-2", "iteration-1", "iter-x"):
        run.trajectories(name).parent.mkdir()
        run.trajectories(name).touch()
    assert run.evaluated() == MODELS
    assert run.explored() == ["iter-2", "iter-10"]


def test_the_summary_of_the_first_version_is_read(tmp_path: Path) -> None:
    figure = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    iteration: dict[str, object] = {
        "name": "iter-1",
        "questions": 4,
        "skipped": 1,
        "mean_answer_logprob": -3.5,
        "validation_em": 0.25,
    }
    iteration |= dict.fromkeys(("effective_sample_size", "weight_entropy", "sample_exact_match"), 0.5)
    iteration |= {"any_exact_match": 0.5, "examples": 7}
    summary: dict[str, object] = {
        "title": "Old",
        "models": ["warmup", "iter-1"],
        "best": "iter-1",
        "seconds": {"eval": 1.5},
    }
    summary |= {"comparison": {"a": "warmup", "b": "iter-1", "difference": figure}, "iterations": [iteration]}
    write_json(tmp_path / "summary.json", summary | {"train_answer_logprob": {"iter-1": figure}})
    found = RunReader(tmp_path).summary()
    assert found is not None
    assert found.comparison == ExactMatchDifference("warmup", "iter-1", Figure(0.5, 0.25, 0.75, 4))
    assert found.iterations == [
        Iteration("iter-1", 4, 1, 0.5, 0.5, 0.5, 0.5, examples=7, validation_em=0.25, mean_answer_probability=None)
    ]
    assert found.train_answer_probability == {}


def test_a_summary_comes_back_as_it_was_written(tmp_path: Path) -> None:
    figure = Figure(1 / 3, 0.1, 0.7, 3)
    iteration = Iteration("iter-1", 2, 0, 1.5, 0.1, 0.2, 0.3, 5, 0.4, 0.5, 0.0, {"iter-1": 1.0}, {}, "taken")
    summary = RunSummary("t", ["warmup", "iter-1"], "iter-1", {"eval": 2.0}, None, [iteration], {"warmup": figure})
    write_json(tmp_path / "summary.json", summary)
    assert RunReader(tmp_path).summary() == summary


def test_a_file_that_grows_is_read_up_to_its_torn_line_and_no_fault_is_passed_over(tmp_path: Path) -> None:
    class Row(msgspec.Struct):
        n: int

    path = tmp_path / "rows.jsonl"
    assert list(read_growing(path, Row)) == []
    path.write_bytes(b'{"n":1}\n{"n":2}\n{"n":')
    assert [row.n for row in read_growing(path, Row)] == [1, 2]
    path.write_bytes(b'{"n":1}\n{"n":\n{"n":3}\n')
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 2"):
        list(read_growing(path, Row))
