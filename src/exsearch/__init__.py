"""ExSearch trains and runs agentic-search language models by expectation-maximisation.

>>> import exsearch as xs
>>> world = xs.World(seed=1, passages=400)
>>> index = xs.build_index(world.passages(), "bm25", "work/index")
>>> with xs.load_agent(model, index) as agent:
...     trajectory = agent.answer("Who founded the Marlow Observatory?")

Each name is imported when it is first used; docs/reference/python.md says what they are for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exsearch.agent.asking import SearchAgent
    from exsearch.agent.grammar import Action, Grammar, MalformedError
    from exsearch.agent.trajectory import Trajectory, read_trajectories
    from exsearch.api.indexes import build_index, open_index
    from exsearch.api.models import load_agent
    from exsearch.api.runs import Run, train
    from exsearch.api.serving import serve
    from exsearch.api.stages import compare, evaluate, explore, gold_trajectories, learn
    from exsearch.config import (
        AgentConfig,
        Config,
        DataConfig,
        ExploreConfig,
        LearnConfig,
        LoopConfig,
        ModelConfig,
        RolloutConfig,
        WarmupConfig,
        WeighConfig,
        load_config,
    )
    from exsearch.core.errors import ExSearchError, UsageError
    from exsearch.corpus.documents import read_documents
    from exsearch.corpus.passage import Hit, Passage
    from exsearch.corpus.store import Corpus
    from exsearch.em.weigh import Sample, weigh
    from exsearch.evaluation.folder import Evaluated
    from exsearch.questions.question import Question, read_questions
    from exsearch.retrieval.base import RetrievalError, Retriever
    from exsearch.runs.weighted import Weighted
    from exsearch.world.world import World

__version__ = "0.1.0"
# fmt: off
__all__ = [
    "Action", "AgentConfig", "Config", "Corpus", "DataConfig", "Evaluated", "ExSearchError", "ExploreConfig",
    "Grammar", "Hit", "LearnConfig", "LoopConfig", "MalformedError", "ModelConfig", "Passage", "Question",
    "RetrievalError", "Retriever", "RolloutConfig", "Run", "Sample", "SearchAgent", "Trajectory", "UsageError",
    "WarmupConfig", "WeighConfig", "Weighted", "World", "build_index", "compare", "evaluate", "explore",
    "gold_trajectories", "learn", "load_agent", "load_config", "open_index", "read_documents", "read_questions",
    "read_trajectories", "serve", "train", "weigh",
]
# fmt: on
_HOMES = {
    name: f"exsearch.{module}"
    for module, names in {
        "agent.asking": "SearchAgent",
        "agent.grammar": "Action Grammar MalformedError",
        "agent.trajectory": "Trajectory read_trajectories",
        "api.indexes": "build_index open_index",
        "api.models": "load_agent",
        "api.runs": "Run train",
        "api.serving": "serve",
        "api.stages": "compare evaluate explore gold_trajectories learn",
        "config": "AgentConfig Config DataConfig ExploreConfig LearnConfig LoopConfig ModelConfig RolloutConfig "
        "WarmupConfig WeighConfig load_config",
        "core.errors": "ExSearchError UsageError",
        "corpus.documents": "read_documents",
        "corpus.passage": "Hit Passage",
        "corpus.store": "Corpus",
        "em.weigh": "Sample weigh",
        "runs.weighted": "Weighted",
        "evaluation.folder": "Evaluated",
        "questions.question": "Question read_questions",
        "retrieval.base": "RetrievalError Retriever",
        "world.world": "World",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> object:
    """Import a public name from its module and cache it, so that later look-ups do not come here."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
