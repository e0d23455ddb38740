"""The questions of a run: for training, for choosing the best iteration, for testing, and those of the guard."""

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
"""Growth of the number of questions after a refused step, which saw too few of them (ascent-based Monte Carlo EM
enlarges its sample by a half or a third; Caffo, Jank, Jones 2005)."""


@dataclass(frozen=True)
class RunQuestions:
    """The questions of one run."""

    train: list[Question]
    """All of the training file, including those of the warm-up and of the guard."""
    dev: list[Question]
    """Validation questions; empty if the guard's are used to choose the best iteration."""
    test: list[Question]
    pool: list[Question]
    """Training questions to explore."""
    guard: list[Question]
    """Questions of the guard, held out of `pool`, in an order that depends only on the seed."""

    @classmethod
    def read(cls, config: Config) -> "RunQuestions":
        """Read the files that the settings name. Raises UsageError for a missing or too short file."""
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
        """Return the non-empty splits that a run folder keeps, by name of their file."""
        splits = {"train": self.train, "dev": self.dev, "test": self.test, "guard": self.guard}
        return {name: questions for name, questions in splits.items() if questions}

    def to_explore(self, number: int, count: int, refused: Sequence[bool]) -> list[Question]:
        """Return the questions of iteration `number`, counted from 1: the next ones of the pool, wrapping around.

        `count` is the number of the first iteration; `refused` has, for each earlier iteration, whether its step was
        refused.
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
        raise UsageError(
            "data.guard is set, but loop.guard = 0 uses none of its questions; set loop.guard to their number"
        )


def asked(count: int, refused: Sequence[bool]) -> list[int]:
    """Return the number of questions of each iteration, up to and including the next: more after each refused step."""
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
    """Return the pool without its last `count` questions, and these.

    A question with the same words as another one of `train` stays in the pool, since it would be learned under the
    other id. Raises UsageError if too few can be held out.
    """
    words: dict[str, int] = {}
    for question in train:
        words[_words(question)] = words.get(_words(question), 0) + 1
    alone = [question for question in pool if words[_words(question)] == 1]
    guard = alone[max(len(alone) - count, 0) :]
    held_out = {question.id for question in guard}
    rest = [question for question in pool if question.id not in held_out]
    if len(guard) < count:
        raise UsageError(
            f"loop.guard = {count}: only {len(alone)} training questions can be held out, those that the warm-up does "
            "not use and that occur once"
        )
    return rest, guard


def _named_guard(config: Config, others: list[Question], pool: list[Question]) -> list[Question]:
    """Return the questions of `data.guard`. Raises UsageError if any of them is also trained or tested on."""
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
            f"{both[0].id!r}; name others, or unset data.guard to hold out training questions"
        )
    return guard


def refuse_learned(guard: Iterable[Question], learned_ids: Iterable[str]) -> None:
    """Raise UsageError if a question of the guard is among the ids `learned_ids`."""
    if both := sorted({question.id for question in guard} & set(learned_ids)):
        raise UsageError(
            f"{len(both)} of the guard's questions were learned from, the first {both[0]!r}; a step tried on what it "
            "has learned is never refused"
        )


def _words(question: Question) -> str:
    """Return the words of a question, by which duplicates are recognised: without case and extra blanks."""
    return " ".join(question.text.casefold().split())
