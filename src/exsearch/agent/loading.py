"""From settings to an agent: in this process, or on a cluster."""

from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.journal import Agents
from exsearch.agent.rollout import Agent
from exsearch.config import Config
from exsearch.engine.load import load_engine
from exsearch.retrieval.opening import open_retriever


def load_agent(config: Config, model: Path, index: str) -> Agent:
    """Load a checkpoint folder and open an index in this process."""
    retriever = open_retriever(index, record_to=Path(config.data.record) if config.data.record else None)
    chat = ChatFormat.load(model)
    engine = load_engine(model, config.model, chat, config.agent.context, config.rollout.in_flight)
    return Agent(engine, retriever, chat, config.agent, config.rollout)


def load_agents(config: Config, model: Path, index: str) -> Agents:
    """Return what rolls out: an agent of this process or, with `rollout.ray`, those of a cluster."""
    if not config.rollout.ray:
        return load_agent(config, model, index)
    from exsearch.agent.ray_agents import RayAgents

    return RayAgents(config, model, index)
