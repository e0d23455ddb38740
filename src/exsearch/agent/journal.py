"""Rollouts into append-only journals: what they already hold is not rolled out again."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.episode import seed_of
from exsearch.agent.origin import Origin, check_origin, is_told, keep_origin, origin_of, origin_path
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Number, Trajectory
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.journal import Journal
from exsearch.core.jsonl import quarantine_damaged_lines, write_jsonl
from exsearch.core.locks import sole_writer
from exsearch.core.progress import Progress, progress
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings
from exsearch.processes import coroutines
from exsearch.questions.question import Question

MAX_FAILED_SHARE = 0.1
"""Share of trajectories that retriever or engine may fail."""
Found = dict[Number, Trajectory]
"""The trajectories of one question."""
Plan = Callable[[Found], list[int]]
"""From the trajectories that a question has to the samples to draw next; none if it has enough."""
Key = tuple[str, int]
"""Of a trajectory: its question's id and its sample, or that of the trajectory it branches off."""


def first_samples(count: int) -> Plan:
    """Return the plan that draws samples 0 to `count` - 1."""
    return lambda found: [sample for sample in range(count) if (sample, 0) not in found]


class Journals:
    """Journals in use, one for each set of questions: nobody else writes them, and all are in flight together.

    On entering they are repaired: a torn last line is cut off, and what is damaged or there twice is set aside. Raises
    UsageError where another process writes one, or where one belongs to another model, index, question or setting,
    before anything of it is changed. One that is not there yet is made with its first trajectory, or on leaving.
    """

    def __init__(
        self,
        agents: Agents,
        sets: dict[Path, list[Question]],
        draw: Draw,
        *,
        settings: Settings | None = None,
        drop_failed: bool = False,
    ) -> None:
        """Name them; with `drop_failed`, what retriever or engine failed is taken out, so that it is made again.

        `settings` are what the trajectories depend on, where that is not all that the agents' do.
        """
        self._agents, self._sets, self._draw = agents, sets, draw
        self._settings = agents.settings if settings is None else settings
        self._drop_failed = drop_failed
        self._stack = ExitStack()
        self._opened: dict[Path, _Opened] = {}

    def __enter__(self) -> "Journals":
        """Take, check and repair them."""
        with self._stack:
            for path in self._sets:
                self._stack.enter_context(sole_writer(path))
            self._opened = {path: _Opened(path, each, self._origin_of) for path, each in self._sets.items()}
            for work in self._opened.values():
                self._stack.callback(work.close)
            begun = [work for path, work in self._opened.items() if os.path.lexists(path)]
            for work in begun:
                check_origin(work.path, work.origin)
            for work in begun:
                self._repair(work)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        with self._stack:
            for work in self._opened.values() if error is None else ():
                work.open()

    def _origin_of(self, questions: list[Question]) -> Origin:
        return origin_of(self._settings, self._draw, questions)

    def _repair(self, work: "_Opened") -> None:
        path, questions = work.path, work.questions
        told = is_told(path)
        found = read_journal(path)
        told |= not found  # of a first line that was torn nothing is left
        kept = _each_once(found)
        work.done = _of_questions(kept, questions)
        _check_records(work, self._agents, self._draw, told)
        if len(kept) < len(found):
            _set_doubled_aside(path, found, kept)
        if not told:
            print(
                f"{path}: of an earlier version, which did not keep by what settings it was made, and scored aliases "
                "alone; taken for made by these, as far as its trajectories tell",
                file=sys.stderr,
            )
        if self._drop_failed and (failed := _failed(work.done)):
            print(f"{path}: {len(failed)} trajectories had failed and are made again", file=sys.stderr)
            kept = [each for each in kept if _family(each) not in failed]
            write_jsonl(path, kept)
            work.failed_before = {id for id, _ in failed}
            work.done = _of_questions(kept, questions)
        work.open(by_aliases=0 if told else len(kept))

    def found(self, path: Path) -> dict[str, Found]:
        """Return the trajectories that a journal holds of its questions, by their ids."""
        return self._opened[path].done

    def failed_before(self, path: Path) -> set[str]:
        """Return the ids of the questions of which something was taken out of a journal since it had failed."""
        return self._opened[path].failed_before

    def remove(self, path: Path) -> None:
        """Delete a journal that holds nothing worth keeping; it is not used any more."""
        self._opened.pop(path).close()
        path.unlink()
        origin_path(path).unlink()

    def roll_out(
        self, plan: Plan, most: int, label: str, only: Question | None = None
    ) -> dict[Path, list[list[Trajectory]]]:
        """Roll out what the plan asks for and the journals lack; return the trajectories of each question.

        A plan asks for at most `most` samples of a question; with `only`, it is asked about one question. A trajectory
        is written, with its branches, as soon as it has ended.
        """
        works = [(work, question) for work in self._opened.values() for question in work.questions]
        works = [(work, question) for work, question in works if only is None or question == only]
        finished = sum(_roots(work.done[question.id]) for work, question in works)
        with progress(label, len(works) * most, finished) as bar:
            coroutines.run(_run(self._agents, works, plan, most, self._draw, bar))
        return {path: work.trajectories() for path, work in self._opened.items()}


