"""The formats into which other systems convert data sets: Search-R1, FlashRAG, SearchLM, KILT."""

from typing import Any

import msgspec

from exsearch.core.ids import Id
from exsearch.core.shape import convert
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import Annotated, NamedPassage, Text, Texts, aliases, known_id
from exsearch.questions.readers.cells import as_list
from exsearch.questions.readers.musique import MusiqueStep, with_steps
from exsearch.questions.readers.supporting import Supported, evidence_of


class _Metadata(Supported, kw_only=True):
    """The part of the metadata that FlashRAG keeps of the source which is used here."""

    type: str | None = None
    question_decomposition: list[MusiqueStep] | None = None


class _FlashRag(msgspec.Struct):
    question: str
    golden_answers: Texts = None
    id: Id | None = None
    metadata: _Metadata | None = None

    def annotated(self, id: str, answers: list[Text | None]) -> Annotated:
        metadata = self.metadata or _Metadata()
        gold = metadata.gold()
        question = Question(
            id, self.question, aliases(answers), metadata.type, len(gold) or None, evidence=evidence_of(gold)
        )
        if metadata.question_decomposition:
            return with_steps(question, metadata.question_decomposition)
        return Annotated(question, gold)


def is_flashrag(fields: dict[str, Any]) -> bool:
    """Return whether a record has FlashRAG's name for answers."""
    return "golden_answers" in fields


def read_flashrag(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question, and gold passages from its metadata if it is from HotpotQA, 2WikiMultihopQA or MuSiQue."""
    record = convert(fields, _FlashRag)
    return record.annotated(known_id(id, record.id), as_list(record.golden_answers))


class _Truth(msgspec.Struct):
    target: Texts


class _Reward(msgspec.Struct):
    ground_truth: _Truth


class _SearchR1(_FlashRag, kw_only=True):
    reward_model: _Reward
    data_source: str | None = None


def is_search_r1(fields: dict[str, Any]) -> bool:
    """Return whether a record has Search-R1's reward model."""
    return "reward_model" in fields


def read_search_r1(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question from a file of several data sets, each of which numbers its own questions from 0."""
    record = convert(fields, _SearchR1)
    own = known_id(id, record.id)
    answers = [*as_list(record.golden_answers), *as_list(record.reward_model.ground_truth.target)]
    return record.annotated(f"{record.data_source}/{own}" if record.data_source else own, answers)


class _SearchLm(msgspec.Struct):
    query_id: Id
    question: str
    answer: Texts = None


def is_searchlm(fields: dict[str, Any]) -> bool:
    """Return whether a record has SearchLM's name for ids; SearchLM has no plural `answers`."""
    return "query_id" in fields and "answers" not in fields


def read_searchlm(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question and one answer, or a list of answers."""
    record = convert(fields, _SearchLm)
    return Annotated(Question(known_id(id, record.query_id), record.question, aliases(as_list(record.answer))))


class _Span(msgspec.Struct):
    evidence_span: list[str] | None = None


class _Provenance(msgspec.Struct):
    title: str | None = None
    meta: _Span | None = None

    def spans(self) -> list[str]:
        return self.meta.evidence_span or [] if self.meta else []


class _Output(msgspec.Struct):
    answer: Text | None = None
    provenance: list[_Provenance] | None = None


class _Kilt(msgspec.Struct):
    id: Id
    input: str
    output: list[_Output] = []


def is_kilt(fields: dict[str, Any]) -> bool:
    """Return whether a record has an input and outputs."""
    return "input" in fields and "id" in fields


def read_kilt(fields: dict[str, Any], id: str) -> Annotated:
    """Read a question and its outputs; each is a further answer, or a further place of the answer.

    The places of one output belong together, and those of several are alternatives: the first output with places
    counts. Pages are identified by title, not by `wikipedia_id`, which a corpus may use for another passage.
    """
    record = convert(fields, _Kilt)
    places = next((output.provenance for output in record.output if output.provenance), [])
    spans: dict[str, list[str]] = {}
    for place in places:
        if place.title:
            spans.setdefault(place.title, []).extend(place.spans())
    gold = [NamedPassage(title=title, sentences=tuple(dict.fromkeys(sentences))) for title, sentences in spans.items()]
    answers = aliases(output.answer for output in record.output)
    return Annotated(Question(known_id(id, record.id), record.input, answers), gold)
