"""Paths in a run folder: settings, questions, stages and results.

The report, the quickstart's world and index, and the files of guard and trackers are named where they are written.
"""

import re
from pathlib import Path

from exsearch.core.atomic import children, is_file
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.protocol import PROTOCOL
from exsearch.evaluation.scores import SCORES

WARMUP = "warmup"
_EVAL, _TRAIN_EVAL, _WARMUP_EVAL = "eval", "train-eval", "warmup-eval"


class RunLayout:
    """Paths of one run. A stage is finished if its file or folder exists, because all are renamed into place."""

    def __init__(self, root: Path) -> None:
        """Keep the folder's path; nothing is created."""
        self.root = root

    @classmethod
    def around(cls, evaluation: Path) -> "tuple[RunLayout, str] | None":
        """Return the run that an evaluation's folder belongs to by its path, and its split; None if it belongs to none.

        Does not check whether there is a run.
        """
        path = evaluation.resolve()
        if path.parent.name in (_EVAL, _TRAIN_EVAL):
            return cls(path.parent.parent), "test" if path.parent.name == _EVAL else "train"
        if path.name in (_EVAL, _WARMUP_EVAL):
            return cls(path.parent.parent if path.name == _EVAL else path.parent), "dev"
        return None

    @property
    def config(self) -> Path:
        """Return the file of the resolved settings."""
        return self.root / "config.toml"

    @property
    def contents(self) -> Path:
        """Return the file of fingerprints of the files and models that the settings name."""
        return self.root / "contents.json"

    @property
    def protocol(self) -> Path:
        """Return the file of the conditions that scores on the test questions depend on."""
        return self.root / PROTOCOL

    @property
    def metrics_file(self) -> Path:
        """Return the file of figures by stage and step."""
        return self.root / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Return the file of the run's result."""
        return self.root / "summary.json"

    def questions(self, split: str) -> Path:
        """Return the file of the questions this run used."""
        return self.root / "questions" / f"{split}.jsonl"

    @property
    def warmup_trajectories(self) -> Path:
        """Return the file of the gold trajectories that the warm-up learns from."""
        return self.root / "warmup-trajectories.jsonl"

    def checkpoint(self, name: str) -> Path:
        """Return the checkpoint folder of `warmup` or `iter-n`."""
        return self.root / WARMUP if name == WARMUP else self.root / name / "checkpoint"

    def part(self, name: str, part: str) -> Path:
        """Return the folder of the model after a `part` of an iteration's step; removed when the guard has decided."""
        return self.root / name / part

    def order(self, name: str, number: int) -> Path:
        """Return the folder of a model trained in one of several orders, which exists until these are averaged."""
        return self.root / name / f"order-{number}"

    @property
    def guard(self) -> Path:
        """Return the folder of the models' trajectories on the guard's questions."""
        return self.root / "guard"

    def guard_decision(self, name: str) -> Path:
        """Return the file of the guard's decision on an iteration's step."""
        return self.root / name / "guard.json"

    def reweighed(self, name: str, earlier: str) -> Path:
        """Return the weights that the M-step of an iteration gives to the trajectories of an earlier one."""
        return self.root / name / "reweighed" / f"{earlier}.jsonl"

    def trajectories(self, name: str) -> Path:
        """Return the journal of an iteration."""
        return self.root / name / TRAJECTORIES

    def weights(self, name: str) -> Path:
        """Return the weights of an iteration."""
        return self.root / name / "weights.jsonl"

    def test_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the test questions."""
        return self.root / _EVAL / name

    def dev_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the validation questions."""
        return self.root / _WARMUP_EVAL if name == WARMUP else self.root / name / _EVAL

    def train_eval(self, name: str) -> Path:
        """Return the folder of a model's evaluation on the first training questions."""
        return self.root / _TRAIN_EVAL / name

    def evaluated(self) -> list[str]:
        """Return the models with an evaluation on the test questions: baselines, then the warm-up, then iterations."""
        folders = children(self.root / _EVAL)
        names = [each.name for each in folders if is_file(each / SCORES) or is_file(each / TRAJECTORIES)]
        return sorted(names, key=_order)

    def explored(self) -> list[str]:
        """Return the iterations that have explored, in order."""
        names = [each.name for each in children(self.root) if _iteration_number(each.name) is not None]
        return sorted((name for name in names if is_file(self.trajectories(name))), key=_order)


def is_trained(model: str) -> bool:
    """Tell whether a model is a point of the training curve, not a baseline beside it."""
    return model == WARMUP or _iteration_number(model) is not None


def _iteration_number(name: str) -> int | None:
    match = re.fullmatch(r"iter-(\d+)", name)
    return int(match[1]) if match else None


def _order(name: str) -> tuple[int, int, str]:
    number = _iteration_number(name)
    if number is not None:
        return (2, number, name)
    return (1 if name == WARMUP else 0, 0, name)