def read_journal(path: Path) -> list[Trajectory]:
    """Return what a journal holds, repaired as for going on with it; an empty one is made if there is none."""
    for fault in quarantine_damaged_lines(path, Trajectory):
        print(f"{fault}: set aside in {path.name}.damaged, and made again", file=sys.stderr)
    with Journal(path) as journal:
        return _complete(journal)


def check_failures(trajectories: list[Trajectory]) -> str:
    """Return how many trajectories retriever or engine failed, and how the first; nothing if they failed none.

    Raises ExSearchError if they failed so many that what is made of the others would be that of an outage.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.failed]
    if not failed:
        return ""
    told = f"{len(failed)} of {len(trajectories)} trajectories failed, that of {failed[0].question_id!r} with: "
    told += failed[0].stop_detail or failed[0].stop_reason
    if len(failed) > MAX_FAILED_SHARE * len(trajectories):
        raise ExSearchError(f"{told}. The same command makes these again")
    return told


@dataclass
class _Opened:
    """A journal in use."""

    path: Path
    questions: list[Question]
    origin_of: Callable[[list[Question]], Origin]
    done: dict[str, Found] = field(init=False)
    """By question id."""
    failed_before: set[str] = field(default_factory=set)
    journal: Journal | None = None

    def __post_init__(self) -> None:
        self.done = {question.id: {} for question in self.questions}

    @cached_property
    def origin(self) -> Origin:
        return self.origin_of(self.questions)

    def open(self, by_aliases: int = 0) -> Journal:
        """Return it ready for appending, with what its trajectories depend on beside it."""
        if self.journal is None:
            keep_origin(self.path, msgspec.structs.replace(self.origin, by_aliases=by_aliases))
            self.journal = Journal(self.path)
        return self.journal

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def add(self, question: Question, new: list[Trajectory]) -> None:
        self.open().append(new[::-1])  # branches first: where the trajectory is, they are too
        self.done[question.id].update({trajectory.number: trajectory for trajectory in new})

    def trajectories(self) -> list[list[Trajectory]]:
        """Return those of each question: all samples, then the first branches of all, then the second ones."""
        groups = (self.done[question.id].values() for question in self.questions)
        return [sorted(group, key=lambda found: (found.branch, found.sample)) for group in groups]


def _of_questions(trajectories: list[Trajectory], questions: list[Question]) -> dict[str, Found]:
    """Return the trajectories of each question by its id; there may be others."""
    done: dict[str, Found] = {question.id: {} for question in questions}
    for trajectory in trajectories:
        if trajectory.question_id in done:
            done[trajectory.question_id][trajectory.number] = trajectory
    return done


async def _run(
    agents: Agents, works: list[tuple[_Opened, Question]], plan: Plan, most: int, draw: Draw, bar: Progress
) -> None:
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
    await asyncio.gather(*(all_of(*each) for each in works))


def _complete(journal: Journal) -> list[Trajectory]:
    """Return what the journal holds, without branches at its end whose trajectory was not written any more."""
    trajectories = list(journal.read(Trajectory))
    last = len(trajectories)
    while last and trajectories[last - 1].branch:
        last -= 1
    if last < len(trajectories):
        journal.drop_last(len(trajectories) - last)
    return trajectories[:last]


def _family(trajectory: Trajectory) -> Key:
    return trajectory.question_id, trajectory.sample


def _each_once(trajectories: list[Trajectory]) -> list[Trajectory]:
    """Return them without those that are there again: of a trajectory and its branches, what was written together."""
    kept: list[Trajectory] = []
    whole: set[Key] = set()
    for trajectory in trajectories:
        if _family(trajectory) not in whole:
            kept.append(trajectory)
        if not trajectory.branch:  # the sample itself, which stands behind its branches
            whole.add(_family(trajectory))
    return kept


def _set_doubled_aside(path: Path, found: list[Trajectory], kept: list[Trajectory]) -> None:
    left = {id(trajectory) for trajectory in kept}
    doubled = [trajectory for trajectory in found if id(trajectory) not in left]
    write_jsonl(path.with_name(f"{path.name}.doubled"), doubled)
    write_jsonl(path, kept)
    print(
        f"{path}: {len(doubled)} trajectories were there twice, as of two processes that wrote it at once; what was "
        f"written first is kept, the rest set aside in {path.name}.doubled",
        file=sys.stderr,
    )


def _failed(done: dict[str, Found]) -> set[Key]:
    return {_family(each) for group in done.values() for each in group.values() if each.failed}


def _roots(found: Found) -> int:
    """Return how many trajectories are no branches of others."""
    return sum(not branch for _, branch in found)


def _check_records(work: _Opened, agents: Agents, draw: Draw, told: bool) -> None:
    """Raise UsageError for trajectories that were not made by these agents; `told`: it was kept what they depend on."""
    for question in work.questions:
        opening = agents.opening(question) if work.done[question.id] and not told else []
        for found in work.done[question.id].values():
            other = _foreign(found, question, agents, draw)
            if not (other or told):
                other = _unlike(found, question, agents.settings, opening)
            if other:
                raise UsageError(f"{work.path}: holds trajectories of {other}; choose another file")


def _foreign(found: Trajectory, question: Question, agents: Agents, draw: Draw) -> str:
    """Return what a trajectory says that it was made by, where that is something else; nothing otherwise."""
    for name, its, own in (
        ("model", found.model_fingerprint, agents.model_fingerprint),
        ("index", found.index_fingerprint, agents.index_fingerprint),
    ):
        if its != own:
            return f"another model or index: {name} {its}, not {own}"
    if found.grammar != agents.grammar.name:
        return f"grammar {found.grammar}, not {agents.grammar.name}"
    return "" if found.seed == seed_of(question, found.sample, draw.seed, found.branch) else "another seed"


def _unlike(found: Trajectory, question: Question, settings: Settings, opening: TokenIds) -> str:
    """Return what a trajectory shows to have been otherwise when it was made; nothing otherwise."""
    if found.token_ids[: len(opening)] != opening:
        return f"another text of question {question.id!r}, or another prompt or chat template"
    strange = [each.alias for each in found.alias_scores if not each.said and each.alias not in question.answers]
    if strange:
        return f"other answers to question {question.id!r}, such as {strange[0]!r}"
    shown = max((len(step.hits) for step in found.steps), default=0)
    for key, value in (("agent.passages", shown), ("agent.max_steps", len(found.steps))):
        if value > int(settings[key] or 0):
            return f"another {key}, {value} or more, not {settings[key]}"
    return ""
