"""Rolls out trajectories into append-only journals; what they already hold is not rolled out again."""

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.episode import seed_of
from exsearch.agent.origin import Origin, check_origin, is_recorded, keep_origin, origin_of, origin_path
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Number, Trajectory
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.journal import Journal
from exsearch.core.jsonl import quarantine_damaged_lines, write_jsonl
from exsearch.core.locks import sole_writer
from exsearch.core.messages import logger
from exsearch.core.progress import Progress, progress
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings
from exsearch.processes import coroutines
from exsearch.questions.question import Question

MAX_FAILED_SHARE = 0.1
"""Maximum share of trajectories in which the retriever or the engine may fail."""
Found = dict[Number, Trajectory]
"""The trajectories of one question, by sample and branch."""
Plan = Callable[[Found], list[int]]
"""Maps a question's trajectories so far to the samples to draw next; an empty list if it has enough."""
Key = tuple[str, int]
"""Question id and sample of a trajectory; branches have those of the trajectory that they branch off."""


def first_samples(count: int) -> Plan:
    """Return the plan that draws samples 0 to `count` - 1."""
    return lambda found: [sample for sample in range(count) if (sample, 0) not in found]


class Journals:
    """Journals in use, one per set of questions. No other process writes to them, and all are rolled out at once.

    Entering the context repairs them: a torn last line is dropped; damaged and duplicate lines are moved to files of
    their own. Raises UsageError, before anything is changed, if another process writes to a journal, or if it belongs
    to another model, index, question or setting. A journal that does not exist is created with its first trajectory, or
    on leaving.
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
        """Name the journals; with `drop_failed`, trajectories that failed by retriever or engine are rolled out again.

        `settings` are the settings that trajectories depend on, if they differ from the agents'.
        """
        self._agents, self._sets, self._draw = agents, sets, draw
        self._settings = agents.settings if settings is None else settings
        self._drop_failed = drop_failed
        self._stack = ExitStack()
        self._opened: dict[Path, _Opened] = {}

    def __enter__(self) -> "Journals":
        """Lock, check and repair the journals."""
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
        """Release the journals."""
        with self._stack:
            for work in self._opened.values() if error is None else ():
                work.open()

    def _origin_of(self, questions: list[Question]) -> Origin:
        return origin_of(self._settings, self._draw, questions)

    def _repair(self, work: "_Opened") -> None:
        path, questions = work.path, work.questions
        has_settings = is_recorded(path)
        trajectories = read_journal(path)
        has_settings |= not trajectories  # a torn first line leaves nothing
        unique = _each_once(trajectories)
        work.done = _of_questions(unique, questions)
        _check_records(work, self._agents, self._draw, has_settings)
        if len(unique) < len(trajectories):
            _quarantine_duplicates(path, trajectories, unique)
        if not has_settings:
            logger.warning(
                f"{path}: written by an earlier version, which did not record its settings and scored only "
                "aliases; assumed to have the present settings, which its trajectories do not contradict"
            )
        if self._drop_failed and (failed := _failed(work.done)):
            logger.warning(f"{path}: {len(failed)} trajectories had failed and are rolled out again")
            unique = [each for each in unique if _family(each) not in failed]
            write_jsonl(path, unique, sealed=True)
            work.failed_before = {id for id, _ in failed}
            work.done = _of_questions(unique, questions)
        work.open(by_aliases=0 if has_settings else len(unique))

    def found(self, path: Path) -> dict[str, Found]:
        """Return the trajectories in a journal, by the ids of its questions."""
        return self._opened[path].done

    def failed_before(self, path: Path) -> set[str]:
        """Return the ids of the questions of which failed trajectories were dropped from a journal."""
        return self._opened[path].failed_before

    def remove(self, path: Path) -> None:
        """Delete a journal that holds nothing worth keeping; it must not be used afterwards."""
        self._opened.pop(path).close()
        path.unlink()
        origin_path(path).unlink()

    def roll_out(
        self, plan: Plan, maximum: int, label: str, only: Question | None = None
    ) -> dict[Path, list[list[Trajectory]]]:
        """Roll out what the plan asks for and the journals lack; return the trajectories of each question.

        A plan draws at most `maximum` samples of a question; with `only`, only that question is rolled out. A
        trajectory is written, with its branches, as soon as it has ended.
        """
        works = [(work, question) for work in self._opened.values() for question in work.questions]
        works = [(work, question) for work, question in works if only is None or question == only]
        finished = sum(_roots(work.done[question.id]) for work, question in works)
        with progress(label, len(works) * maximum, finished) as bar:
            coroutines.run(_run(self._agents, works, plan, maximum, self._draw, bar))
        return {path: work.trajectories() for path, work in self._opened.items()}


def read_journal(path: Path) -> list[Trajectory]:
    """Repair a journal, as `Journals` does, and return its trajectories; an empty one is created if there is none."""
    for fault in quarantine_damaged_lines(path, Trajectory):
        logger.warning(f"{fault}: moved to {path.name}.damaged, and rolled out again")
    with Journal(path, sealed=True) as journal:
        return _complete(journal)


def check_failures(trajectories: list[Trajectory]) -> str:
    """Return a one-line warning about trajectories that failed by retriever or engine, or "" if there are none.

    Raises ExSearchError if their share is over MAX_FAILED_SHARE: the results would be those of a failing machine.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.failed]
    if not failed:
        return ""
    message = (
        f"{len(failed)} of {len(trajectories)} trajectories failed, the first, of {failed[0].question_id!r}, with: "
    )
    message += failed[0].stop_detail or failed[0].stop_reason
    if len(failed) > MAX_FAILED_SHARE * len(trajectories):
        raise ExSearchError(f"{message}. Run the same command again to repeat these")
    return message


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
        """Return it ready for appending, with what its trajectories depend on in a file next to it."""
        if self.journal is None:
            keep_origin(self.path, msgspec.structs.replace(self.origin, by_aliases=by_aliases))
            self.journal = Journal(self.path, sealed=True)
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
    agents: Agents, works: list[tuple[_Opened, Question]], plan: Plan, maximum: int, draw: Draw, bar: Progress
) -> None:
    free = asyncio.Semaphore(agents.in_flight)

    async def one(work: _Opened, question: Question, sample: int) -> None:
        async with free:
            new = await agents.trajectories(question, sample, draw)
        work.add(question, new)
        bar.advance(1)

    async def all_of(work: _Opened, question: Question) -> None:
        trajectories = work.done[question.id]
        while samples := plan(trajectories):
            await asyncio.gather(*(one(work, question, sample) for sample in samples))
        if spared := maximum - _roots(trajectories):
            bar.advance(spared)

    # not a task group, which would raise a group of errors; the end of the event loop cancels what still runs
    await asyncio.gather(*(all_of(*each) for each in works))


