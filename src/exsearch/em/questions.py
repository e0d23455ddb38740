"""The questions of a run: to learn from, to choose by, to test on, and those that the guard holds out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exsearch.agent.trajectory import Trajectory
from exsearch.config import Config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.seeds import derive_seed
from exsearch.questions.question import Question, read_questions

MORE = 1.5
"""A refused step was of too few questions: the E-step after it asks so many times as many (ascent-based Monte Carlo EM
enlarges its sample by a half or a third; Caffo, Jank, Jones 2005)."""


@dataclass(frozen=True)
class RunQuestions:
    """The questions of one run."""

    train: list[Question]
    """All of the training file, the warm-up's and the guard's included."""
    dev: list[Question]
    """Empty where the guard chooses."""
    test: list[Question]
    pool: list[Question]
    """Those to explore."""
    guard: list[Question]
    """Held out of `pool`, in an order that depends on the seed alone."""

    @classmethod
    def read(cls, config: Config) -> "RunQuestions":
        """Read the files that the settings name; raises UsageError for one that is missing or has too few questions."""
        data, guarded = config.data, config.loop.guard > 0
        train = read_questions(Path(data.train), data.train_limit)
        dev = read_questions(Path(data.dev), data.dev_limit) if data.dev else []
        test = read_questions(Path(data.test), data.test_limit)
        pool = _to_explore(config, train)
        guard: list[Question] = []
        if guarded and data.guard:
            guard = _named_guard(config, [*train, *test], pool)
        elif guarded:
            pool, guard = hold_out_last(pool, train, config.loop.guard)
        guard.sort(key=lambda question: derive_seed(config.seed, "guard", question.id))
        if not pool:
            guards = f" and the guard the last {config.loop.guard}" if guarded and not data.guard else ""
            raise UsageError(
                f"{data.train}: {len(train)} questions, and the warm-up takes all of them "
                f"({'data.warmup' if data.warmup else 'warmup.questions'}){guards}: none are left to explore"
            )
        return cls(train, dev, test, pool, guard)

    def splits(self) -> dict[str, list[Question]]:
        """Return those that a run folder keeps, by the names of their files."""
        found = {"train": self.train, "dev": self.dev, "test": self.test, "guard": self.guard}
        return {name: questions for name, questions in found.items() if questions}

    def to_explore(self, number: int, count: int, refused: Sequence[bool]) -> list[Question]:
        """Return the questions of an iteration, counted from 1: the next ones of the pool, wrapping around.

        `count` is how many the first asks, `refused` says of each one before whether its step was.
        """
        counts = [min(each, len(self.pool)) for each in asked(count, refused)]
        first = sum(counts[: number - 1])
        return [self.pool[(first + offset) % len(self.pool)] for offset in range(counts[number - 1])]


def require_files(config: Config) -> None:
    """Raise UsageError if the settings do not name a file that the run needs."""
    data, guarded = config.data, config.loop.guard > 0
    for key in ("index", "train", "test") if guarded else ("index", "train", "dev", "test"):
        if not getattr(data, key):
            raise UsageError(f"the config names no data.{key}")
    if data.guard and not guarded:
        raise UsageError("data.guard names questions, of which loop.guard = 0 uses none; say how many")


def asked(count: int, refused: Sequence[bool]) -> list[int]:
    """Return how many questions each iteration asks, the next one included: more after each refused step."""
    counts = [count]
    for was_refused in refused:
        counts.append(math.ceil(MORE * counts[-1]) if was_refused else counts[-1])
    return counts


def _to_explore(config: Config, train: list[Question]) -> list[Question]:
    """Return the training questions that the warm-up does not learn from."""
    if not config.data.warmup:
        return train[config.warmup.questions :]
    ready = {trajectory.question_id for trajectory in read_jsonl(Path(config.data.warmup), Trajectory)}
    return [question for question in train if question.id not in ready]


def hold_out_last(pool: list[Question], train: list[Question], count: int) -> tuple[list[Question], list[Question]]:
    """Return the pool without its last questions, and these, `count` of them.

    A question whose words another one of `train` has stays in the pool: it would be learned under the other id. Raises
    UsageError if too few are left.
    """
    words: dict[str, int] = {}
    for question in train:
        words[_words(question)] = words.get(_words(question), 0) + 1
    alone = [question for question in pool if words[_words(question)] == 1]
    guard = alone[max(len(alone) - count, 0) :]
    held = {question.id for question in guard}
    left = [question for question in pool if question.id not in held]
    if len(guard) < count:
        raise UsageError(
            f"loop.guard = {count}: only {len(alone)} training questions can be held out, those that the warm-up does "
            "not take and that are asked once"
        )
    return left, guard


def _named_guard(config: Config, others: list[Question], pool: list[Question]) -> list[Question]:
    """Return the questions of `data.guard`; raises UsageError if any of them is learned from or tested on."""
    path, count = Path(config.data.guard), config.loop.guard
    guard = read_questions(path)[:count]
    if len(guard) < count:
        raise UsageError(f"{path}: {len(guard)} questions, and loop.guard = {count}")
    ids, words = {question.id for question in others}, {_words(question) for question in others}
    if config.data.warmup:
        ids |= {trajectory.question_id for trajectory in read_jsonl(Path(config.data.warmup), Trajectory)}
    both = [question for question in guard if question.id in ids or _words(question) in words]
    if both:
        raise UsageError(
            f"{path}: {len(both)} of the guard's {count} questions are also learned from or tested on, the first "
            f"{both[0].id!r}; name others, or leave data.guard out to hold out training questions"
        )
    return guard


def refuse_learned(guard: Iterable[Question], learned: Iterable[str]) -> None:
    """Raise UsageError if a question of the guard is among the ids `learned`."""
    if both := sorted({question.id for question in guard} & set(learned)):
        raise UsageError(
            f"{len(both)} of the guard's questions were learned from, the first {both[0]!r}; a step tried on what it "
            "has learned is never refused"
        )


def _words(question: Question) -> str:
    """Return what makes two questions one: the words, whatever the case and the blanks."""
    return " ".join(question.text.casefold().split())
