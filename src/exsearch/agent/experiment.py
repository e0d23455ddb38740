"""Settings with the objects they name: the model's folder, its chat format, the grammar, the index with its corpus.

Each is loaded or opened once, when it is first used, and shared by all users of the experiment.
"""

from functools import cached_property
from pathlib import Path

import msgspec

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Grammar
from exsearch.agent.grammars.registry import make_grammar, wording
from exsearch.config import AgentConfig, Config
from exsearch.corpus.store import Corpus
from exsearch.engine.models.builtin import resolve_model
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.open import Opened, open_located


class Experiment:
    """What rollouts need: a model, an index, a grammar, and their settings.

    The first access to a property raises UsageError if its object does not exist or does not fit the settings.
    """

    def __init__(self, config: Config, *, retriever: Retriever | None = None) -> None:
        """Keep the settings; `retriever` is an open index to use instead of `data.index`."""
        self.config = config
        self._retriever = retriever
        self._origin: Experiment | None = None
        self._folder: Path | None = None

    def with_agent(self, agent: AgentConfig) -> "Experiment":
        """Return this experiment with other agent settings."""
        return self._variant(msgspec.structs.replace(self.config, agent=agent), self._folder)

    def with_model(self, folder: Path) -> "Experiment":
        """Return this experiment with the model in another folder, such as a checkpoint trained from its model."""
        return self._variant(self.config, folder)

    def _variant(self, config: Config, folder: Path | None) -> "Experiment":
        twin = Experiment(config)
        twin._origin, twin._folder = self, folder
        return twin

    @cached_property
    def model(self) -> Path:
        """The folder of the model, which is created or downloaded first if it is not there yet."""
        if self._folder is not None:
            return self._folder
        return resolve_model(self.config.model.path) if self._origin is None else self._origin.model

    @cached_property
    def grammar(self) -> Grammar:
        """The grammar of the turns between model, retriever and user."""
        agent, origin = self.config.agent, self._origin
        if origin is not None and wording(agent) == wording(origin.config.agent):
            return origin.grammar
        return make_grammar(agent)

    @cached_property
    def chat(self) -> ChatFormat:
        """The format of conversations with the model."""
        agent, origin = self.config.agent, self._origin
        if origin is None or origin.model != self.model:
            return ChatFormat.load(self.model, agent, self.grammar)
        return origin.chat if agent == origin.config.agent else origin.chat.by(agent, self.grammar)

    @cached_property
    def prompts(self) -> ChatFormat:
        """The chat format of the engine's prompts; it omits thoughts for a chat endpoint, whose server handles them."""
        model = self.config.model
        return self.chat.unthinking() if model.engine == "openai" and model.api == "chat" else self.chat

    @property
    def retriever(self) -> Retriever:
        """The open index; it records its searches if `data.record` is set."""
        return self._opened.retriever

    @property
    def corpus(self) -> Corpus | None:
        """The corpus of the open index; None for a server, a recording, or a user's own retriever."""
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
