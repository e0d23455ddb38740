"""Loads a model by name as an agent with an index."""

from pathlib import Path

from exsearch.agent import loading
from exsearch.agent.asking import SearchAgent
from exsearch.agent.experiment import Experiment
from exsearch.api.indexes import Index
from exsearch.config import AgentConfig, Config, DataConfig, ModelConfig, RolloutConfig, checked
from exsearch.core.errors import UsageError

Model = str | Path | ModelConfig
"""A checkpoint folder, a Hugging Face id or `builtin:smollm2-135m`; or all settings of a model, including its engine.
"""


def load_agent(
    model: Model, index: Index, config: AgentConfig = AgentConfig(), *, rollout: RolloutConfig = RolloutConfig()
) -> SearchAgent:
    """Load a model that searches an index, as an agent that answers questions, explores and can be evaluated.

    `config` has its grammar and budgets, `rollout` its concurrency and timeouts. The index can be any object with a
    `fingerprint` and a `search` like those of `Retriever`. Raises UsageError for an invalid model or index.

    >>> agent = xs.load_agent(model, index, xs.AgentConfig(passages=2), rollout=xs.RolloutConfig(in_flight=1))
    >>> agent.config.passages
    2
    >>> agent.close()
    """
    checked(rollout, RolloutConfig)
    if rollout.ray:
        raise UsageError(f"rollout.ray = {rollout.ray}: load_agent loads one model, in this process")
    location, retriever = (str(index), None) if isinstance(index, (str, Path)) else ("", index)
    is_retriever = hasattr(retriever, "fingerprint") and callable(getattr(retriever, "search", None))
    if retriever is not None and not is_retriever:
        raise UsageError(f"{type(index).__name__} given as an index, which needs a `fingerprint` and a method `search`")
    settings = Config(
        model=of_model(model), data=DataConfig(index=location), agent=checked(config, AgentConfig), rollout=rollout
    )
    return loading.load_agent(Experiment(checked(settings, Config), retriever=retriever))


def of_model(model: Model) -> ModelConfig:
    """Return the settings of a model that may be given by name only."""
    return ModelConfig(path=str(model)) if isinstance(model, (str, Path)) else checked(model, ModelConfig)
