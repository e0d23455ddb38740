"""What rolls out: an agent of this process, or those of a cluster."""

from pathlib import Path
from typing import Protocol

from exsearch.agent.experiment import Experiment
from exsearch.agent.grammar import Grammar
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings
from exsearch.engine.adapter import check_adapter
from exsearch.hardware.memory import give_back_memory
from exsearch.questions.question import Question


class Agents(Protocol):
    """What rolls out: an agent, or many."""

    model_fingerprint: str
    index_fingerprint: str
    settings: Settings
    """What its trajectories depend on, by key; of what only names a file or a model, what it stands for."""
    grammar: Grammar
    in_flight: int
    """Trajectories that it has room for at once."""

    async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
        """Run one trajectory, with its branches."""
        ...

    def opening(self, question: Question) -> TokenIds:
        """Return the tokens that every trajectory of a question begins with."""
        ...

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Return a trajectory with the log-probs that this model gives it."""
        ...

    def close(self) -> None:
        """Free the memory of the model."""
        ...


def load_agents(experiment: Experiment) -> Agents:
    """Return what rolls out: an agent of this process or, with `rollout.ray`, those of a cluster."""
    from exsearch.agent.loading import load_agent  # not before: whoever only reads journals needs no model

    give_back_memory()  # what a training has left: the engine may be a process of its own
    config = experiment.config
    if not config.rollout.ray:
        return load_agent(experiment)
    if config.model.adapter:  # here, so that it is one error and not one per worker
        check_adapter(Path(config.model.adapter), experiment.model, merged=config.model.engine != "vllm")
    from exsearch.agent.ray_agents import RayAgents

    return RayAgents(experiment)
