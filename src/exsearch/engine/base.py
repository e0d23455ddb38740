"""What every engine offers. Engines know no text: token ids in, token ids and log-probs out."""

from typing import Literal, Protocol

import msgspec

from exsearch.core.errors import ExSearchError
from exsearch.core.tokens import TokenIds

Finish = Literal["stop", "length"]
"""A completion ended with a stop token, or at its limit."""


class EngineError(ExSearchError):
    """The engine could not answer; a trajectory that meets it ends as `engine_failed`."""


class Sampling(msgspec.Struct, frozen=True):
    """How to draw the next tokens of one call."""

    max_new_tokens: int
    stop_ids: list[int]
    """A completion ends with the first of these; the stop token is part of it."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0


class Completion(msgspec.Struct, frozen=True):
    """What the model continued one prompt with."""

    token_ids: TokenIds
    logprobs: list[float]
    """Per token, in nats, under the model itself: temperature 1 and no top-p cut, whatever the sampling was."""
    finish: Finish
    prefilled: int = 0
    """Prompt tokens that went through the model for this call."""
    cached: int = 0
    """Prompt tokens whose keys and values were there already."""
    queue_seconds: float = 0.0
    """From the call to the engine's first work on it."""
    generated: int | None = None
    """Tokens that the engine counts as generated, where those are not `token_ids`, such as hidden reasoning."""
    exact: bool = True
    """False where ids or log-probs are not the engine's own, such as those of text tokenised again."""
    scored: bool = True
    """False where the engine told no log-probs: they are zeros then, also if the ids are taken for its own."""


class EngineStats(msgspec.Struct):
    """Running totals of what an engine computed and what it was spared."""

    prefilled_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    """Wall time in which the engine worked, on whatever."""


class Seat(Protocol):
    """One conversation's place in an engine, which keeps what was computed of its earlier turns. One call at a time."""

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """Continue the prompt; what a seed draws does not depend on other conversations. Raises EngineError."""
        ...

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        """Return log p(token | prefix, earlier ones) of each token of the target, in nats. Raises EngineError."""
        ...

    def close(self) -> None:
        """Give the place back."""
        ...


class Engine(Protocol):
    """Generates and scores token sequences, many conversations at once."""

    fingerprint: str
    """Identifies the weights."""
    context_size: int
    """Most tokens a prompt and its completion may have together."""
    seats: int
    """How many conversations it holds at once."""
    stats: EngineStats
    scores: bool
    """Whether it can score at all; some endpoints cannot."""

    def open(self) -> Seat:
        """Take a seat; at most `seats` may be taken at a time."""
        ...

    def shut_down(self) -> None:
        """Free its memory; nothing can be asked of it any more."""
        ...
