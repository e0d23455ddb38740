"""Reads a run folder as it is, finished or still growing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from exsearch.agent.trajectory import Numbered, Trajectory
from exsearch.core.atomic import children, is_file
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.core.shape import BROKEN, fault
from exsearch.core.toml import read_toml
from exsearch.em.weighted import Weighted
from exsearch.evaluation.scores import Figure, Scores, has_scores, read_scores
from exsearch.questions.question import Question

T = TypeVar("T")


class Comparison(msgspec.Struct, frozen=True):
    """Exact match of model `b` minus that of model `a`, paired by question."""

    a: str
    b: str
    difference: Figure


class Iteration(msgspec.Struct, frozen=True):
    """One EM iteration in figures; None for what the run did not write."""

    name: str
    mean_answer_probability: float | None = None
    malformed: float | None = None
    effective_sample_size: float | None = None
    weight_entropy: float | None = None
    questions: int | None = None
    skipped: int | None = None
    sample_exact_match: float | None = None
    any_exact_match: float | None = None
    examples: int | None = None
    validation_em: float | None = None
    sources: dict[str, float] = {}
    """Share of each E-step in the weight that the M-step learned by."""
    ratios_worth: dict[str, float] = {}
    guard: str = ""
    """What became of the step, in a sentence."""


class Summary(msgspec.Struct, frozen=True):
    """The content of summary.json; every part may be missing."""

    title: str = ""
    models: list[str] = []
    best: str | None = None
    seconds: dict[str, float] = {}
    comparison: Comparison | None = None
    iterations: list[Iteration] = []


class Logged(msgspec.Struct, frozen=True):
    """One line of metrics.jsonl; a line without a step or a loss holds other figures."""

    stage: str = ""
    step: float | None = None
    loss: float | None = None
    search_loss: float | None = None
    answer_loss: float | None = None


class Reference(Numbered, frozen=True):
    """Which trajectory a line of a journal holds."""

    question_id: str
    sample: int
    branch: int = 0


class _Decided(msgspec.Struct, frozen=True):
    sentence: str


class RunReader:
    """Gives what is there: an absent part is empty or None, a malformed one a UsageError."""

    def __init__(self, path: Path) -> None:
        """Open the run folder at `path`; raise UsageError if it is none."""
        self.path = path
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        landmarks = [path / name for name in ("config.toml", "summary.json", "metrics.jsonl")]
        if not (any(file.is_file() for file in landmarks) or self.models() or self.explored_iterations()):
            raise UsageError(f"{path}: not a run folder: no config.toml, summary.json, metrics.jsonl, eval/ or iter-1/")

    def summary(self) -> Summary | None:
        """Return summary.json."""
        path = self.path / "summary.json"
        return read_json(path, Summary) if path.is_file() else None

    def config(self) -> dict[str, object]:
        """Return config.toml as nested tables."""
        path = self.path / "config.toml"
        return read_toml(path) if path.is_file() else {}

    def protocol(self) -> dict[str, object]:
        """Return protocol.json."""
        path = self.path / "protocol.json"
        return read_json(path, dict[str, object]) if path.is_file() else {}

    def questions(self, split: str) -> list[Question]:
        """Return the questions of a split."""
        return list(read_growing(self.path / "questions" / f"{split}.jsonl", Question))

    def metrics(self) -> Iterator[Logged]:
        """Yield the lines of metrics.jsonl."""
        return read_growing(self.path / "metrics.jsonl", Logged)

    def models(self) -> list[str]:
        """Return the names below eval/: baselines first, then the warm-up, then the iterations."""
        names = [folder.name for folder in children(self.path / "eval") if any(_evaluation(folder))]
        return sorted(names, key=_model_order)

    def scores(self, model: str) -> Scores | None:
        """Return a model's scores on the test questions."""
        return self._scores(self.path / "eval" / model)

    def validation(self, model: str) -> Scores | None:
        """Return a model's scores on the validation questions."""
        return self._scores(self.path / ("warmup-eval" if model == "warmup" else f"{model}/eval"))

    def training(self, model: str) -> Scores | None:
        """Return a model's scores on the first explored training questions."""
        return self._scores(self.path / "train-eval" / model)

    def _scores(self, folder: Path) -> Scores | None:
        return read_scores(folder) if has_scores(folder) else None

    def evaluated(self, model: str) -> Iterator[Trajectory]:
        """Yield the trajectories of a model's evaluation."""
        return read_growing(self.path / "eval" / model / "trajectories.jsonl", Trajectory)

    def explored_iterations(self) -> list[str]:
        """Return the names of the iterations that have explored."""
        names = [folder.name for folder in children(self.path) if _iteration_number(folder.name) is not None]
        explored = (name for name in names if is_file(self.path / name / "trajectories.jsonl"))
        return sorted(explored, key=_model_order)

    def references(self, iteration: str) -> Iterator[Reference]:
        """Yield which trajectories an iteration has sampled."""
        return read_growing(self.path / iteration / "trajectories.jsonl", Reference)

    def explored(self, iteration: str) -> Iterator[Trajectory]:
        """Yield the sampled trajectories of an iteration."""
        return read_growing(self.path / iteration / "trajectories.jsonl", Trajectory)

    def guard(self, iteration: str) -> str:
        """Return what became of an iteration's step, in a sentence; nothing if that is not decided."""
        path = self.path / iteration / "guard.json"
        return read_json(path, _Decided).sentence if path.is_file() else ""

    def weights(self, iteration: str) -> Iterator[Weighted]:
        """Yield the weights of an iteration."""
        return read_growing(self.path / iteration / "weights.jsonl", Weighted)


def read_growing(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the records of a JSONL file that may be absent or still growing: a torn last line is left out."""
    if not path.is_file():
        return
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = decoder.decode(line)
            except BROKEN:
                if not line.endswith(b"\n"):
                    return
                raise UsageError(f"{path}, line {number}: {fault(line, kind)}") from None
            yield record


def _evaluation(folder: Path) -> Iterator[bool]:
    return (is_file(folder / name) for name in ("scores.json", "trajectories.jsonl"))


def _iteration_number(name: str) -> int | None:
    match = re.fullmatch(r"iter-(\d+)", name)
    return int(match[1]) if match else None


def is_trained(model: str) -> bool:
    """Tell whether a model is a point of the training curve, not a baseline beside it."""
    return model == "warmup" or _iteration_number(model) is not None


def _model_order(name: str) -> tuple[int, int, str]:
    number = _iteration_number(name)
    if number is not None:
        return (2, number, name)
    return (1 if name == "warmup" else 0, 0, name)
