"""A question with its gold answers, and where the source has them its gold passages and decomposition."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.questions.normalise import normalise


class SubQuestion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One hop of a gold decomposition."""

    text: str
    """What to ask the retriever."""
    answers: list[str]
    """All aliases of its answer."""
    passage: str | None = None
    """Id of the passage that holds the answer."""
    evidence: str | None = None
    """The sentence or fact of that passage that answers it."""
    statement: str | None = None
    """Its answer in a sentence of its own, where the source has one."""


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
    """Such as `bridge`, `comparison`, `intersection`."""
    hops: int | None = None
    """Number of passages that must be read."""
    gold_passages: list[str] = []
    sub_questions: list[SubQuestion] = []
    evidence: list[str] = []
    """The sentences of the gold passages that support the answer."""

    def accepts(self, answer: str) -> bool:
        """Return whether exact match counts `answer` as right: it equals an alias, both normalised; a blank is wrong.

        The one place that says what an accepted answer is: what is scored and what is learned go by it.
        """
        own = normalise(answer)
        return bool(answer.strip()) and any(own == normalise(alias) for alias in self.answers)


def read_questions(
    path: str | Path, limit: int | None = None, unanswered: bool = False, emptied: bool = False
) -> list[Question]:
    """Read a question file; raises UsageError as `sound` does.

    >>> line = '{"id": "q1", "text": "Who founded the Marlow Observatory?", "answers": ["Ada Quill"]}'
    >>> _ = Path("questions.jsonl").write_text(line)
    >>> [question.answers for question in xs.read_questions("questions.jsonl")]
    [['Ada Quill']]
    """
    return list(sound(_first(Path(path), limit), str(path), unanswered, emptied))


def sound(
    questions: Iterable[Question], source: str, unanswered: bool = False, emptied: bool = False
) -> Iterator[Question]:
    """Yield questions that can be asked; `source` names where they are from in errors.

    Raises UsageError for a duplicate id, a question without a text or, unless `unanswered`, without an answer, and,
    unless `emptied`, an answer of which normalisation leaves nothing: "The" would be right for "A", and be learned.
    """
    seen: set[str] = set()
    for question in questions:
        if not question.text.strip() or not (question.answers or unanswered):
            raise UsageError(f"{source}, question {question.id!r}: needs a text and at least one answer")
        for answer in question.answers:
            if not (emptied or normalise(answer)):
                raise UsageError(
                    f"{source}, question {question.id!r}: nothing is left of the answer {answer!r} without punctuation "
                    "and articles, so that no answer could be told from it; take it out"
                )
        if question.id in seen:
            raise UsageError(f"{source}, question {question.id!r}: the id occurs twice")
        seen.add(question.id)
        yield question
    if not seen:
        raise UsageError(f"{source}: holds no questions")


def _first(path: Path, limit: int | None) -> Iterator[Question]:
    try:
        for number, record in enumerate(read_jsonl(path, Question)):
            if limit is not None and number >= limit:
                return
            yield record
    except UsageError as error:
        hint = "; `exsearch data import` brings other formats into ours" if path.is_file() else ""
        raise UsageError(f"{error}{hint}") from None
