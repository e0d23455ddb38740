"""Questions and answers without paragraphs: Natural Questions, TriviaQA, PopQA, Bamboogle, and plain files."""

from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import convert
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import Annotated, Texts, aliases, known_id
from exsearch.questions.readers.cells import as_list
from exsearch.questions.readers.ids import read_id


class _Plain(msgspec.Struct):
    question: str
    answer: Texts = None
    answers: Texts = None


def is_plain(fields: dict[str, Any]) -> bool:
    """Return whether a record has fields with the names of a question and of an answer or answers."""
    return "question" in fields and ("answer" in fields or "answers" in fields)


def is_nq_open(fields: dict[str, Any]) -> bool:
    """Return whether a record has a question, its answers as a list, and nothing else."""
    answer = fields.get("answer")
    return fields.keys() == {"question", "answer"} and (isinstance(answer, list) or str(answer).startswith("["))


def read_plain(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question, its id if it has one, and its answers: a list or, in a cell, a text in the form of a list."""
    record = convert(fields, _Plain)
    answers_found = [*as_list(record.answer), *as_list(record.answers)]
    return Annotated(Question(read_id(fields, id), record.question, aliases(answers_found)))


_UNKNOWN = "<unk>"
"""What hub copies of TriviaQA have instead of a secret answer."""


class _TriviaAnswer(msgspec.Struct):
    native_value: str | None = msgspec.field(name="Value", default=None)
    native_aliases: list[str] = msgspec.field(name="Aliases", default=[])
    native_human: list[str] = msgspec.field(name="HumanAnswers", default=[])
    value: str | None = None
    aliases: list[str] = []

    def texts(self) -> list[str]:
        value = None if self.value == _UNKNOWN else self.value
        return aliases([self.native_value, value, *self.native_aliases, *self.aliases, *self.native_human])


class _Trivia(msgspec.Struct):
    question: str
    question_id: str
    answer: _TriviaAnswer | None = None


class _NativeTrivia(msgspec.Struct, rename="pascal"):
    question: str
    question_id: str
    answer: _TriviaAnswer | None = None


def is_triviaqa(fields: dict[str, Any]) -> bool:
    """Return whether a record has the keys of TriviaQA, in its own files or in hub copies."""
    hub = {"question_id", "question"} <= fields.keys() and isinstance(fields.get("answer"), dict)
    return hub or {"QuestionId", "Question"} <= fields.keys()


def read_triviaqa(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question with all aliases as written; the source's normalised aliases are derived from them."""
    record = convert(fields, _NativeTrivia if "QuestionId" in fields else _Trivia)
    assert isinstance(record, _NativeTrivia | _Trivia)
    return Annotated(Question(record.question_id, record.question, record.answer.texts() if record.answer else []))


class _PopQA(msgspec.Struct):
    id: Id
    question: str
    possible_answers: Texts
    prop: str | None = None


def is_popqa(fields: dict[str, Any]) -> bool:
    """Return whether a record has PopQA's list of answers."""
    return "possible_answers" in fields


def read_popqa(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question about a relation, which is used as its type."""
    record = convert(fields, _PopQA)
    return Annotated(
        Question(known_id(id, record.id), record.question, aliases(as_list(record.possible_answers)), type=record.prop)
    )


class _Bamboogle(msgspec.Struct, rename="pascal"):
    question: str
    answer: Texts = None


def is_bamboogle(fields: dict[str, Any]) -> bool:
    """Return whether a record has Bamboogle's capitalised keys."""
    return {"Question", "Answer"} <= fields.keys()


def read_bamboogle(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question and its answer; there are no ids."""
    record = convert(fields, _Bamboogle)
    return Annotated(Question(id, record.question, aliases(as_list(record.answer))))
