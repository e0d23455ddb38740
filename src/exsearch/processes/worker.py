"""A thread that makes calls for others, one after another."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from exsearch.processes import stopping
from exsearch.processes.futures import settle_from_thread

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    """A call, and whom to give its outcome: a value or an error."""

    call: Callable[[], Any]
    settle: Callable[[Any, BaseException | None], None]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    given_up: bool = False
    """Nobody waits for it any more."""


class Worker:
    """Makes calls in a thread of its own, each in the context variables of its caller.

    The thread is a daemon: a call that never returns keeps neither its caller, which may stop waiting, nor the process.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._current: _Job | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns or raise what it raises, once its turn has come.

        If the wait is cancelled, a call that has not begun is left out, and one that asks `check` ends.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle(value: T, error: BaseException | None) -> None:
            settle_from_thread([(future, value if error is None else error)])

        job = _Job(call, settle)
        self._jobs.put(job)
        try:
            return await future
        except asyncio.CancelledError:
            job.given_up = True
            raise

    def wait_for(self, call: Callable[[], T]) -> T:
        """Do the same for a caller that is no coroutine.

        If the wait is interrupted, by Ctrl-C, a call that asks `check` now and then has some seconds to end as it must.
        """
        done = threading.Event()
        outcome: list[tuple[Any, BaseException | None]] = []

        def settle(value: T, error: BaseException | None) -> None:
            outcome.append((value, error))
            done.set()

        job = _Job(call, settle)
        self._jobs.put(job)
        try:
            done.wait()
        except BaseException:
            job.given_up = True
            done.wait(stopping.GRACE)
            raise
        [(value, error)] = outcome
        if error is not None:
            try:
                raise error
            finally:
                del error, outcome  # else it and its traceback, with all that hangs on it, would refer to each other
        result: T = value
        return result

    def check(self) -> None:
        """Raise KeyboardInterrupt, in this thread, if nobody waits for the call under way any more."""
        if self._current is not None and self._current.given_up:
            raise KeyboardInterrupt

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with stopping.untorn():
                self._make(job)
                del job  # here: torch gives the interpreter up where it frees a tensor, too

    def _make(self, job: _Job) -> None:
        value, error = None, None
        self._current = job
        try:
            self.check()
            value = job.context.run(job.call)
        except BaseException as raised:
            error = raised
        self._current = None
        job.settle(value, error)
