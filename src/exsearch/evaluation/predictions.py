"""Reads the predictions of any system: one answer per question, in many formats.

It reads JSON lines, a JSON list, or `{"output": [...]}` (SearchLM) of records with an id and an answer; HotpotQA's and
2WikiMultihopQA's `{"answer": {id: text}}`; and `{id: text}`. A file whose scores would be wrong is refused.
"""

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from exsearch.core.atomic import read_utf8
from exsearch.core.errors import UsageError
from exsearch.core.ids import id_text
from exsearch.core.shape import ShapeError, syntax_fault
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import as_text
from exsearch.questions.readers.ids import IDS

ANSWERS = ("prediction", "predicted_answer", "pred", "pred_ans", "output", "response", "answer")
"""Names of a prediction's field; `answer` is last, since it is the gold answer if another of these is present."""
QUESTIONS = ("question", "text", "input")
"""Names of a question's text, in files of questions and in some files of predictions."""
GOLD = ("answers", "answer_aliases", "golden_answers", "gold_answers", "ground_truth", "supporting_facts")
"""Fields that, together with an `answer` and no other possible prediction, identify a file of questions."""
MANY = 10
"""Minimum number of answers that all equal the gold answers, to the letter, for the file to count as questions."""

_NONE = "has no predictions; give records with an id and an answer, or {id: answer}"

Record = dict[str, Any]


class Predictions(msgspec.Struct, frozen=True):
    """The answers of one file."""

    path: Path
    field: str
    """Field of a record that has the answer."""
    answers: dict[str, str | None]
    """Answers by question id; None if the record says that there is none."""
    asks: bool = False
    """Whether its records also contain questions."""


class Matched(msgspec.Struct, frozen=True):
    """The predictions of one file in the order of the questions."""

    path: Path
    field: str
    """Field of a record that has the answer."""
    answers: list[str | None]
    missing: list[str]
    """Ids of questions without a prediction."""
    unanswered: list[str]
    """Ids of questions whose prediction is null or blank."""
    extra: list[str]
    """Ids of predictions that match no question; not scored."""


def read_predictions(path: Path) -> Predictions:
    """Read a file of predictions. Raises UsageError if it is malformed, ambiguous or has no predictions."""
    content = read_utf8(path)
    try:
        whole = _decode(content)
    except ValueError as error:
        return _from_records(path, _lines(path, content, error))
    if isinstance(whole, list):
        return _from_records(path, [(f"entry {number}", record) for number, record in enumerate(whole, start=1)])
    if not isinstance(whole, dict):
        raise UsageError(f"{path}: {_NONE}")
    if isinstance(whole.get("answer"), dict):
        return Predictions(path, "answer", _texts(path, whole["answer"]))
    if any(key in whole for key in IDS):
        return _from_records(path, [("line 1", whole)])
    if isinstance(whole.get("output"), list):
        return _from_records(path, [(f"entry {number}", r) for number, r in enumerate(whole["output"], start=1)])
    return Predictions(path, "the value of each id", _texts(path, whole))


def match(predictions: Predictions, questions: list[Question]) -> Matched:
    """Put the predictions in the order of the questions.

    Raises UsageError if no id is in both, or if the field `answer` (`output` in KILT's format) of records with
    questions equals a gold answer too often.
    """
    answers = predictions.answers
    question_ids = {question.id for question in questions}
    extra = [id_ for id_ in answers if id_ not in question_ids]
    if len(extra) == len(answers):
        raise UsageError(
            f"{predictions.path}: no id of a prediction is the id of a question; the first are {named(extra)} here and "
            f"{named([question.id for question in questions])} there"
        )
    answered = [question for question in questions if question.id in answers]
    perfect = len(answered) >= MANY and all(answers[question.id] in question.answers for question in answered)
    if predictions.asks and predictions.field in ("answer", "output") and perfect:
        raise UsageError(
            f"{predictions.path}: every {predictions.field!r} is a gold answer to the letter, so these are the "
            "questions; if they are predictions, call the field 'prediction'"
        )
    return Matched(
        path=predictions.path,
        field=predictions.field,
        answers=[answers.get(question.id) for question in questions],
        missing=[question.id for question in questions if question.id not in answers],
        unanswered=[q.id for q in questions if q.id in answers and not (answers[q.id] or "").strip()],
        extra=extra,
    )


def named(ids: list[str]) -> str:
    """Return the first ids of a list, for a message."""
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _lines(path: Path, content: bytes, whole: ValueError) -> list[tuple[str, Any]]:
    """Return the records of JSON lines with their line numbers; `whole` is why the file is not a single JSON value."""
    records = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            if line.strip():
                records.append((f"line {number}", _decode(line)))
        except ValueError as error:
            if not records:
                raise UsageError(f"{path}: {whole}") from None
            raise UsageError(f"{path}, line {number}: {error}") from None
    return records


def _decode(content: bytes) -> Any:
    """Decode JSON. Raises ShapeError if it is invalid, or has a key twice, since either value could be meant."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique)
    except ShapeError:
        raise
    except (ValueError, RecursionError):
        raise ShapeError(syntax_fault(content)) from None


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ShapeError(f"{twice!r} occurs twice")
    return record


def _from_records(path: Path, records: list[tuple[str, Any]]) -> Predictions:
    if not records or not all(isinstance(record, dict) for _, record in records):
        raise UsageError(f"{path}: {_NONE}")
    id_field, field = _fields(path, records[0][1])
    answers: dict[str, str | None] = {}
    for place, record in records:
        where = f"{path}, {place}"
        if id_field not in record or field not in record:
            raise UsageError(f"{where}: has no {id_field!r} and {field!r} as the first has; do not mix formats")
        value = record[id_field]
        try:
            id_ = value if isinstance(value, str) else id_text(value)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
        if id_ is None:
            raise UsageError(f"{where}: {id_field!r} is not a string or a number; give the id of the question")
        name = _encodable(id_)
        if name in answers:
            raise UsageError(f"{where}: a second prediction for {name!r}; keep one answer per question")
        answers[name] = _text(record[field], f"{where}, {field!r}")
    return Predictions(path, field, answers, any(key in records[0][1] for key in QUESTIONS))


def _fields(path: Path, record: Record) -> tuple[str, str]:
    """Return the fields of id and answer, found in the first record."""
    id_field = next((key for key in IDS if key in record), None)
    field = next((key for key in ANSWERS if key in record), None)
    if id_field is None or field is None:
        has = ", ".join(map(repr, record))
        raise UsageError(f"{path}: the first record has {has}; it needs one of {IDS} and one of {ANSWERS}")
    if field == "answer" and any(key in record for key in GOLD):
        raise UsageError(f"{path}: these are questions with their gold answers, not predictions")
    return id_field, field


def _texts(path: Path, table: Record) -> dict[str, str | None]:
    if not table:
        raise UsageError(f"{path}: {_NONE}")
    return {_encodable(id_): _text(value, f"{path}, {id_!r}") for id_, value in table.items()}


def _text(value: Any, where: str) -> str | None:
    """Return an answer as a text; KILT's `[{"answer": ...}]` and FlashRAG's `{"pred": ...}` contain one."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0].get("answer")
    elif isinstance(value, dict) and "pred" in value:
        value = value["pred"]
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: {value} is not an answer; give a string, or null for none")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = as_text(value)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{where}: a prediction is one text, not {type(value).__name__}")
    if value is not None and "<answer>" in value:
        raise UsageError(f"{where}: contains an <answer> tag; give only its content, not the transcript")
    return None if value is None else _encodable(value)


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can write but no file or server accepts."""
    return text.encode("utf-8", "replace").decode()
