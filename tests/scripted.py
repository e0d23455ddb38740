"""An engine that says what a script tells it, and a retriever that returns what it is given."""

from collections.abc import Callable

from exsearch.agent.chat import ChatFormat
from exsearch.corpus.passage import Passage
from exsearch.engine.base import Completion, EngineError, EngineStats, Sampling, TokenIds
from exsearch.retrieval.base import Hit, RetrievalError

Script = Callable[[str, int, int], str]
"""From the prompt's text, the number of the model's turn from 0 and the seed to what the model says."""


def lines(*turns: str) -> Script:
    """Return the script that says these turns one after the other, whatever it is shown."""
    return lambda prompt, turn, seed: turns[turn]


class ScriptedEngine:
    """Implements Engine. A turn that is longer than allowed is cut and does not end with a stop token."""

    fingerprint = "scripted"

    def __init__(self, chat: ChatFormat, script: Script, context_size: int = 4096, fails_at_call: int = -1) -> None:
        self.chat, self.script, self.context_size, self.fails_at_call = chat, script, context_size, fails_at_call
        self.stats = EngineStats()
        self.prompts: list[TokenIds] = []
        self.turns: list[int] = []
        """The number, from 0, of the turn that each prompt asked for."""
        self.completions: list[Completion] = []
        self.scored: list[tuple[TokenIds, TokenIds]] = []
        self.calls = 0

    def generate(self, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
        self.calls += 1
        if self.calls - 1 == self.fails_at_call:
            raise EngineError("out of order")
        new = [self._continue(ids, sampling, seed) for ids, seed in zip(prompts, seeds, strict=True)]
        self.prompts += [list(ids) for ids in prompts]
        self.completions += new
        return new

    def _continue(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        assert len(prompt) + sampling.max_new_tokens <= self.context_size, "the prompt leaves no room for the turn"
        opener = self.chat.open_assistant
        turn = sum(prompt[i : i + len(opener)] == opener for i in range(len(prompt))) - 1
        self.turns.append(turn)
        text = self.script(self.chat.decode(prompt), turn, seed)
        ids = [*self.chat.encode(text), self.chat.stop_id][: sampling.max_new_tokens]
        finish = "stop" if ids[-1] == self.chat.stop_id else "length"
        return Completion(ids, self._logprobs(len(prompt), ids), finish)

    def logprobs(self, prefixes: list[TokenIds], targets: list[TokenIds]) -> list[list[float]]:
        self.scored += zip(prefixes, targets, strict=True)
        return [self._logprobs(len(prefix), target) for prefix, target in zip(prefixes, targets, strict=True)]

    @staticmethod
    def _logprobs(start: int, ids: TokenIds) -> list[float]:
        return [-((start + offset + token) % 13 + 1) / 8 for offset, token in enumerate(ids)]

    def forget(self) -> None:
        pass


class StaticRetriever:
    """Implements Retriever: every query finds the same passages."""

    fingerprint = "static"

    def __init__(self, passages: list[Passage], fails_at_call: int = -1) -> None:
        self.passages, self.fails_at_call = passages, fails_at_call
        self.queries: list[str] = []
        self.calls = 0

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.calls += 1
        if self.calls - 1 == self.fails_at_call:
            raise RetrievalError("the index is gone")
        self.queries += queries
        return [[Hit(p, 1.0 / rank, rank) for rank, p in enumerate(self.passages[:k], start=1)] for _ in queries]
