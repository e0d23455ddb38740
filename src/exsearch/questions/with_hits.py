"""Questions paired with the documents that a search for the question itself returns."""

from collections.abc import Iterator

import msgspec

from exsearch.core.progress import progress
from exsearch.questions.question import Question
from exsearch.retrieval.base import Retriever

BATCH = 64
"""Questions per search."""


class Document(msgspec.Struct, frozen=True):
    """A hit of a paired question."""

    id: str
    title: str
    text: str
    score: float


class PairedQuestion(Question, frozen=True, kw_only=True):
    """A question with its documents, best first; its JSON line is also valid in a question file."""

    hits: list[Document]


def pair(questions: list[Question], retriever: Retriever, k: int) -> Iterator[PairedQuestion]:
    """Yield the questions in order, each with at most `k` documents."""
    with progress("retrieve", len(questions)) as bar:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            for question, hits in zip(batch, retriever.search([q.text for q in batch], k), strict=True):
                documents = [Document(h.passage.id, h.passage.title, h.passage.text, h.score) for h in hits]
                yield PairedQuestion(**msgspec.structs.asdict(question), hits=documents)
            bar.advance(len(batch))
