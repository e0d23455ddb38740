"""ExSearch's own question file."""

from typing import Any

from exsearch.core.shape import convert
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import Annotated, NamedPassage


def is_own(fields: dict[str, Any]) -> bool:
    """Return whether a record has ExSearch's names for a question and its answers."""
    return "text" in fields and "answers" in fields


def read_own(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question whose passages are named by their ids."""
    question = convert(fields, Question)
    return Annotated(
        question,
        [NamedPassage(id=passage) for passage in question.gold_passages],
        [NamedPassage(id=sub.passage) if sub.passage else None for sub in question.sub_questions],
    )
