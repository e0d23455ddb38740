"""2WikiMultihopQA: HotpotQA's paragraphs and facts, and one evidence triple per hop.

The sub-question of a hop is the subject and relation of its triple, or the text in a companion file.
"""

import re
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import ShapeError, convert, decode
from exsearch.questions.question import Question, SubQuestion
from exsearch.questions.readers.annotated import Annotated, NamedPassage, Text, aliases, known_id
from exsearch.questions.readers.companions import CompanionQuestion, Companions
from exsearch.questions.readers.sentences import sentence_with
from exsearch.questions.readers.supporting import Supported, check_lengths, evidence_of

Triple = tuple[str, str, str]
_IN_BRACKETS = re.compile(r"\s*\([^)]*\)$")
_MAX_ORDERED = 6
"""Maximum number of hops to order by trying all orders; the source has up to five."""


class _TripleColumns(msgspec.Struct):
    fact: list[str]
    relation: list[str]
    entity: list[str]


class _TwoWiki(Supported, kw_only=True):
    question: str
    hub_id: Id | None = msgspec.field(name="id", default=None)
    native_id: Id | None = msgspec.field(name="_id", default=None)
    answer: Text | None = None
    type: str | None = None
    evidences: list[Triple] | _TripleColumns | None = None
    answer_id: str | None = None
    evidences_id: list[Triple] | None = None

    def triples(self) -> list[Triple]:
        if isinstance(self.evidences, _TripleColumns):
            columns = self.evidences
            check_lengths(fact=columns.fact, relation=columns.relation, entity=columns.entity)
            return list(zip(columns.fact, columns.relation, columns.entity, strict=True))
        return self.evidences or []

    def object_ids(self, triples: list[Triple]) -> list[str]:
        """Return the Wikidata id of each triple's object, an empty text if the record has none."""
        if not self.evidences_id:
            return [""] * len(triples)
        check_lengths(evidences=triples, evidences_id=self.evidences_id)
        return [object for _, _, object in self.evidences_id]


def is_two_wiki(fields: dict[str, Any]) -> bool:
    """Return whether a record has paragraphs and evidence triples."""
    return "question" in fields and "context" in fields and "evidences" in fields


class TwoWikiReader:
    """Reads records of 2WikiMultihopQA together with its companion files."""

    def __init__(self, companions: Companions) -> None:
        """Keep the content of the companion files."""
        self._decompositions = companions.decompositions
        self._names = companions.names

    def read(self, fields: dict[str, Any], id: str) -> Annotated:
        """Read a question, with a sub-question for each triple. Raises ValueError for columns that differ in length."""
        record = convert({name: _unwritten(name, value) for name, value in fields.items()}, _TwoWiki)
        id = known_id(id, record.native_id, record.hub_id)
        gold = record.gold()
        triples = record.triples()
        sub_questions = self._decompositions.get(id, [])
        decomposed = bool(sub_questions) and len(sub_questions) == len(triples)
        by_triple = [CompanionQuestion(f"{subject} {relation}") for subject, relation, _ in triples]
        sub_questions = _in_order(sub_questions, triples) if decomposed else by_triple
        objects = record.object_ids(triples)
        subs, passages = [], []
        for number, (triple, sub, object) in enumerate(zip(triples, sub_questions, objects, strict=True)):
            passage = _passage_of(triple, number, gold) if gold else None
            answers = aliases([triple[2], *self._names.get(object, [])])
            evidence = (" ".join(passage.sentences) or None) if passage else None
            subs.append(SubQuestion(sub.question, answers, evidence=evidence, statement=sub.answer))
            passages.append(passage)
        question = Question(
            id,
            record.question,
            aliases([record.answer, *self._names.get(record.answer_id or "", [])]),
            type=record.type,
            hops=len(gold) or None,
            sub_questions=subs,
            evidence=evidence_of(gold),
        )
        aliased = self._names.keys() & {record.answer_id or "", *objects}
        return Annotated(question, gold, passages, decomposed, frozenset(aliased))


def _unwritten(name: str, value: object) -> object:
    """Decode a cell that some hub copies store as JSON."""
    if isinstance(value, str) and name in ("context", "supporting_facts", "evidences"):
        try:
            return decode(value.encode())
        except ShapeError as error:
            raise ShapeError(f"{name!r}: {error}") from None
    return value


def _in_order(sub_questions: list[CompanionQuestion], triples: list[Triple]) -> list[CompanionQuestion]:
    """Return the sub-questions in the order of their triples, which the file does not always keep."""

    def fit(order: Iterable[CompanionQuestion]) -> int:
        return sum(
            (_bare(subject) in sub.question.casefold()) + (_bare(object) in (sub.answer or "").casefold())
            for sub, (subject, _, object) in zip(order, triples, strict=True)
        )

    orders = permutations(sub_questions) if len(sub_questions) <= _MAX_ORDERED else [tuple(sub_questions)]
    return list(max(orders, key=fit))


def _passage_of(triple: Triple, number: int, gold: list[NamedPassage]) -> NamedPassage:
    """Return the gold passage about the subject of triple `number`, with the sentence that states the triple.

    Titles sometimes differ from subjects; then the object decides, and last the order, which is mostly the same. If no
    supporting sentence has the object, because the source counted sentences differently, the whole paragraph is
    searched.
    """
    subject, relation, object = triple

    def fit(place: int) -> tuple[bool, bool, bool]:
        is_about = _bare(gold[place].title or "") == _bare(subject)
        return is_about, any(object in sentence for sentence in gold[place].sentences), place == number

    passage = gold[max(range(len(gold)), key=fit)]
    stating = next((sentence for sentence in passage.sentences if object in sentence), None)
    stating = stating or sentence_with(object, f"{subject} {relation}", passage.text or "")
    return msgspec.structs.replace(passage, sentences=(stating,) if stating else passage.sentences)


def _bare(name: str) -> str:
    """Return a name in lower case without the part in brackets that distinguishes it from others."""
    return _IN_BRACKETS.sub("", name).casefold()
