"""Rollouts into an append-only journal: what it already holds is not rolled out again."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from exsearch.agent.rollout import BRANCH, Draw, seed_of
from exsearch.agent.trajectory import Trajectory
from exsearch.data.question import Question
from exsearch.errors import UsageError
from exsearch.files import Journal, set_damaged_aside
from exsearch.progress import Progress, progress

Found = dict[int, Trajectory]
"""The trajectories of one question, by sample."""
Plan = Callable[[Found], list[int]]
"""From the trajectories that a question has to the samples to draw next; none if it has enough."""


class Agents(Protocol):
    """What rolls out: an agent, or many."""

    model_fingerprint: str
    index_fingerprint: str
    in_flight: int
    """Trajectories that it has room for at once."""

    async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
        """Run one trajectory, with its branches."""
        ...

    def close(self) -> None:
        """Free the memory of the model."""
        ...


def first_samples(count: int) -> Plan:
    """Return the plan that draws samples 0 to `count` - 1."""
    return lambda found: [sample for sample in range(count) if sample not in found]


def run_journaled(
    agents: Agents, questions: list[Question], plan: Plan, most: int, draw: Draw, path: Path, label: str
) -> list[list[Trajectory]]:
    """Roll out what the plan asks for and the journal at `path` lacks; return the trajectories of each question.

    A plan asks for at most `most` samples. A trajectory is written, with its branches, as soon as it has ended. Raises
    UsageError if the journal belongs to another model, index or seed.
    """
    for fault in set_damaged_aside(path, Trajectory):
        print(f"{fault}: set aside in {path.name}.damaged, and made again", file=sys.stderr)
    with Journal(path) as journal:
        done: dict[str, Found] = {question.id: {} for question in questions}
        for trajectory in _complete(journal):
            if trajectory.question_id in done:
                done[trajectory.question_id][trajectory.sample] = trajectory
        _check_origin(done, agents, questions, draw.seed, path)
        finished = sum(_roots(found) for found in done.values())
        with progress(label, len(questions) * most, finished) as bar:
            asyncio.run(_run(agents, questions, plan, most, draw, journal, done, bar))
    return [[found for _, found in sorted(done[question.id].items())] for question in questions]


async def _run(
    agents: Agents,
    questions: list[Question],
    plan: Plan,
    most: int,
    draw: Draw,
    journal: Journal,
    done: dict[str, Found],
    bar: Progress,
) -> None:
    free = asyncio.Semaphore(agents.in_flight)

    async def one(question: Question, sample: int) -> None:
        async with free:
            new = await agents.trajectories(question, sample, draw)
        journal.append(new[::-1])  # branches first: where the trajectory is, they are too
        done[question.id].update({trajectory.sample: trajectory for trajectory in new})
        bar.advance(1)

    async def all_of(question: Question) -> None:
        found = done[question.id]
        while samples := plan(found):
            await asyncio.gather(*(one(question, sample) for sample in samples))
        if spared := most - _roots(found):
            bar.advance(spared)

    async with asyncio.TaskGroup() as group:
        for question in questions:
            group.create_task(all_of(question))


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
            if found.seed != seed_of(question, sample, seed):
                raise UsageError(f"{path}: holds trajectories of another seed; choose another file")
