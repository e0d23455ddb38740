"""Rollouts into append-only journals: what they already hold is not rolled out again."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from exsearch import coroutines
from exsearch.agent.grammar import Grammar
from exsearch.agent.rollout import BRANCH, Draw, seed_of
from exsearch.agent.trajectory import Trajectory
from exsearch.data.question import Question
from exsearch.errors import ExSearchError, UsageError
from exsearch.files import Journal, set_damaged_aside, write_jsonl
from exsearch.progress import Progress, progress

MOST_FAILED = 0.1
"""Share of trajectories that retriever or engine may fail."""
Found = dict[int, Trajectory]
"""The trajectories of one question, by sample."""
Plan = Callable[[Found], list[int]]
"""From the trajectories that a question has to the samples to draw next; none if it has enough."""


class Agents(Protocol):
    """What rolls out: an agent, or many."""

    model_fingerprint: str
    index_fingerprint: str
    grammar: Grammar
    in_flight: int
    """Trajectories that it has room for at once."""

    async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
        """Run one trajectory, with its branches."""
        ...

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Return a trajectory with the log-probs that this model gives it."""
        ...

    def close(self) -> None:
        """Free the memory of the model."""
        ...


def first_samples(count: int) -> Plan:
    """Return the plan that draws samples 0 to `count` - 1."""
    return lambda found: [sample for sample in range(count) if sample not in found]


def run_journaled(
    agents: Agents, sets: dict[Path, list[Question]], plan: Plan, most: int, draw: Draw, label: str
) -> dict[Path, list[list[Trajectory]]]:
    """Roll out what the plan asks for and the journals lack; return the trajectories of each question.

    `sets` has the questions of each journal: all are in flight together. A plan asks for at most `most` samples of a
    question. A trajectory is written, with its branches, as soon as it has ended. Raises UsageError if a journal
    belongs to another model, index, grammar or seed.
    """
    with ExitStack() as stack:
        opened = [_open(path, questions, agents, draw.seed, stack) for path, questions in sets.items()]
        finished = sum(_roots(found) for each in opened for found in each.done.values())
        total = sum(len(questions) for questions in sets.values()) * most
        with progress(label, total, finished) as bar:
            coroutines.run(_run(agents, opened, plan, most, draw, bar))
    return {each.path: each.trajectories() for each in opened}


def read_journal(path: Path) -> list[Trajectory]:
    """Return what a journal holds, repaired as for going on with it; an empty one is made if there is none."""
    _set_damaged_aside(path)
    with Journal(path) as journal:
        return _complete(journal)


def forget_failed(path: Path, questions: list[Question], agents: Agents, seed: int) -> set[str]:
    """Take out of a journal what retriever or engine failed, with its branches: the same draws are made again.

    Returns the ids of their questions. Raises UsageError, before anything is changed, if the journal belongs to another
    model, index, grammar or seed.
    """
    if not path.exists():
        return set()
    found = read_journal(path)
    done = _of_questions(found, questions)
    _check_origin(done, agents, questions, seed, path)
    failed = {(id, sample % BRANCH) for id, group in done.items() for sample, each in group.items() if each.failed}
    if failed:
        print(f"{path}: {len(failed)} trajectories had failed and are made again", file=sys.stderr)
        write_jsonl(path, [each for each in found if (each.question_id, each.sample % BRANCH) not in failed])
    return {id for id, _ in failed}


def few_failed(trajectories: list[Trajectory]) -> str:
    """Return how many trajectories retriever or engine failed, and how the first; nothing if they failed none.

    Raises ExSearchError if they failed so many that what is made of the others would be that of an outage.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.failed]
    if not failed:
        return ""
    told = f"{len(failed)} of {len(trajectories)} trajectories failed, that of {failed[0].question_id!r} with: "
    told += failed[0].stop_detail or failed[0].stop_reason
    if len(failed) > MOST_FAILED * len(trajectories):
        raise ExSearchError(f"{told}. The same command makes these again")
    return told


def _set_damaged_aside(path: Path) -> None:
    for fault in set_damaged_aside(path, Trajectory):
        print(f"{fault}: set aside in {path.name}.damaged, and made again", file=sys.stderr)


@dataclass
class _Opened:
    """A journal in use."""

    path: Path
    questions: list[Question]
    journal: Journal
    done: dict[str, Found]
    """By question id."""

    def add(self, question: Question, new: list[Trajectory]) -> None:
        self.journal.append(new[::-1])  # branches first: where the trajectory is, they are too
        self.done[question.id].update({trajectory.sample: trajectory for trajectory in new})

    def trajectories(self) -> list[list[Trajectory]]:
        return [[found for _, found in sorted(self.done[question.id].items())] for question in self.questions]


def _open(path: Path, questions: list[Question], agents: Agents, seed: int, stack: ExitStack) -> _Opened:
    _set_damaged_aside(path)
    journal = stack.enter_context(Journal(path))
    done = _of_questions(_complete(journal), questions)
    _check_origin(done, agents, questions, seed, path)
    return _Opened(path, questions, journal, done)


def _of_questions(trajectories: list[Trajectory], questions: list[Question]) -> dict[str, Found]:
    """Return the trajectories of each question by its id; there may be others."""
    done: dict[str, Found] = {question.id: {} for question in questions}
    for trajectory in trajectories:
        if trajectory.question_id in done:
            done[trajectory.question_id][trajectory.sample] = trajectory
    return done


async def _run(agents: Agents, opened: list[_Opened], plan: Plan, most: int, draw: Draw, bar: Progress) -> None:
    free = asyncio.Semaphore(agents.in_flight)

    async def one(work: _Opened, question: Question, sample: int) -> None:
        async with free:
            new = await agents.trajectories(question, sample, draw)
        work.add(question, new)
        bar.advance(1)

    async def all_of(work: _Opened, question: Question) -> None:
        found = work.done[question.id]
        while samples := plan(found):
            await asyncio.gather(*(one(work, question, sample) for sample in samples))
        if spared := most - _roots(found):
            bar.advance(spared)

    # not a task group, which would raise a group of errors; the end of the event loop cancels what still runs
    await asyncio.gather(*(all_of(work, question) for work in opened for question in work.questions))


def _complete(journal: Journal) -> list[Trajectory]:
    """Return what the journal holds, without branches at its end whose trajectory was not written any more."""
    trajectories = list(journal.read(Trajectory))
    last = len(trajectories)
    while last and trajectories[last - 1].sample >= BRANCH:
        last -= 1
    if last < len(trajectories):
        journal.drop_last(len(trajectories) - last)
    return trajectories[:last]


def _roots(found: Found) -> int:
    """Return how many trajectories are no branches of others."""
    return sum(sample < BRANCH for sample in found)


def _check_origin(done: dict[str, Found], agents: Agents, questions: list[Question], seed: int, path: Path) -> None:
    expected = (agents.model_fingerprint, agents.index_fingerprint)
    for question in questions:
        for sample, found in done[question.id].items():
            if (found.model_fingerprint, found.index_fingerprint) != expected:
                raise UsageError(f"{path}: holds trajectories of another model or index; choose another file")
            if found.grammar != agents.grammar.name:
                raise UsageError(f"{path}: holds trajectories of grammar {found.grammar}; choose another file")
            if found.seed != seed_of(question, sample, seed):
                raise UsageError(f"{path}: holds trajectories of another seed; choose another file")
