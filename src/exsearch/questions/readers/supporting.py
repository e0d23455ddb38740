"""HotpotQA, distractor and fullwiki, in its own form and in hub copies; 2WikiMultihopQA shares its paragraphs."""

from collections.abc import Sized
from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import convert
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import Annotated, NamedPassage, Text, aliases, known_id


class FactColumns(msgspec.Struct):
    """Supporting facts as columns, as in hub copies."""

    title: list[str]
    sent_id: list[int]


class ParagraphColumns(msgspec.Struct):
    """Paragraphs as columns. Copies of HotpotQA call the sentences `sentences`, those of 2Wiki `content`."""

    title: list[str]
    sentences: list[list[str]] | None = None
    content: list[list[str]] | None = None


class Supported(msgspec.Struct):
    """Paragraphs, and which of their sentences support the answer."""

    supporting_facts: list[tuple[str, int]] | FactColumns | None = None
    context: list[tuple[str, list[str]]] | ParagraphColumns | None = None

    def gold(self) -> list[NamedPassage]:
        """Return the paragraphs with a supporting fact, each once, in the order of the facts.

        A fact may name a sentence or a paragraph that does not exist; of such a paragraph only the title is known. The
        same holds if several paragraphs have the title and none of them has more of the sentences than the others.
        Raises ValueError for columns that differ in length.
        """
        facts = self.supporting_facts or []
        if isinstance(facts, FactColumns):
            check_lengths(title=facts.title, sent_id=facts.sent_id)
            facts = list(zip(facts.title, facts.sent_id, strict=True))
        paragraphs = self.context or []
        if isinstance(paragraphs, ParagraphColumns):
            sentences_of = paragraphs.sentences or paragraphs.content or []
            check_lengths(title=paragraphs.title, sentences=sentences_of)
            paragraphs = list(zip(paragraphs.title, sentences_of, strict=True))
        return [
            _paragraph(
                title,
                [n for name, n in facts if name == title],
                [sentences for name, sentences in paragraphs if name == title],
            )
            for title in dict.fromkeys(title for title, _ in facts)
        ]


def _paragraph(title: str, facts: list[int], cuts: list[list[str]]) -> NamedPassage:
    """Return the paragraph with this title whose supporting sentences are numbered by `facts`.

    `cuts` has the sentences of each paragraph with that title.
    """
    there = [[n for n in facts if 0 <= n < len(sentences)] for sentences in cuts]
    largest = max(map(len, there), default=0)
    fitting = {tuple(each): numbers for each, numbers in zip(cuts, there, strict=True) if len(numbers) == largest}
    if len(fitting) > 1:
        return NamedPassage(None, title, ambiguous=True)
    sentences, supporting = next(iter(fitting.items()), ((), []))
    text = " ".join(sentences) or None
    return NamedPassage(None, title, text, tuple(sentences[n].strip() for n in supporting))


def check_lengths(**columns: Sized) -> None:
    """Raise ValueError unless the columns, which a copy made from a list of objects, have equal lengths."""
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(column)}" for name, column in columns.items())
        raise ValueError(f"its columns differ in length: {lengths}")


class _HotpotQA(Supported, kw_only=True):
    question: str
    hub_id: Id | None = msgspec.field(name="id", default=None)
    native_id: Id | None = msgspec.field(name="_id", default=None)
    answer: Text | None = None
    type: str | None = None


def is_hotpotqa(fields: dict[str, Any]) -> bool:
    """Return whether a record has paragraphs with titles."""
    return "question" in fields and isinstance(fields.get("context"), list | dict)


def read_hotpotqa(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question, its answer and the facts that support it; the source has no sub-questions."""
    record = convert(fields, _HotpotQA)
    gold = record.gold()
    question = Question(
        known_id(id, record.native_id, record.hub_id),
        record.question,
        aliases([record.answer]),
        type=record.type,
        hops=len(gold) or None,
        evidence=evidence_of(gold),
    )
    return Annotated(question, gold)


def evidence_of(gold: list[NamedPassage]) -> list[str]:
    """Return the supporting sentences of all passages."""
    return [sentence for passage in gold for sentence in passage.sentences]
