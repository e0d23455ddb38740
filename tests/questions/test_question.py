"""Question files: what cannot be asked or scored is refused by name."""

from pathlib import Path

import pytest

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.questions.question import Question, read_questions


@pytest.mark.parametrize(
    ("questions", "fault"),
    [
        ([Question("a", " ", ["x"])], "'a': needs a text"),
        ([Question("a", "Who?", [])], "'a': needs a text and at least one answer"),
        ([Question("a", "Who?", ["x"]), Question("a", "When?", ["y"])], "'a': the id occurs twice"),
        ([Question("a", "Who?", ["x", ""])], "'a': the answer '' is empty"),
        ([Question("a", "Who?", ["x"]), Question("b", "Who?", ["The"])], "'b': the answer 'The' is empty"),
        ([], "has no questions"),
    ],
)
def test_what_cannot_be_asked_or_scored_is_refused(tmp_path: Path, questions: list[Question], fault: str) -> None:
    write_jsonl(tmp_path / "questions.jsonl", questions)
    with pytest.raises(UsageError, match=fault):
        read_questions(tmp_path / "questions.jsonl")


def test_a_question_may_lack_answers_where_none_are_needed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "questions.jsonl", [Question("a", "Who?", [])])
    assert read_questions(tmp_path / "questions.jsonl", unanswered=True)[0].answers == []
