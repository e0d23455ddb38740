"""What every engine offers. Engines know no text: token ids in, token ids and log-probs out."""

from typing import Literal, Protocol

import msgspec

from exsearch.errors import ExSearchError

TokenIds = list[int]


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
    finish: Literal["stop", "length"]


class EngineStats(msgspec.Struct):
    """Running totals of what an engine computed and what it was spared."""

    prefilled_tokens: int = 0
    """Prompt tokens that went through the model."""
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already there."""
    generated_tokens: int = 0
    seconds: float = 0.0


class Engine(Protocol):
    """Generates and scores token sequences in batches."""

    fingerprint: str
    """Identifies the weights."""
    context_size: int
    """Most tokens a prompt and its completion may have together."""
    stats: EngineStats

    def generate(self, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
        """Continue each prompt; what a seed draws does not depend on the other prompts of the batch."""
        ...

    def logprobs(self, prefixes: list[TokenIds], targets: list[TokenIds]) -> list[list[float]]:
        """Return log p(target token | prefix, earlier target tokens) for each token of each target, in nats."""
        ...

    def forget(self) -> None:
        """Drop what is cached of earlier prompts, so that later results do not depend on them in any bit."""
        ...
