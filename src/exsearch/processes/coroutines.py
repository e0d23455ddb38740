"""Runs coroutines from synchronous code: like asyncio.run, but also in a notebook, and stopped by any signal."""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from exsearch.processes import stopping

T = TypeVar("T")
_LOOK = 0.2
"""Seconds between two checks of a waiting thread for a stop."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns. The first signal cancels it, and raises KeyboardInterrupt here.

    If an event loop is running already, as in a notebook, the coroutine runs in another one meanwhile. If the waiting
    task is cancelled, as `asyncio.run` does at the first signal, so is the coroutine.
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
        stopping.tasks.append(task)
        try:
            return await coroutine
        finally:
            stopping.tasks.remove(task)

    try:
        return asyncio.run(cancelled_by_signals())
    except asyncio.CancelledError:
        if not stopping.was_asked():
            raise
        raise KeyboardInterrupt from None


def _run_beside(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in its own thread."""
    with _Beside(coroutine).running() as beside:
        # in short waits, since a signal that another thread received does not end a longer one
        while not wait([beside.outcome], _LOOK).done:
            beside.require_wanted()
    return beside.outcome.result()


def iterate(begin: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
    """Yield what a coroutine passes to the function that `begin` is given, as it arrives; raise what the coroutine
    raises.

    It runs in its own thread, so it also works where an event loop runs, and starts when the first item is requested.
    It is cancelled if the iterator is closed early, if waiting for an item is interrupted, or if the waiting task is
    cancelled.
    """
    items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    with _Beside(begin(items.put)).running() as beside:
        beside.outcome.add_done_callback(lambda outcome: items.put(_End()))
        while True:
            try:
                item = items.get(timeout=_LOOK)
            except queue.Empty:
                beside.require_wanted()
                continue
            if isinstance(item, _End):
                break
            yield item
    beside.outcome.result()


class _End:
    """Marks the end of the items."""


class _Beside(Generic[T]):
    """A coroutine in its own thread."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Prepare it, without starting."""
        self.outcome: Future[T] = Future()
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="coroutines", daemon=True)
        try:
            self._waiting = asyncio.current_task()
        except RuntimeError:  # no event loop is running here
            self._waiting = None

    @contextmanager
    def running(self) -> Iterator["_Beside[T]"]:
        """Run it meanwhile; it is cancelled if the block is left by an exception."""
        try:
            self._thread.start()
            yield self
        except BaseException:
            self._given_up.set()
            if self._task is not None:
                with suppress(RuntimeError):  # its loop is closed, so it has ended
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            if self._thread.is_alive():
                self._thread.join(stopping.GRACE)
            raise

    def require_wanted(self) -> None:
        """Raise CancelledError if the task that waits for it is cancelled."""
        if self._waiting is not None and self._waiting.cancelling():
            raise asyncio.CancelledError

    def _work(self) -> None:
        try:
            self.outcome.set_result(asyncio.run(self._known()))
        except BaseException as error:
            self.outcome.set_exception(error)

    async def _known(self) -> T:
        self._task = asyncio.current_task()
        assert self._task is not None
        if self._given_up.is_set():
            self._task.cancel()
        return await self._coroutine
