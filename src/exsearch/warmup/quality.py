"""Quality report of warm-up trajectories: is the evidence in the retrieved passages, and does it contain the answer?"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.core.errors import UsageError
from exsearch.core.sentences import sentence_parts
from exsearch.evaluation.metrics import accuracy
from exsearch.questions.question import Question


@dataclass(frozen=True)
class Outcome:
    """What became of a question: a trajectory, or a reason why not."""

    question: Question
    trajectory: Trajectory | None = None
    skip_reason: str = ""
    """Why there is no trajectory."""
    inserted: int = 0
    """Number of gold passages inserted into the hits."""


class TeacherCost(msgspec.Struct, frozen=True):
    """The number of attempts of a teacher and their cost, over all starts."""

    model: str
    attempts: int
    failed: dict[str, int]
    """Attempts that became no trajectory, by reason."""
    prompt_tokens: int
    cached_tokens: int
    """Cached tokens among those of the prompts."""
    completion_tokens: int
    price: float | None
    """In the currency of `--price`."""


class WarmupReport(msgspec.Struct, frozen=True):
    """The content of W.report.json."""

    questions: int
    trajectories: int
    skipped: dict[str, int] = msgspec.field(name="left_out")
    """Questions that became no trajectory, by reason."""
    evidence_read: float
    """Share of the trajectories all of whose recorded facts occur word for word in the passages of their step, as the
    model reads them: after truncation."""
    evidence_words: float
    """Mean share of the recorded facts' words that occur in those passages; for facts in other words."""
    answer_follows: float
    """Share whose recorded facts contain a gold alias. For comparison questions, they often cannot."""
    mean_steps: float
    mean_tokens: float
    mean_learned_tokens: float
    """Tokens that are trained on."""
    gold_inserted: int
    """Gold passages inserted into the hits."""
    trajectories_with_inserted: int
    shortened_passages: int
    index: str
    """Fingerprint."""
    written_by: str
    """`gold`, or the teacher's name."""
    teacher: TeacherCost | None = None


class Quality:
    """Counts outcomes while they are written."""

    def __init__(self, chat: ChatFormat) -> None:
        """Decode passages with this tokenizer."""
        self._chat = chat
        self._questions = 0
        self._skipped: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)

    def count(self, outcomes: Iterable[Outcome]) -> Iterator[Trajectory]:
        """Count outcomes, and yield their trajectories. Raises UsageError at the end if there are none."""
        for outcome in outcomes:
            self._questions += 1
            if outcome.trajectory is None:
                self._skipped[outcome.skip_reason] += 1
                continue
            self._count(outcome.trajectory, outcome.question, outcome.inserted)
            yield outcome.trajectory
        if not self._sums:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self._skipped.most_common())
            raise UsageError(f"none of {self._questions} questions became a trajectory ({reasons})")

    def _count(self, trajectory: Trajectory, question: Question, inserted: int) -> None:
        counts = {
            "trajectories": 1,
            "evidence_read": evidence_was_read(trajectory, self._chat),
            "evidence_words": shared_words(trajectory, self._chat),
            "answer_follows": answer_follows(trajectory, question),
            "steps": len(trajectory.steps),
            "tokens": len(trajectory.token_ids),
            "learned": sum(trajectory.loss_mask),
            "inserted": inserted,
            "with_inserted": inserted > 0,
            "shortened": trajectory.shortened_passages,
        }
        for name, count in counts.items():
            self._sums[name] += count

    def report(self, index: str, written_by: str, teacher: TeacherCost | None = None) -> WarmupReport:
        """Return the figures of the outcomes counted, which include at least one trajectory."""
        sums, count = self._sums, self._sums["trajectories"]
        return WarmupReport(
            questions=self._questions,
            trajectories=int(count),
            skipped=dict(self._skipped.most_common()),
            evidence_read=round(sums["evidence_read"] / count, 4),
            evidence_words=round(sums["evidence_words"] / count, 4),
            answer_follows=round(sums["answer_follows"] / count, 4),
            mean_steps=round(sums["steps"] / count, 2),
            mean_tokens=round(sums["tokens"] / count, 1),
            mean_learned_tokens=round(sums["learned"] / count, 1),
            gold_inserted=int(sums["inserted"]),
            trajectories_with_inserted=int(sums["with_inserted"]),
            shortened_passages=int(sums["shortened"]),
            index=index,
            written_by=written_by,
            teacher=teacher,
        )


def evidence_was_read(trajectory: Trajectory, chat: ChatFormat) -> bool:
    """Return whether every recorded sentence occurs in the passages of its step, as they were shown.

    Case, punctuation, articles and white space are ignored. A step that recorded nothing passes.
    """
    passages_shown = _shown(trajectory, chat)
    return all(
        accuracy(text, [sentence])
        for step, text in zip(trajectory.steps, passages_shown, strict=True)
        for sentence in _sentences(step.evidence)
    )


def evidence_was_cut(trajectory: Trajectory, evidence: list[str], chat: ChatFormat) -> bool:
    """Return whether a sentence of a step's evidence occurs in a passage, but not in the part that was shown."""
    return any(
        not accuracy(text, [sentence]) and any(accuracy(hit.passage.text, [sentence]) for hit in step.hits)
        for step, text, sentences in zip(trajectory.steps, _shown(trajectory, chat), evidence, strict=True)
        for sentence in _sentences(sentences)
    )


def shared_words(trajectory: Trajectory, chat: ChatFormat) -> float:
    """Return the share of the recorded words that occur in the passages of their step, as they were shown."""
    recorded = matched = 0
    for step, text in zip(trajectory.steps, _shown(trajectory, chat), strict=True):
        words, words_shown = _words(step.evidence or ""), set(_words(text))
        recorded += len(words)
        matched += sum(word in words_shown for word in words)
    return matched / recorded if recorded else 0.0


def answer_follows(trajectory: Trajectory, question: Question) -> bool:
    """Return whether the recorded facts contain a gold alias."""
    return bool(accuracy(" ".join(step.evidence or "" for step in trajectory.steps), question.answers))


def _shown(trajectory: Trajectory, chat: ChatFormat) -> list[str]:
    """Return the user's text with the passages, for each step of an answered trajectory.

    In a grammar that searches first, the first passages come with the question.
    """
    user_texts = [message["content"] for message in chat.messages(trajectory.token_ids) if message["role"] == "user"]
    first = 0 if len(user_texts) == len(trajectory.steps) else 1
    return user_texts[first : first + len(trajectory.steps)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _sentences(evidence: str | None) -> list[str]:
    # a text contains itself unless normalisation empties it, as it does the initial in "A. Smith"
    return [sentence for sentence in sentence_parts(evidence or "") if accuracy(sentence, [sentence])]
