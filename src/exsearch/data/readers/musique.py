"""MuSiQue, ans and full: a decomposition whose later questions refer to earlier answers, `#1` to the first."""

import re
from typing import Any

import msgspec

from exsearch.data.question import Question, SubQuestion
from exsearch.data.readers.annotated import Annotated, Id, LeftOut, NamedPassage, Text, aliases
from exsearch.data.readers.sentences import sentence_with

_REFERENCE = re.compile(r"#(\d+)")
_RELATION = " >> "
"""Stands between subject and relation where a step is no question."""


class _Paragraph(msgspec.Struct):
    title: str
    paragraph_text: str
    idx: int | None = None


class Step(msgspec.Struct):
    """One step of a decomposition. Its paragraph is a number or, in FlashRAG's copy, in full."""

    question: str
    answer: Text
    paragraph_support_idx: int | None = None
    support_paragraph: _Paragraph | None = None


class _MuSiQue(msgspec.Struct):
    id: Id
    question: str
    paragraphs: list[_Paragraph]
    question_decomposition: list[Step] = []
    answer: Text | None = None
    answer_aliases: list[Text] = []
    answerable: bool = True


def is_musique(fields: dict[str, Any]) -> bool:
    """Return whether a record has paragraphs of MuSiQue."""
    return "question" in fields and "paragraphs" in fields


def read_musique(fields: dict[str, Any], id: str) -> Annotated | LeftOut:
    """Read a question with its steps; one whose paragraphs do not hold the answer is left out."""
    record = msgspec.convert(fields, _MuSiQue)
    if not record.answerable:
        return LeftOut("not answerable from its paragraphs")
    paragraphs = {n if part.idx is None else part.idx: part for n, part in enumerate(record.paragraphs)}
    for step in record.question_decomposition:
        if step.support_paragraph is None and step.paragraph_support_idx is not None:
            step.support_paragraph = paragraphs.get(step.paragraph_support_idx)
    question = Question(
        str(record.id), record.question, aliases([record.answer, *record.answer_aliases]), str(record.id).split("__")[0]
    )
    return with_steps(question, record.question_decomposition)


def with_steps(question: Question, steps: list[Step]) -> Annotated:
    """Return a question with the steps of its decomposition as sub-questions."""
    subs, passages = [], []
    for step in steps:
        text = _REFERENCE.sub(lambda match: _answer_of(match, steps), step.question.replace(_RELATION, " "))
        found = step.support_paragraph
        evidence = sentence_with(str(step.answer), text, found.paragraph_text) if found else None
        last = step is steps[-1] and str(step.answer) in question.answers
        subs.append(SubQuestion(text, question.answers if last else [str(step.answer)], evidence=evidence))
        sentences = (evidence,) if evidence else ()
        passages.append(NamedPassage(None, found.title, found.paragraph_text, sentences) if found else None)
    question = msgspec.structs.replace(question, hops=len(steps) or None, sub_questions=subs)
    return Annotated(question, [passage for passage in passages if passage], passages)


def _answer_of(match: re.Match[str], steps: list[Step]) -> str:
    number = int(match[1])
    return str(steps[number - 1].answer) if 0 < number <= len(steps) else match[0]
