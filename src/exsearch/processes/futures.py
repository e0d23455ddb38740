"""Sets the outcomes of an event loop's futures, from its own thread or from another."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Settled = tuple["asyncio.Future[T]", T | BaseException]
"""A future, and its outcome: a value, or the error to raise. So no value can itself be an error."""


def settle(pairs: Iterable[Settled[T]]) -> None:
    """Set the outcomes of futures of the running loop; futures that are done or cancelled are not changed."""
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def settle_from_thread(pairs: list[Settled[T]]) -> None:
    """Do the same from another thread, for futures of one loop; do nothing if the loop is closed: no one waits."""
    if pairs:
        with suppress(RuntimeError):
            pairs[0][0].get_loop().call_soon_threadsafe(settle, pairs)
