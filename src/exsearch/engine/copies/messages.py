"""Messages between a copy of a model and the process that started it."""

from typing import Literal

import msgspec

from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineStats, Sampling
from exsearch.engine.spec import EngineSpec


class CopySettings(msgspec.Struct, frozen=True):
    """Settings of a copy."""

    spec: EngineSpec
    """With its own device and its share of the seats."""
    threads: int


class Request(msgspec.Struct, frozen=True):
    """A request to a copy for a seat; `number` identifies the request, or the one to cancel."""

    number: int
    seat: int
    act: Literal["generate", "logprobs", "cancel", "close", "forget"]
    prompt: TokenIds = []
    sampling: Sampling | None = None
    seed: int = 0
    target: TokenIds = []


class Reply(msgspec.Struct, frozen=True):
    """A copy's answer; number -1 means that it is ready."""

    number: int
    completion: Completion | None = None
    logprobs: list[float] = []
    error: str | None = None
    mistake: bool = False
    """Whether the error is the user's mistake."""
    context_size: int = 0
    stats: EngineStats = msgspec.field(default_factory=EngineStats)
