"""Rollouts into an append-only journal: what it already holds is not rolled out again."""

from pathlib import Path

from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import Trajectory
from exsearch.data.question import Question
from exsearch.errors import UsageError
from exsearch.files import Journal
from exsearch.progress import progress

Task = tuple[Question, int]
"""A question and the number of the sample."""


def run_journaled(
    agent: Agent,
    tasks: list[Task],
    batch_size: int,
    seed: int,
    path: Path,
    temperature: float,
    top_p: float,
    label: str,
) -> list[Trajectory]:
    """Run the tasks that the journal at `path` lacks; return the trajectories of all tasks in their order.

    Work goes in fixed groups of `batch_size`, and a group cut off by a kill is redone whole: with the same
    companions in the batch, arithmetic and thus samples are the same to the last bit. Raises UsageError if the
    journal belongs to another model, index or seed.
    """
    with Journal(path) as journal:
        done = {(t.question_id, t.sample): t for t in journal.read(Trajectory)}
        _check_origin(done, agent, tasks, seed, path)
        with progress(label, len(tasks), sum(_key(task) in done for task in tasks)) as bar:
            for first in range(0, len(tasks), batch_size):
                group = tasks[first : first + batch_size]
                missing = [task for task in group if _key(task) not in done]
                if not missing:
                    continue
                rolled = agent.rollout(group, seed, temperature, top_p, score_answers=True)
                new = [t for t in rolled if (t.question_id, t.sample) not in done]
                journal.append(new)
                done.update({(t.question_id, t.sample): t for t in new})
                bar.advance(len(missing))
    return [done[_key(task)] for task in tasks]


def _check_origin(
    done: dict[tuple[str, int], Trajectory], agent: Agent, tasks: list[Task], seed: int, path: Path
) -> None:
    expected = (agent.engine.fingerprint, agent.retriever.fingerprint)
    for task in tasks:
        found = done.get(_key(task))
        if found is None:
            continue
        if (found.model_fingerprint, found.index_fingerprint) != expected:
            raise UsageError(f"{path}: holds trajectories of another model or index; choose another file")
        if found.seed != agent.seed_of(task[0], task[1], seed):
            raise UsageError(f"{path}: holds trajectories of another seed; choose another file")


def _key(task: Task) -> tuple[str, int]:
    return task[0].id, task[1]
