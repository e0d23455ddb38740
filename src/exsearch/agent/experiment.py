"""Settings with what they name: the model's folder, its chat format, the grammar, the index with its corpus.

Each is found, read or opened once, when it is first asked for, and shared by whoever has the experiment.
"""

from functools import cached_property
from pathlib import Path

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar
from exsearch.agent.grammars.registry import make_grammar, wording
from exsearch.config import AgentConfig, Config
from exsearch.corpus.store import Corpus
from exsearch.engine.builtin import resolve_model
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.open import Opened, open_located


class Experiment:
    """What trajectories are made with: a model, an index, and the settings of both and of the grammar between them.

    What is not there, or does not fit, is a UsageError of the property that asks for it first.
    """

    def __init__(self, config: Config, *, retriever: Retriever | None = None) -> None:
        """Take the settings; `retriever` is an index that is open already, in place of `data.index`."""
        self.config = config
        self._retriever = retriever
        self._origin: Experiment | None = None
        self._folder: Path | None = None

    def with_agent(self, agent: AgentConfig) -> "Experiment":
        """Return the same with other settings of the agent."""
        return self._variant(msgspec.structs.replace(self.config, agent=agent), self._folder)

    def with_model(self, folder: Path) -> "Experiment":
        """Return the same with the model in another folder, such as a checkpoint that was trained from this one."""
        return self._variant(self.config, folder)

    def _variant(self, config: Config, folder: Path | None) -> "Experiment":
        twin = Experiment(config)
        twin._origin, twin._folder = self, folder
        return twin

    @cached_property
    def model(self) -> Path:
        """The folder of the model, which is made or fetched if it is none yet."""
        if self._folder is not None:
            return self._folder
        return resolve_model(self.config.model.path) if self._origin is None else self._origin.model

    @cached_property
    def grammar(self) -> Grammar:
        """What is said between model, retriever and user."""
        agent, origin = self.config.agent, self._origin
        if origin is not None and wording(agent) == wording(origin.config.agent):
            return origin.grammar
        return make_grammar(agent)

    @cached_property
    def chat(self) -> ChatFormat:
        """How conversations with the model are spelled."""
        agent, origin = self.config.agent, self._origin
        if origin is None or origin.model != self.model:
            return ChatFormat.load(self.model, agent, self.grammar)
        return origin.chat if agent == origin.config.agent else origin.chat.by(agent, self.grammar)

    @cached_property
    def prompts(self) -> ChatFormat:
        """The chat format as the engine is spoken to in: behind a chat endpoint thoughts are the server's business."""
        model = self.config.model
        return self.chat.unthinking() if model.engine == "openai" and model.api == "chat" else self.chat

    @property
    def retriever(self) -> Retriever:
        """The opened index, which records its searches where the settings say so."""
        return self._opened.retriever

    @property
    def corpus(self) -> Corpus | None:
        """The corpus of the opened index; None for a server, a recording, or a retriever of the user's own."""
        return self._opened.corpus

    @cached_property
    def _opened(self) -> Opened:
        if self._origin is not None:
            return self._origin._opened
        if self._retriever is not None:
            return Opened(self._retriever, None)
        data = self.config.data
        record_to = Path(data.record) if data.record else None
        return open_located(data.index, record_to=record_to, seconds=self.config.rollout.search_seconds)
