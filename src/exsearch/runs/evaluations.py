"""An evaluation read back: its scores, the protocol they were taken under, its questions and its answers."""

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

    Its questions are in `questions` where neither has them. Raises UsageError for a folder without scores, with the
    protocol of others, or scored on questions that `questions` lacks.
    """
    if not has_scores(folder):
        raise UsageError(f"{folder}: {_not_finished(folder)}")
    scores = read_scores(folder)
    run, split = RunLayout.around(folder) or (None, "")
    protocol = _existing(folder / PROTOCOL, run.protocol if run and split == "test" else None)
    asked = _existing(folder / QUESTIONS, run.questions(split) if run else None)
    return Evaluated(
        folder=folder,
        scores=scores,
        protocol=_protocol(folder, scores.protocol, protocol),
        questions=_questions(folder, scores, asked, questions),
        answers={each.question_id: each.answer for each in _answers(folder / TRAJECTORIES)},
    )


def _questions(folder: Path, scores: Scores, own: Path | None, named: Path | None) -> dict[str, Question]:
    """Return the questions of the folder or its run, or else those of the file `named`, which must hold all scored."""
    file = own or named
    if file is None:
        return {}
    asked = {question.id: question for question in read_questions(file, emptied=True)}
    lacking = [row.question_id for row in scores.questions if row.question_id not in asked]
    if lacking and own is None:
        raise UsageError(f"{file}: lacks {len(lacking)} questions scored in {folder}, the first {lacking[0]!r}")
    return asked


def _not_finished(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    run = RunLayout(folder)
    models = sorted(each for each in map(run.test_eval, run.evaluated()) if has_scores(each))
    if models:
        return f"is a run; name the folder of one of its models: {', '.join(map(str, models))}"
    return f"has no {SCORES}: not an evaluation, or an unfinished one"


def _protocol(folder: Path, expected: str, file: Path | None) -> dict[str, object]:
    """Return the content of a protocol's file, without the fingerprint; nothing if there is no file."""
    if file is None:
        return {}
    protocol = read_json(file, dict[str, object])
    if protocol.pop("fingerprint", None) != expected:
        raise UsageError(f"{file}: not the protocol {expected} that the scores in {folder} were taken under")
    return protocol


def _existing(own: Path, of_run: Path | None) -> Path | None:
    """Return the first of the two files that is there."""
    return next((path for path in (own, of_run) if path is not None and path.is_file()), None)


def _answers(path: Path) -> list[_Answer]:
    return list(read_jsonl(path, _Answer)) if path.is_file() else []
