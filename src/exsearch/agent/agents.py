"""Protocol of what rolls out trajectories: an agent of this process, or the agents of a Ray cluster."""

from pathlib import Path
from typing import Protocol

from exsearch.agent.experiment import Experiment
from exsearch.agent.grammar import Grammar
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings
from exsearch.engine.models.adapter import check_adapter
from exsearch.hardware.memory import give_back_memory
from exsearch.questions.question import Question


class Agents(Protocol):
    """What rolls out trajectories: one agent, or many."""

    model_fingerprint: str
    index_fingerprint: str
    settings: Settings
    """Settings that trajectories depend on, by key; for a file or model, its fingerprint instead of its name."""
    grammar: Grammar
    in_flight: int
    """Number of trajectories that can be in progress at the same time."""

    async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
        """Roll out one trajectory, and its branches."""
        ...

    def opening(self, question: Question) -> TokenIds:
        """Return the tokens that every trajectory of a question starts with."""
        ...

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Return a trajectory with its log-probs recomputed by this model."""
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


def load_agents(experiment: Experiment) -> Agents:
    """Return an agent of this process or, with `rollout.ray`, the agents of a cluster."""
    from exsearch.agent.loading import load_agent  # imported late: reading journals needs no model

    give_back_memory()  # left over from training; the engine may be another process
    config = experiment.config
    if not config.rollout.ray:
        return load_agent(experiment)
    if config.model.adapter:  # here, so that it is one error and not one per worker
        check_adapter(Path(config.model.adapter), experiment.model, merged=config.model.engine != "vllm")
    from exsearch.agent.ray_agents import RayAgents

    return RayAgents(experiment)
