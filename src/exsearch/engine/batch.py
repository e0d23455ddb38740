"""Runs a list of prompts through an engine at once, for callers that are not coroutines."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, Engine, Sampling, Seat
from exsearch.processes import coroutines

T = TypeVar("T")


def generate(engine: Engine, prompts: list[TokenIds], sampling: Sampling, seeds: list[int]) -> list[Completion]:
    """Continue each prompt. Raises EngineError."""

    async def one(seat: Seat, index: int) -> Completion:
        return await seat.generate(prompts[index], sampling, seeds[index])

    return coroutines.run(_in_seats(engine, len(prompts), one))


def logprobs(engine: Engine, prefixes: list[TokenIds], targets: list[TokenIds]) -> list[list[float]]:
    """Score each target after its prefix. Raises EngineError."""

    async def one(seat: Seat, index: int) -> list[float]:
        return await seat.logprobs(prefixes[index], targets[index])

    return coroutines.run(_in_seats(engine, len(prefixes), one))


async def _in_seats(engine: Engine, count: int, call: Callable[[Seat, int], Awaitable[T]]) -> list[T]:
    free = asyncio.Semaphore(engine.seats)

    async def seated(index: int) -> T:
        async with free:
            seat = engine.open()
            try:
                return await call(seat, index)
            finally:
                seat.close()

    # not a task group, which would raise a group of errors; the end of the event loop cancels what still runs
    return list(await asyncio.gather(*map(seated, range(count))))
