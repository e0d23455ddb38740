"""What benchmarks of the agent share: a run's agent, and processes that do one thing each."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent
from exsearch.config import Config, RolloutConfig
from exsearch.engine.load import load_engine
from exsearch.engine.spec import EngineSpec
from exsearch.retrieval.open import open_retriever

P = ParamSpec("P")
T = TypeVar("T")


def in_a_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in a process that does nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def make_agent(config: Config, run: Path, limits: RolloutConfig) -> Agent:
    """Load the warm-up checkpoint and open the index of a run."""
    folder = run / "warmup"
    chat = ChatFormat.load(folder)
    engine = load_engine(EngineSpec(folder, config.model, config.agent.context, limits.in_flight), chat)
    return Agent(engine, open_retriever(str(run / "index")), chat, config.agent, limits)
