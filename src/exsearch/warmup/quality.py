"""What warm-up trajectories are worth: was the evidence read, and does the answer follow from it?"""

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
    """What became of a question."""

    question: Question
    trajectory: Trajectory | None = None
    left_out: str = ""
    """Why there is no trajectory."""
    inserted: int = 0
    """Gold passages that were put among the hits."""


class TeacherCost(msgspec.Struct, frozen=True):
    """What a teacher was asked and charges for, over all starts."""

    model: str
    attempts: int
    failed: dict[str, int]
    """Attempts that became no trajectory, by what was wrong."""
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's."""
    completion_tokens: int
    price: float | None
    """In the currency of `--price`."""


class WarmupReport(msgspec.Struct, frozen=True):
    """The content of W.report.json."""

    questions: int
    trajectories: int
    left_out: dict[str, int]
    """Questions that became no trajectory, by reason."""
    evidence_read: float
    """Share of the trajectories all of whose recorded facts stand word for word in the passages of their step, as the
    model reads them: after shortening."""
    evidence_words: float
    """Mean share of the words of the recorded facts that occur in those passages, for facts in other words."""
    answer_follows: float
    """Share whose recorded facts contain a gold alias. That of a comparison often cannot."""
    mean_steps: float
    mean_tokens: float
    mean_learned_tokens: float
    """Tokens that carry loss."""
    gold_inserted: int
    """Gold passages that were put among the hits."""
    trajectories_with_inserted: int
    shortened_passages: int
    index: str
    """Fingerprint."""
    written_by: str
    """`gold`, or the teacher."""
    teacher: TeacherCost | None = None


class Quality:
    """Counts outcomes as they pass."""

    def __init__(self, chat: ChatFormat) -> None:
        """Read passages with this tokenizer."""
        self._chat = chat
        self._questions = 0
        self._left_out: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)

    def passing(self, outcomes: Iterable[Outcome]) -> Iterator[Trajectory]:
        """Count outcomes; yield their trajectories. Raises UsageError at the end if there was none."""
        for outcome in outcomes:
            self._questions += 1
            if outcome.trajectory is None:
                self._left_out[outcome.left_out] += 1
                continue
            self._count(outcome.trajectory, outcome.question, outcome.inserted)
            yield outcome.trajectory
        if not self._sums:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self._left_out.most_common())
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
        """Return the figures of what has passed, which is at least one trajectory."""
        sums, count = self._sums, self._sums["trajectories"]
        return WarmupReport(
            questions=self._questions,
            trajectories=int(count),
            left_out=dict(self._left_out.most_common()),
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
    """Return whether every sentence recorded stands in the passages of its step, as they were shown.

    Case, punctuation, articles and white space do not count. A step that recorded nothing is fine.
    """
    shown = _shown(trajectory, chat)
    return all(
        accuracy(text, [sentence])
        for step, text in zip(trajectory.steps, shown, strict=True)
        for sentence in _sentences(step.evidence)
    )


def evidence_was_cut(trajectory: Trajectory, evidence: list[str], chat: ChatFormat) -> bool:
    """Return whether a sentence of a step's evidence stands in a passage of it, but not in what was shown of that."""
    return any(
        not accuracy(text, [sentence]) and any(accuracy(hit.passage.text, [sentence]) for hit in step.hits)
        for step, text, told in zip(trajectory.steps, _shown(trajectory, chat), evidence, strict=True)
        for sentence in _sentences(told)
    )


def shared_words(trajectory: Trajectory, chat: ChatFormat) -> float:
    """Return the share of the words recorded that occur in the passages of their step, as they were shown."""
    recorded = read = 0
    for step, text in zip(trajectory.steps, _shown(trajectory, chat), strict=True):
        words, known = _words(step.evidence or ""), set(_words(text))
        recorded += len(words)
        read += sum(word in known for word in words)
    return read / recorded if recorded else 0.0


def answer_follows(trajectory: Trajectory, question: Question) -> bool:
    """Return whether the recorded facts contain a gold alias."""
    return bool(accuracy(" ".join(step.evidence or "" for step in trajectory.steps), question.answers))


def _shown(trajectory: Trajectory, chat: ChatFormat) -> list[str]:
    """Return what the user said with the passages of each step of an answered trajectory.

    A grammar that searches first shows the first ones with the question.
    """
    said = [message["content"] for message in chat.messages(trajectory.token_ids) if message["role"] == "user"]
    first = 0 if len(said) == len(trajectory.steps) else 1
    return said[first : first + len(trajectory.steps)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _sentences(evidence: str | None) -> list[str]:
    # a text contains itself unless nothing of it counts, as of the initial in "A. Smith"
    return [sentence for sentence in sentence_parts(evidence or "") if accuracy(sentence, [sentence])]
