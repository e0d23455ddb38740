"""Futures of an event loop, settled from its own thread or from another."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Settled = tuple["asyncio.Future[T]", T | BaseException]
"""A future, and its outcome: a value, or the error to raise. So no value is an error itself."""


def settle(pairs: Iterable[Settled[T]]) -> None:
    """Give futures of the running loop their outcomes; one that is done or was cancelled keeps what it has."""
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def settle_from_thread(pairs: list[Settled[T]]) -> None:
    """Do so from another thread, for futures of one loop; does nothing if that is closed: nobody waits any more."""
    if pairs:
        with suppress(RuntimeError):
            pairs[0][0].get_loop().call_soon_threadsafe(settle, pairs)
