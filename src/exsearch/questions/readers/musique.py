"""MuSiQue, ans and full: a decomposition whose later questions refer to earlier answers, such as `#1` to the first."""

import re
from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import convert
from exsearch.questions.question import Question, SubQuestion
from exsearch.questions.readers.annotated import (
    Annotated,
    NamedPassage,
    SkippedRecord,
    Text,
    aliases,
    as_text,
    known_id,
)
from exsearch.questions.readers.sentences import sentence_with

_REFERENCE = re.compile(r"#(\d{1,9})(?!\d)")
_BETWEEN_WORDS = re.compile(r"(?=\b(\w+\s+#\d+\s+\w+))")
_RELATION = " >> "
"""Separates subject and relation if a step is not a question."""


class _Paragraph(msgspec.Struct):
    title: str
    paragraph_text: str
    idx: int | None = None


class MusiqueStep(msgspec.Struct):
    """One step of a decomposition. Its paragraph is a number or, in FlashRAG's copy, the full paragraph."""

    question: str
    answer: Text | None
    paragraph_support_idx: int | None = None
    support_paragraph: _Paragraph | None = None


class _MuSiQue(msgspec.Struct):
    id: Id
    question: str
    paragraphs: list[_Paragraph]
    question_decomposition: list[MusiqueStep] = []
    answer: Text | None = None
    answer_aliases: list[Text] = []
    answerable: bool = True


def is_musique(fields: dict[str, Any]) -> bool:
    """Return whether a record has paragraphs of MuSiQue."""
    return "question" in fields and "paragraphs" in fields


def read_musique(fields: dict[str, Any], id: str) -> Annotated | SkippedRecord:
    """Read a question with its steps; one whose paragraphs do not have the answer is skipped.

    Raises ValueError for a step whose paragraph does not exist or is ambiguous.
    """
    record = convert(fields, _MuSiQue)
    if not record.answerable:
        return SkippedRecord("not answerable from its paragraphs")
    paragraphs = {n if part.idx is None else part.idx: part for n, part in enumerate(record.paragraphs)}
    if len(paragraphs) < len(record.paragraphs):
        raise ValueError("two paragraphs have the same idx, so that a step could mean either")
    for number, step in enumerate(record.question_decomposition, start=1):
        place = step.paragraph_support_idx
        if step.support_paragraph is None and place is not None:
            if place not in paragraphs:
                raise ValueError(
                    f"the paragraph_support_idx of step {number} is {place}, which is not the idx of a paragraph; "
                    "add the paragraph, or write null if it is not known"
                )
            step.support_paragraph = paragraphs[place]
    id = known_id(id, record.id)
    answers = aliases([record.answer, *record.answer_aliases])
    question = Question(id, record.question, answers, id.split("__")[0])
    return with_steps(question, record.question_decomposition)


def with_steps(question: Question, steps: list[MusiqueStep]) -> Annotated:
    """Return a question with the steps of its decomposition as sub-questions.

    If the passage of a step is unknown, the question has no gold passages: recall over the others would be too high.
    """
    subs, passages = [], []
    for number, step in enumerate(steps):
        text = _filled(step.question.replace(_RELATION, " "), steps[:number], question.text)
        paragraph = step.support_paragraph
        answers = aliases([step.answer])
        evidence = sentence_with(answers[0], text, paragraph.paragraph_text) if paragraph and answers else None
        if step is steps[-1] and as_text(step.answer) in question.answers:
            answers = question.answers
        subs.append(SubQuestion(text, answers, evidence=evidence))
        sentences = (evidence,) if evidence else ()
        passages.append(NamedPassage(None, paragraph.title, paragraph.paragraph_text, sentences) if paragraph else None)
    question = msgspec.structs.replace(question, hops=len(steps) or None, sub_questions=subs)
    gold = [passage for passage in passages if passage]
    return Annotated(question, gold if len(gold) == len(passages) else [], passages)


def _filled(text: str, earlier: list[MusiqueStep], question: str) -> str:
    """Return a step with references to earlier steps replaced by their answers.

    No step refers to itself or to a later one. The question `asked`, which all steps make up, has no references; so
    what stands between the same two words there, as in "the #1 hit", is text.
    """
    as_asked = set(_BETWEEN_WORDS.findall(question))
    literal = {match.start(1) + match[1].index("#") for match in _BETWEEN_WORDS.finditer(text) if match[1] in as_asked}

    def answer_of(match: re.Match[str]) -> str:
        number = int(match[1])
        if match.start() in literal or not 0 < number <= len(earlier):
            return match[0]
        return as_text(earlier[number - 1].answer) or match[0]

    return _REFERENCE.sub(answer_of, text)
