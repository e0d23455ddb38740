"""E-step, first half: sample K trajectories a question into an append-only journal."""

from pathlib import Path

from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import Trajectory
from exsearch.config import ExploreConfig
from exsearch.data.question import Question
from exsearch.files import Journal
from exsearch.progress import progress

Task = tuple[Question, int]


def explore(
    agent: Agent,
    questions: list[Question],
    config: ExploreConfig,
    seed: int,
    journal: Path,
    label: str = "explore",
) -> list[Trajectory]:
    """Sample `config.samples` trajectories of each question, scored against the gold answers; return all, in order.

    What the journal already holds is not sampled again. Work goes in fixed groups that fit into one batch, and a
    group cut off by a kill is redone whole: with the same companions in the batch, arithmetic and thus samples are
    the same to the last bit.
    """
    tasks = [(question, sample) for question in questions for sample in range(config.samples)]
    return run_journaled(agent, tasks, config.batch_size, seed, journal, config.temperature, config.top_p, label)


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
    """Run the tasks that the journal at `path` lacks; return the trajectories of all tasks in their order."""
    with Journal(path) as journal:
        done = {(t.question_id, t.sample): t for t in journal.read(Trajectory)}
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


def _key(task: Task) -> tuple[str, int]:
    return task[0].id, task[1]
