"""The made-up run of these tests has the formats of a real one."""

from pathlib import Path

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_json, read_jsonl
from exsearch.evaluation.scores import Scores
from exsearch.questions.question import Question
from exsearch.runs.weighted import Weighted
from made_up_run import MODELS, make_run


def test_the_made_run_has_the_formats_of_a_real_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", test=3, train=2)
    for model in MODELS:
        assert len(read_json(run / "eval" / model / "scores.json", Scores).questions) == 3
    assert len(list(read_jsonl(run / "iter-1" / "trajectories.jsonl", Trajectory))) == 8
    assert len(list(read_jsonl(run / "iter-1" / "weights.jsonl", Weighted))) == 8
    assert len(list(read_jsonl(run / "questions" / "train.jsonl", Question))) == 2
