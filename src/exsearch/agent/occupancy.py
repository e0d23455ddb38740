"""Keeps an agent to one event loop at a time, and from being used after it is closed."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.core.errors import UsageError


class Occupancy:
    """Counts conversations in progress. All must belong to one event loop, since the engine's answers go to one."""

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._is_closed = False

    def close(self) -> bool:
        """Refuse any further conversation; return whether this is the first call."""
        with self._lock:
            first = not self._is_closed
            self._is_closed = True
        return first

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one more meanwhile. Raises UsageError if it is closed, or if another loop has one in progress."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._is_closed:
                raise UsageError("the agent is closed; load it again")
            if self._count and self._loop is not loop:
                raise UsageError(
                    "the agent is in use, by a stream or another thread; read the stream to its end or close it, or "
                    "load another agent"
                )
            self._loop = loop
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