def _complete(journal: Journal) -> list[Trajectory]:
    """Return the journal's trajectories; drops branches at its end whose trajectory was never written."""
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
    """Return them without duplicates: of each trajectory, the first one, with the branches written with it."""
    unique: list[Trajectory] = []
    whole: set[Key] = set()
    for trajectory in trajectories:
        if _family(trajectory) not in whole:
            unique.append(trajectory)
        if not trajectory.branch:  # the sample itself, which is written after its branches
            whole.add(_family(trajectory))
    return unique


def _quarantine_duplicates(path: Path, trajectories: list[Trajectory], unique: list[Trajectory]) -> None:
    unique_ids = {id(trajectory) for trajectory in unique}
    duplicates = [trajectory for trajectory in trajectories if id(trajectory) not in unique_ids]
    write_jsonl(path.with_name(f"{path.name}.doubled"), duplicates)
    write_jsonl(path, unique, sealed=True)
    logger.warning(
        f"{path}: {len(duplicates)} duplicate trajectories, as if two processes wrote to it at once; the first of "
        f"each is kept, the others were moved to {path.name}.doubled"
    )


def _failed(done: dict[str, Found]) -> set[Key]:
    return {_family(each) for group in done.values() for each in group.values() if each.failed}


def _roots(trajectories: Found) -> int:
    """Return how many trajectories are not branches of others."""
    return sum(not branch for _, branch in trajectories)


def _check_records(work: _Opened, agents: Agents, draw: Draw, has_settings: bool) -> None:
    """Raise UsageError for trajectories of other agents; `has_settings`: the journal records what they depend on."""
    for question in work.questions:
        opening = agents.opening(question) if work.done[question.id] and not has_settings else []
        for trajectory in work.done[question.id].values():
            other = _foreign(trajectory, question, agents, draw)
            if not (other or has_settings):
                other = _unlike(trajectory, question, agents.settings, opening)
            if other:
                raise UsageError(f"{work.path}: has trajectories of {other}; choose another file")


def _foreign(trajectory: Trajectory, question: Question, agents: Agents, draw: Draw) -> str:
    """Return what differs between the record of how a trajectory was made and these agents, or ""."""
    for name, its, own in (
        ("model", trajectory.model_fingerprint, agents.model_fingerprint),
        ("index", trajectory.index_fingerprint, agents.index_fingerprint),
    ):
        if its != own:
            return f"another model or index: {name} {its}, not {own}"
    if trajectory.grammar != agents.grammar.name:
        return f"grammar {trajectory.grammar}, not {agents.grammar.name}"
    return (
        "" if trajectory.seed == seed_of(question, trajectory.sample, draw.seed, trajectory.branch) else "another seed"
    )


def _unlike(trajectory: Trajectory, question: Question, settings: Settings, opening: TokenIds) -> str:
    """Return what differs between the content of a trajectory and the settings, or ""."""
    if trajectory.token_ids[: len(opening)] != opening:
        return f"another text of question {question.id!r}, or another prompt or chat template"
    unknown = [each.alias for each in trajectory.alias_scores if not each.said and each.alias not in question.answers]
    if unknown:
        return f"other answers to question {question.id!r}, such as {unknown[0]!r}"
    most_hits = max((len(step.hits) for step in trajectory.steps), default=0)
    for key, value in (("agent.passages", most_hits), ("agent.max_steps", len(trajectory.steps))):
        if value > int(settings[key] or 0):
            return f"another {key}, {value} or more, not {settings[key]}"
    return ""
