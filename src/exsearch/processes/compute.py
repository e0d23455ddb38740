"""The thread of this process in which torch computes: engines, training, encoders, loading and converting models.

torch's OpenMP runtime keeps a team of threads for every thread that ever opened a parallel region. Once there are more
of these than processors, teams no longer wait actively at barriers, and small operations take three to four times as
long for the rest of the process. So no other thread may open one, not even once.

Calls from this thread itself are executed directly. Processes that divide work, ranks and copies of a model, have one
such thread each, and a share of the processors.
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
    """The thread, started when first needed, when torch's number of threads is final."""

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
    """Return what `call` returns, or raise what it raises, in the compute thread.

    Ctrl-C raises KeyboardInterrupt once the call has called `check`, or after some seconds.
    """
    worker = _owner.worker
    return call() if worker.is_here else worker.wait_for(call)


async def run_async(call: Callable[[], T]) -> T:
    """Do the same for a coroutine; if it is cancelled, it does not wait for the call to end."""
    worker = _owner.worker
    return call() if worker.is_here else await worker.run(call)


def owned(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function run in the compute thread, wherever it is called."""

    @functools.wraps(function)
    def run_there(*arguments: P.args, **keywords: P.kwargs) -> T:
        return run(lambda: function(*arguments, **keywords))

    return run_there


def check() -> None:
    """Raise KeyboardInterrupt if nobody waits for this call any longer; do nothing in any other thread.

    To be called by long calls: each micro-batch of training and each chunk of a prompt does.
    """
    worker = _owner.worker
    if worker.is_here:
        worker.check()


def _begin_anew() -> None:
    """Start over in a forked process, which has only its main thread."""
    global _owner
    _owner = _Owner()


os.register_at_fork(after_in_child=_begin_anew)
