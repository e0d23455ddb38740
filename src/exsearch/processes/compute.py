"""The one thread of this process in which torch computes: engines, training, encoders, loading and converting models.

torch's OpenMP runtime keeps a team of threads for every thread that ever opened a parallel region. Once these are more
than the processors, no team waits at its barriers actively any more, and small operations take three to four times as
long for the rest of the process. So nothing else may open one, not even once.

A call from this thread itself is simply made. Processes that share out work, ranks and copies of a model, have such a
thread each, and a part of the processors.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from exsearch.processes.worker import Worker

P = ParamSpec("P")
T = TypeVar("T")


class _Owner:
    """The thread, started when it is first needed: torch's number of threads is settled by then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        with self._lock:
            if self._worker is None:
                self._worker = Worker("compute")
            return self._worker


_owner = _Owner()


def run(call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises, in the thread that computes.

    Interrupted by Ctrl-C, it raises KeyboardInterrupt once the call has asked `check`, or after some seconds.
    """
    worker = _owner.worker
    return call() if worker.is_here else worker.wait_for(call)


async def run_async(call: Callable[[], T]) -> T:
    """Do the same for a coroutine; one that is cancelled does not wait for the call to end."""
    worker = _owner.worker
    return call() if worker.is_here else await worker.run(call)


def owned(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function run in the thread that computes, wherever it is called."""

    @functools.wraps(function)
    def run_there(*arguments: P.args, **named: P.kwargs) -> T:
        return run(lambda: function(*arguments, **named))

    return run_there


def check() -> None:
    """Raise KeyboardInterrupt if nobody waits for this call any more; in any other thread, do nothing.

    For calls that take long: each micro-batch of a training asks, and each chunk of a prompt.
    """
    worker = _owner.worker
    if worker.is_here:
        worker.check()


def _begin_anew() -> None:
    """A forked process has no thread but its main one."""
    global _owner
    _owner = _Owner()


os.register_at_fork(after_in_child=_begin_anew)
