"""Reads a run folder, whether the run is finished or in progress."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from exsearch.agent.trajectory import Numbered, Trajectory
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_growing, read_json
from exsearch.core.toml import read_toml
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.scores import Scores, has_scores, read_scores
from exsearch.questions.question import Question
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary
from exsearch.runs.weighted import Weighted


class Logged(msgspec.Struct, frozen=True):
    """One line of metrics.jsonl; a line without a step or a loss holds other figures."""

    stage: str = ""
    step: float | None = None
    loss: float | None = None
    search_loss: float | None = None
    answer_loss: float | None = None


class Reference(Numbered, frozen=True):
    """Identifies the trajectory in a line of a journal."""

    question_id: str
    sample: int
    branch: int = 0


class _Decision(msgspec.Struct, frozen=True):
    sentence: str


class RunReader:
    """Reads the parts of a run: one that is absent is empty or None, a malformed one raises UsageError."""

    def __init__(self, path: Path) -> None:
        """Open the run folder at `path`. Raises UsageError if it is not one."""
        self.path = path
        self._layout = layout = RunLayout(path)
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        landmarks = (layout.config, layout.summary, layout.metrics_file)
        if not (any(file.is_file() for file in landmarks) or self.models() or self.explored_iterations()):
            raise UsageError(f"{path}: not a run folder: no config.toml, summary.json, metrics.jsonl, eval/ or iter-1/")

    def summary(self) -> RunSummary | None:
        """Return summary.json."""
        path = self._layout.summary
        return read_json(path, RunSummary) if path.is_file() else None

    def config(self) -> dict[str, object]:
        """Return config.toml as nested tables."""
        path = self._layout.config
        return read_toml(path) if path.is_file() else {}

    def protocol(self) -> dict[str, object]:
        """Return protocol.json."""
        path = self._layout.protocol
        return read_json(path, dict[str, object]) if path.is_file() else {}

    def questions(self, split: str) -> list[Question]:
        """Return the questions of a split."""
        return list(read_growing(self._layout.questions(split), Question))

    def metrics(self) -> Iterator[Logged]:
        """Yield the lines of metrics.jsonl."""
        return read_growing(self._layout.metrics_file, Logged)

    def models(self) -> list[str]:
        """Return the names below eval/: baselines first, then the warm-up, then the iterations."""
        return self._layout.evaluated()

    def scores(self, model: str) -> Scores | None:
        """Return a model's scores on the test questions."""
        return _scores(self._layout.test_eval(model))

    def validation(self, model: str) -> Scores | None:
        """Return a model's scores on the validation questions."""
        return _scores(self._layout.dev_eval(model))

    def training(self, model: str) -> Scores | None:
        """Return a model's scores on the first explored training questions."""
        return _scores(self._layout.train_eval(model))

    def evaluated(self, model: str) -> Iterator[Trajectory]:
        """Yield the trajectories of a model's evaluation."""
        return read_growing(self._layout.test_eval(model) / TRAJECTORIES, Trajectory)

    def explored_iterations(self) -> list[str]:
        """Return the names of the iterations that have explored."""
        return self._layout.explored()

    def references(self, iteration: str) -> Iterator[Reference]:
        """Yield the references to the trajectories that an iteration has sampled."""
        return read_growing(self._layout.trajectories(iteration), Reference)

    def explored(self, iteration: str) -> Iterator[Trajectory]:
        """Yield the sampled trajectories of an iteration."""
        return read_growing(self._layout.trajectories(iteration), Trajectory)

    def guard(self, iteration: str) -> str:
        """Return the guard's decision on an iteration's step, in a sentence; "" if there is none."""
        path = self._layout.guard_decision(iteration)
        return read_json(path, _Decision).sentence if path.is_file() else ""

    def weights(self, iteration: str) -> Iterator[Weighted]:
        """Yield the weights of an iteration."""
        return read_growing(self._layout.weights(iteration), Weighted)


def _scores(folder: Path) -> Scores | None:
    return read_scores(folder) if has_scores(folder) else None
