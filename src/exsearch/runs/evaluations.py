"""Reads an evaluation: its scores, the protocol they were computed under, its questions and its answers."""

from pathlib import Path

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, read_jsonl
from exsearch.evaluation.folder import QUESTIONS, TRAJECTORIES, Evaluated
from exsearch.evaluation.protocol import PROTOCOL
from exsearch.evaluation.scores import SCORES, Scores, has_scores, read_scores
from exsearch.questions.question import Question, read_questions
from exsearch.runs.layout import RunLayout


class _Answer(msgspec.Struct, frozen=True):
    """The part of a trajectory that is read here."""

    question_id: str
    answer: str | None


def read_evaluation(folder: Path, questions: Path | None = None) -> Evaluated:
    """Read a folder of `exsearch eval`, or that of a model's evaluation in a run.

    If neither the folder nor its run has the questions, they are read from the file `questions`. Raises UsageError for
    a folder without scores, for a protocol that is not the scores', and for scored questions that `questions` lacks.
    """
    if not has_scores(folder):
        raise UsageError(f"{folder}: {_not_finished(folder)}")
    scores = read_scores(folder)
    run, split = RunLayout.around(folder) or (None, "")
    protocol = _existing(folder / PROTOCOL, run.protocol if run and split == "test" else None)
    own = _existing(folder / QUESTIONS, run.questions(split) if run else None)
    return Evaluated(
        folder=folder,
        scores=scores,
        protocol=_protocol(folder, scores.protocol, protocol),
        questions=_questions(folder, scores, own, questions),
        answers={each.question_id: each.answer for each in _answers(folder / TRAJECTORIES)},
    )


def _questions(folder: Path, scores: Scores, own: Path | None, other: Path | None) -> dict[str, Question]:
    """Return the questions of `own`, the folder's or run's file, or else of `other`, which must cover the scores."""
    file = own or other
    if file is None:
        return {}
    by_id = {question.id: question for question in read_questions(file, emptied=True)}
    absent = [row.question_id for row in scores.questions if row.question_id not in by_id]
    if absent and own is None:
        raise UsageError(f"{file}: lacks {len(absent)} questions scored in {folder}, the first {absent[0]!r}")
    return by_id


def _not_finished(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    run = RunLayout(folder)
    models = sorted(each for each in map(run.test_eval, run.evaluated()) if has_scores(each))
    if models:
        return f"is a run; name the folder of one of its models: {', '.join(map(str, models))}"
    return f"has no {SCORES}: not an evaluation, or an unfinished one"


def _protocol(folder: Path, expected: str, file: Path | None) -> dict[str, object]:
    """Return the content of a protocol file without the fingerprint; {} without a file."""
    if file is None:
        return {}
    protocol = read_json(file, dict[str, object])
    if protocol.pop("fingerprint", None) != expected:
        raise UsageError(
            f"{file}: its fingerprint is not {expected}, that of the protocol that the scores in {folder} record"
        )
    return protocol


def _existing(own: Path, of_run: Path | None) -> Path | None:
    """Return the first of the two files that exists; None if neither does."""
    return next((path for path in (own, of_run) if path is not None and path.is_file()), None)


def _answers(path: Path) -> list[_Answer]:
    return list(read_jsonl(path, _Answer)) if path.is_file() else []
