"""An engine that says what a script tells it, and a retriever that returns what it is given."""

from collections.abc import Callable

from exsearch.agent.chat import ChatFormat
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Hit, Passage
from exsearch.engine.base import Completion, EngineError, EngineStats, Sampling
from exsearch.retrieval.base import RetrievalError

Script = Callable[[str, int, int], str]
"""From the prompt's text, the number of the model's turn from 0 and the seed to what the model says."""


def lines(*turns: str) -> Script:
    """Return the script that says these turns one after the other, whatever it is shown."""
    return lambda prompt, turn, seed: turns[turn]


def opener_of(chat: ChatFormat) -> TokenIds:
    """The tokens between a user turn's text and the model's."""
    return chat.first_prompt("x")[len(chat.head) + len(chat.encode("x")) :]


class ScriptedEngine:
    """Implements Engine and Seat. A turn that is longer than allowed is cut and does not end with a stop token.

    A turn stops after the first of the stop tokens; asked to go on from there, the engine says the rest of it.
    """

    fingerprint = "scripted"
    seats = 64
    scores = True

    def __init__(self, chat: ChatFormat, script: Script, context_size: int = 4096, fails_at_call: int = -1) -> None:
        self.chat, self.script, self.context_size, self.fails_at_call = chat, script, context_size, fails_at_call
        self.stats = EngineStats()
        self.prompts: list[TokenIds] = []
        self.turns: list[int] = []
        """The number, from 0, of the turn that each prompt asked for."""
        self.completions: list[Completion] = []
        self.scored: list[tuple[TokenIds, TokenIds]] = []
        self.calls = 0
        self.rests: dict[tuple[int, ...], TokenIds] = {}
        """What is left to say after a prompt that ends within a turn."""

    def open(self) -> "ScriptedEngine":
        return self

    def close(self) -> None:
        pass

    def shut_down(self) -> None:
        """Nothing is loaded."""

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        self.calls += 1
        if self.calls - 1 == self.fails_at_call:
            raise EngineError("out of order")
        new = self._continue(prompt, sampling, seed)
        self.prompts.append(list(prompt))
        self.completions.append(new)
        return new

    def tokens(self, text: str) -> TokenIds:
        """Return a turn's tokens, its end included."""
        return [*self.chat.encode(text), self.chat.stop_id]

    def _continue(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        assert len(prompt) + sampling.max_new_tokens <= self.context_size, "the prompt leaves no room for the turn"
        opener = opener_of(self.chat)
        turn = sum(prompt[i : i + len(opener)] == opener for i in range(len(prompt))) - 1
        self.turns.append(turn)
        whole = self.rests.get(tuple(prompt))
        if whole is None:
            whole = self.tokens(self.script(self.chat.decode(prompt), turn, seed))
        stop = next(place for place, token in enumerate(whole, start=1) if token in sampling.stop_ids)
        ids = whole[: min(stop, sampling.max_new_tokens)]
        self.rests[(*prompt, *ids)] = whole[len(ids) :]
        finish = "stop" if ids[-1] in sampling.stop_ids else "length"
        return Completion(ids, self._logprobs(len(prompt), ids), finish)

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        self.scored.append((prefix, target))
        return self._logprobs(len(prefix), target)

    @staticmethod
    def _logprobs(start: int, ids: TokenIds) -> list[float]:
        return [-((start + offset + token) % 13 + 1) / 8 for offset, token in enumerate(ids)]


class StaticRetriever:
    """Implements Retriever: every query finds the same passages, unless it is the one that fails."""

    fingerprint = "static"

    def __init__(self, passages: list[Passage], fails_for: str | None = None) -> None:
        self.passages, self.fails_for = passages, fails_for
        self.queries: list[str] = []
        self.calls = 0

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.calls += 1
        if self.fails_for in queries:
            raise RetrievalError("the index is gone")
        self.queries += queries
        return [[Hit(p, 1.0 / rank, rank) for rank, p in enumerate(self.passages[:k], start=1)] for _ in queries]
