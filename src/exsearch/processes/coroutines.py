"""Running coroutines from code that is none: like asyncio.run, but also in a notebook, and stopped by any signal."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from exsearch.processes import stopping

T = TypeVar("T")
_LOOK = 0.2
"""Seconds after which a thread that waits looks whether it is to stop."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns; the first signal cancels it, and raises KeyboardInterrupt here.

    Where an event loop runs already, as in a notebook, it runs in another one meanwhile. If the task that waits for it
    there is cancelled, which is what `asyncio.run` makes of the first signal, so is the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(coroutine)
    return _run_beside(coroutine)


def _run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    async def cancelled_by_signals() -> T:
        task = asyncio.current_task()
        if task is None or threading.current_thread() is not threading.main_thread():
            return await coroutine
        with stopping.cancelling(task):
            return await coroutine

    try:
        return asyncio.run(cancelled_by_signals())
    except asyncio.CancelledError:
        if not stopping.was_asked():
            raise
        raise KeyboardInterrupt from None


def _run_beside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread of its own."""
    outcome: Future[T] = Future()
    tasks: list[asyncio.Task[Any]] = []
    given_up = threading.Event()

    async def known() -> T:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if given_up.is_set():
            task.cancel()
        return await coroutine

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(known()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(work,), name="coroutines", daemon=True)
    waiting = asyncio.current_task()
    try:
        thread.start()
        while not wait([outcome], _LOOK).done:  # a signal that another thread has taken ends no longer wait
            if waiting is not None and waiting.cancelling():
                raise asyncio.CancelledError
    except BaseException:
        given_up.set()
        for task in tasks:
            with suppress(RuntimeError):  # its loop is closed: it has ended
                task.get_loop().call_soon_threadsafe(task.cancel)
        if thread.is_alive():
            thread.join(stopping.GRACE)
        raise
    return outcome.result()
