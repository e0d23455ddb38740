"""The JSON files of SearchLM.

* Questions: a list of `{"query_id", "question", "answer"}`; `answer` is one string or a list of aliases.
* Questions with documents: as above, and `retrieval`, a list of documents, each one string. The format is documented by
  SearchLM's sister project (direct-rag-learning); the strings have the form of SearchLM's search function.
* Trajectories: `{"score", "output", "config"}`, where `output` is a list of `{"query_id", "question", "answer",
  "prediction", "messages", ...}` and `messages` are the turns as `{"role", "content"}`.
* Weighted trajectories, the input of `align`: a list of `{"messages", "prob", ...}`.
"""

from pathlib import Path

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json
from exsearch.questions.question import Question
from exsearch.questions.with_hits import PairedQuestion


class SourceQuestion(msgspec.Struct, frozen=True):
    """One entry of a question file."""

    question: str
    answer: str | list[str]
    query_id: str | int | None = None


class SourcePaired(msgspec.Struct, frozen=True):
    """A question with its documents."""

    query_id: str
    question: str
    answer: str
    """The canonical alias, since SearchLM's code takes one string."""
    retrieval: list[str]
    """Best first, `Title: TITLE. Content: TEXT`."""


class Message(msgspec.Struct, frozen=True):
    """One turn."""

    role: str
    content: str


class Output(msgspec.Struct, frozen=True):
    """One trajectory of an inference file."""

    query_id: str
    question: str
    answer: list[str]
    messages: list[Message]
    prediction: str = ""
    sample: int = 0
    stop_reason: str = ""


class InferenceFile(msgspec.Struct, frozen=True):
    """The output of `inference` and input of `entropy`."""

    output: list[Output]
    score: dict[str, float] = {}
    config: dict[str, object] = {}


class WeightedConversation(msgspec.Struct, frozen=True):
    """One entry of the output of `entropy`, the input of `align`."""

    messages: list[Message]
    prob: float
    query_id: str
    entropy: float
    """Mean negative log-likelihood of the gold answer's tokens after the trajectory, in nats."""


def read_source_questions(path: Path, left: int, right: int | None) -> list[Question]:
    """Return questions `left` to `right`, exclusive, of a question file. Raises UsageError naming an invalid entry."""
    entries = read_json(path, list[SourceQuestion])
    questions: list[Question] = []
    numbers: dict[str, int] = {}
    for number, entry in list(enumerate(entries))[left:right]:
        answers = [entry.answer] if isinstance(entry.answer, str) else entry.answer
        answers = [answer for answer in answers if answer.strip()]
        id_ = str(number if entry.query_id is None else entry.query_id)
        if id_ in numbers:
            raise UsageError(f"{path}, entry {number}: query_id {id_!r} is already that of entry {numbers[id_]}")
        numbers[id_] = number
        if not entry.question.strip() or not answers:
            raise UsageError(f"{path}, entry {number}: needs a question and an answer")
        questions.append(Question(id_, entry.question, answers))
    if not questions:
        raise UsageError(f"{path}: no questions from --left {left} to --right {right}; the file has {len(entries)}")
    return questions


def paired_of(paired: PairedQuestion) -> SourcePaired:
    """Return a question with its documents in the reference's form."""
    documents = [f"Title: {hit.title}. Content: {hit.text}" for hit in paired.hits]
    return SourcePaired(paired.id, paired.text, paired.answers[0], documents)


def output_of(trajectory: Trajectory, question: Question, chat: ChatFormat) -> Output:
    """Return a trajectory in the reference's form."""
    messages = [Message(**message) for message in chat.messages(trajectory.token_ids)]
    return Output(
        query_id=question.id,
        question=question.text,
        answer=question.answers,
        messages=messages,
        prediction=trajectory.answer or "",
        sample=trajectory.sample,
        stop_reason=trajectory.stop_reason.value,
    )
