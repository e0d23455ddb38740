"""The interface of all engines. Engines know no text: token ids in, token ids and log-probs out."""

from typing import Literal, Protocol

import msgspec

from exsearch.core.errors import ExSearchError
from exsearch.core.tokens import TokenIds

Finish = Literal["stop", "length"]
"""Whether a completion ended with a stop token, or at its limit."""


class EngineError(ExSearchError):
    """The engine could not answer. A trajectory in which it is raised ends as `engine_failed`."""


class Sampling(msgspec.Struct, frozen=True):
    """How to draw the next tokens of one call."""

    max_new_tokens: int
    stop_ids: list[int]
    """Stop tokens: a completion ends with the first of these, which is part of it."""
    temperature: float = 1.0
    """0 takes the most likely token."""
    top_p: float = 1.0


class Completion(msgspec.Struct, frozen=True):
    """The model's continuation of one prompt."""

    token_ids: TokenIds
    logprobs: list[float]
    """Per token, in nats, of the model itself: at temperature 1 and without top-p, whatever the sampling was."""
    finish: Finish
    prefilled: int = 0
    """Number of prompt tokens that were computed for this call."""
    cached: int = 0
    """Number of prompt tokens whose keys and values were cached."""
    queue_seconds: float = 0.0
    """Seconds from the call until the engine started on it."""
    generated: int | None = None
    """Number of tokens that the engine counts as generated if it is not that of `token_ids`, as with hidden reasoning.
    """
    exact: bool = True
    """False if ids or log-probs are not the engine's own, such as those of retokenised text."""
    scored: bool = True
    """False if the engine returned no log-probs; they are zeros then, even if the ids count as its own."""


class EngineStats(msgspec.Struct):
    """Running totals of what an engine has computed, and of what caching saved."""

    prefilled_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    """Seconds the engine was busy, over all requests."""


class Seat(Protocol):
    """One conversation's place in an engine, which caches its earlier turns. One call at a time."""

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt; what a seed draws does not depend on other conversations. Raises EngineError."""
        ...

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        """Return log p(token | prefix, earlier ones) for each token of the target, in nats. Raises EngineError."""
        ...

    def close(self) -> None:
        """Release the place."""
        ...


class Engine(Protocol):
    """Generates and scores token sequences, many conversations at once."""

    fingerprint: str
    """Identifies the weights."""
    context_size: int
    """Maximum number of tokens of a prompt and its completion together."""
    seats: int
    """Maximum number of conversations at the same time."""
    stats: EngineStats
    scores: bool
    """Whether it can score; some endpoints cannot."""

    def open(self) -> Seat:
        """Take a seat; at most `seats` may be taken at the same time."""
        ...

    def shut_down(self) -> None:
        """Free its memory; it cannot be used afterwards."""
        ...
