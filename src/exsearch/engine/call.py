"""One request on its way through the engine."""

import asyncio
import time
from dataclasses import dataclass, field

import torch

from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Finish, Sampling


@dataclass(eq=False)
class Call:
    """One `generate` or `logprobs` of a seat."""

    seat: int
    """Number of the conversation."""
    ids: TokenIds
    sampling: Sampling | None = None
    noise: torch.Tensor | None = None
    """A uniform number for each token that may be drawn."""
    target: TokenIds = field(default_factory=list)
    """What is scored; empty if tokens are drawn."""
    output: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prefilled: int = 0
    cached: int = 0
    asked: float = field(default_factory=time.monotonic)
    started: float = 0.0
    done: "asyncio.Future[None] | None" = None
    dropped: bool = False
    """Nobody waits for it any more."""

    @property
    def next_token(self) -> int:
        """The token to feed next, whose hidden state predicts the one after it."""
        said = self.target[: len(self.logprobs)] if self.target else self.output
        return said[-1] if said else self.ids[-1]

    @property
    def finish(self) -> Finish | None:
        """Why it is over, if it is."""
        if self.sampling is None:
            return "stop" if len(self.logprobs) == len(self.target) else None
        if self.output and self.output[-1] in self.sampling.stop_ids:
            return "stop"
        return "length" if len(self.output) == self.sampling.max_new_tokens else None
