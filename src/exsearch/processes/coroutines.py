"""Running coroutines from code that is none: like asyncio.run, but also in a notebook, and stopped by any signal."""

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
    """Run a coroutine in a thread of its own."""
    with _Beside(coroutine).running() as beside:
        while not wait([beside.outcome], _LOOK).done:  # a signal that another thread has taken ends no longer wait
            beside.require_wanted()
    return beside.outcome.result()


def iterate(begin: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Generator[T, None, None]:
    """Yield what a coroutine hands to the function that `begin` is given, as it comes; raise what the coroutine raises.

    It runs in a thread of its own, so also where an event loop runs, and begins with the first item that is asked for.
    It is cancelled where the iterator is closed before its end, where waiting for an item is interrupted, and where the
    task that waits is cancelled.
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
    """Stands behind the last item."""


class _Beside(Generic[T]):
    """A coroutine in a thread of its own."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Nothing is started yet."""
        self.outcome: Future[T] = Future()
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="coroutines", daemon=True)
        try:
            self._waiting = asyncio.current_task()
        except RuntimeError:  # no event loop runs here
            self._waiting = None

    @contextmanager
    def running(self) -> Iterator["_Beside[T]"]:
        """Run it meanwhile; it is cancelled where the block is left by an exception."""
        try:
            self._thread.start()
            yield self
        except BaseException:
            self._given_up.set()
            if self._task is not None:
                with suppress(RuntimeError):  # its loop is closed: it has ended
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
