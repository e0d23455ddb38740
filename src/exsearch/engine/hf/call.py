"""One request to the engine, while it is processed."""

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
    """Number of the conversation's seat."""
    ids: TokenIds
    sampling: Sampling | None = None
    noise: torch.Tensor | None = None
    """One uniform number per token that may be drawn."""
    target: TokenIds = field(default_factory=list)
    """Tokens to score; empty if tokens are drawn."""
    output: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prefilled: int = 0
    cached: int = 0
    submitted_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    done: "asyncio.Future[None] | None" = None
    dropped: bool = False
    """Whether nobody waits for it any longer."""

    @property
    def next_token(self) -> int:
        """The token to feed next, whose hidden state predicts the one after it."""
        tokens = self.target[: len(self.logprobs)] if self.target else self.output
        return tokens[-1] if tokens else self.ids[-1]

    @property
    def finish(self) -> Finish | None:
        """Why it has ended, or None."""
        if self.sampling is None:
            return "stop" if len(self.logprobs) == len(self.target) else None
        if self.output and self.output[-1] in self.sampling.stop_ids:
            return "stop"
        return "length" if len(self.output) == self.sampling.max_new_tokens else None
