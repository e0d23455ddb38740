"""Reads an evaluation: its scores, their protocol, its questions and its answers."""

from pathlib import Path

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, read_jsonl
from exsearch.evaluation.evaluate import TRAJECTORIES
from exsearch.evaluation.protocol import PROTOCOL
from exsearch.evaluation.scores import SCORES, Figure, Scores, has_scores, read_scores
from exsearch.questions.question import Question, read_questions

QUESTIONS = "questions.jsonl"


class Evaluated(msgspec.Struct, frozen=True):
    """A finished evaluation.

    >>> evaluation = xs.evaluate(agent, questions, "work/eval")
    >>> evaluation.figures["searches"].mean
    1.0
    """

    folder: Path
    scores: Scores
    protocol: dict[str, object]
    """The content of protocol.json, without the fingerprint; empty if there is none."""
    questions: dict[str, Question]
    """Questions by id, in order; empty if neither the folder nor its run has them."""
    answers: dict[str, str | None]
    """Answers by question id; empty if there are no trajectories."""

    @property
    def figures(self) -> dict[str, Figure]:
        """The means over the questions with their 95% intervals, such as `em`, `f1`, `recall` and `searches`."""
        return self.scores.figures


class _Answer(msgspec.Struct, frozen=True):
    """The fields of a trajectory that are needed here."""

    question_id: str
    answer: str | None


def read_evaluation(folder: Path, questions: Path | None = None) -> Evaluated:
    """Read a folder of `exsearch eval`, or the folder of a model's evaluation in a run.

    `questions` is the file to use if neither has its questions. Raises UsageError for a folder without scores, with
    another protocol's, or with scores of questions that `questions` does not have.
    """
    if not has_scores(folder):
        raise UsageError(f"{folder}: {_not_finished(folder)}")
    scores = read_scores(folder)
    return Evaluated(
        folder=folder,
        scores=scores,
        protocol=_protocol(folder, scores.protocol),
        questions=_questions(folder, scores, questions),
        answers={each.question_id: each.answer for each in _answers(folder / TRAJECTORIES)},
    )


def _questions(folder: Path, scores: Scores, named: Path | None) -> dict[str, Question]:
    """Return the questions of the folder or its run, or else of the file `named`, which must have all scored ones."""
    own = next(iter(_existing(folder, QUESTIONS, _run_questions(folder))), None)
    file = own or named
    if file is None:
        return {}
    by_id = {question.id: question for question in read_questions(file, emptied=True)}
    lacking = [row.question_id for row in scores.questions if row.question_id not in by_id]
    if lacking and own is None:
        raise UsageError(f"{file}: lacks {len(lacking)} questions scored in {folder}, the first {lacking[0]!r}")
    return by_id


def _not_finished(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    models = sorted(path.parent for path in folder.glob(f"eval/*/{SCORES}"))
    if models:
        return f"is a run; name the folder of one of its models: {', '.join(map(str, models))}"
    return f"has no {SCORES}: not an evaluation, or an unfinished one"


def _protocol(folder: Path, expected: str) -> dict[str, object]:
    """Return the folder's own protocol or, for a model's test questions, its run's."""
    in_run = folder.resolve().parent
    for path in _existing(folder, PROTOCOL, in_run.parent / PROTOCOL if in_run.name == "eval" else None):
        protocol = read_json(path, dict[str, object])
        if protocol.pop("fingerprint", None) != expected:
            raise UsageError(f"{path}: not the protocol {expected} that the scores in {folder} were taken under")
        return protocol
    return {}


def _run_questions(folder: Path) -> Path | None:
    """Return the file of the questions, for an evaluation in a run (`runs/folder.py`)."""
    path = folder.resolve()
    if path.parent.name in ("eval", "train-eval"):
        return path.parent.parent / "questions" / ("test.jsonl" if path.parent.name == "eval" else "train.jsonl")
    if path.name == "eval":
        return path.parent.parent / "questions" / "dev.jsonl"
    return path.parent / "questions" / "dev.jsonl" if path.name == "warmup-eval" else None


def _existing(folder: Path, own: str, of_run: Path | None) -> list[Path]:
    return [path for path in (folder / own, of_run) if path is not None and path.is_file()]


def _answers(path: Path) -> list[_Answer]:
    return list(read_jsonl(path, _Answer)) if path.is_file() else []
