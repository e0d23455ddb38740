"""E-step, first half: sample K trajectories a question into an append-only journal."""

from pathlib import Path

from exsearch.agent.journal import run_journaled
from exsearch.agent.rollout import Agent
from exsearch.agent.trajectory import Trajectory
from exsearch.config import ExploreConfig
from exsearch.data.question import Question


def explore(
    agent: Agent,
    questions: list[Question],
    config: ExploreConfig,
    seed: int,
    journal: Path,
    label: str = "explore",
) -> list[Trajectory]:
    """Sample `config.samples` trajectories of each question, scored against the gold answers; return all, in order.

    What the journal already holds is not sampled again.
    """
    tasks = [(question, sample) for question in questions for sample in range(config.samples)]
    return run_journaled(agent, tasks, config.batch_size, seed, journal, config.temperature, config.top_p, label)
