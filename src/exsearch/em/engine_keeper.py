"""The only engine of a run: a device has room for one model, and the trainer also needs it."""

from pathlib import Path

from exsearch.agent.agents import Agents, load_agents
from exsearch.agent.experiment import Experiment
from exsearch.config import AgentConfig
from exsearch.hardware.memory import give_back_memory


class EngineKeeper:
    """Keeps the agents of the model that was requested last, until another is requested or the memory is needed."""

    def __init__(self, experiment: Experiment) -> None:
        """Keep the experiment that all models of the run share; nothing is loaded yet."""
        self._experiment = experiment
        self._agents: Agents | None = None
        self._loaded: tuple[Path, AgentConfig] | None = None

    def agents_for(self, checkpoint: Path) -> Agents:
        """Return the agents that roll out with the model in a folder."""
        return self.agents_of(self._experiment.with_model(checkpoint))

    def agents_of(self, experiment: Experiment) -> Agents:
        """Return the agents that roll out with the model of an experiment."""
        key = experiment.model, experiment.config.agent
        if self._agents is None or self._loaded != key:
            self.free()
            self._agents, self._loaded = load_agents(experiment), key
        return self._agents

    def free(self) -> None:
        """Free the engine's memory."""
        if self._agents is not None:
            self._agents.close()
        self._agents = None
        give_back_memory()
