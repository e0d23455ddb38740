"""A question with its gold answers and, if the source has them, its gold passages and decomposition."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.questions.normalise import normalise


class SubQuestion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One hop of a gold decomposition."""

    text: str
    """The query for the retriever."""
    answers: list[str]
    """All aliases of its answer."""
    passage: str | None = None
    """Id of the passage that contains the answer."""
    evidence: str | None = None
    """The sentence or fact of that passage that answers it."""
    statement: str | None = None
    """Its answer as a sentence of its own, if the source has one."""


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question, one JSON line of a question file.

    >>> question = xs.Question("q1", "Who founded the Marlow Observatory?", ["Ada Quill", "Quill"])
    >>> question.accepts("ada quill")
    True
    """

    id: str
    text: str
    answers: list[str]
    """All accepted aliases of the answer, the canonical one first."""
    type: str | None = None
    """Type, such as `bridge`, `comparison`, `intersection`."""
    hops: int | None = None
    """Number of passages that must be read."""
    gold_passages: list[str] = []
    sub_questions: list[SubQuestion] = []
    evidence: list[str] = []
    """The sentences of the gold passages that support the answer."""

    def accepts(self, answer: str) -> bool:
        """Return whether `answer` is right by exact match: equal to an alias, both normalised. A blank answer is wrong.

        This is the only definition of an accepted answer; scoring and training both use it.
        """
        own = normalise(answer)
        return bool(answer.strip()) and any(own == normalise(alias) for alias in self.answers)


def read_questions(
    path: str | Path, limit: int | None = None, unanswered: bool = False, emptied: bool = False
) -> list[Question]:
    """Read a question file. Raises UsageError as `sound` does.

    >>> line = '{"id": "q1", "text": "Who founded the Marlow Observatory?", "answers": ["Ada Quill"]}'
    >>> _ = Path("questions.jsonl").write_text(line)
    >>> [question.answers for question in xs.read_questions("questions.jsonl")]
    [['Ada Quill']]
    """
    return list(sound(_first(Path(path), limit), str(path), unanswered, emptied))


def sound(
    questions: Iterable[Question], source: str, unanswered: bool = False, emptied: bool = False
) -> Iterator[Question]:
    """Yield questions that can be asked; `source` names their origin in errors.

    Raises UsageError for a duplicate id, for a question without a text or, unless `unanswered`, without an answer, and,
    unless `emptied`, for an answer that is empty after normalisation: "The" would be right for "A", and would be
    learned.
    """
    ids: set[str] = set()
    for question in questions:
        if not question.text.strip() or not (question.answers or unanswered):
            raise UsageError(f"{source}, question {question.id!r}: needs a text and at least one answer")
        for answer in question.answers:
            if not (emptied or normalise(answer)):
                raise UsageError(
                    f"{source}, question {question.id!r}: the answer {answer!r} is empty without punctuation "
                    "and articles, so that every such answer would be right; remove it"
                )
        if question.id in ids:
            raise UsageError(f"{source}, question {question.id!r}: the id occurs twice")
        ids.add(question.id)
        yield question
    if not ids:
        raise UsageError(f"{source}: has no questions")


def _first(path: Path, limit: int | None) -> Iterator[Question]:
    try:
        for number, record in enumerate(read_jsonl(path, Question)):
            if limit is not None and number >= limit:
                return
            yield record
    except UsageError as error:
        hint = "; `exsearch data import` converts other formats" if path.is_file() else ""
        raise UsageError(f"{error}{hint}") from None
