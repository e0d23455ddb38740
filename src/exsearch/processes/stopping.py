"""How this process stops: at Ctrl-C or SIGTERM, in good order the first time, at once the second.

The first signal cancels the coroutine that the main thread runs, or raises KeyboardInterrupt there; files are written
whole or not at all either way. The interpreter does not end while a thread is in code that is not Python's: it would
tear the thread out of it, and the process would end by an abort.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import asyncio

STOPPED = "stopped; the same command continues where it was"
"""What a command says then."""
GRACE = 5.0
"""Seconds given to what is under way when the process stops, such as a pass through the model."""
_ONE_STOP = 0.5
"""Seconds in which signals count as one: `timeout`, `uv run` and the like pass on what the terminal has sent, too."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stop:
    """What is known of the end of this process."""

    def __init__(self) -> None:
        self.asked: float | None = None
        """When the first signal came."""
        self.code: int | None = None
        self.gate = threading.Condition()
        self.inside = 0
        """Threads in code that must not be torn."""
        self.closed = False


_stop = _Stop()
tasks: "list[asyncio.Task[Any]]" = []
"""Coroutines that the main thread runs, the innermost last, which the first signal cancels instead of raising."""


def listen() -> None:
    """Stop at Ctrl-C and SIGTERM, from now on. What is ignored, as in a shell's background, stays ignored."""
    _stop.asked = _stop.code = None
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Undo what a library does to the handling of signals meanwhile."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # one that is not Python's
                    signal.signal(number, handler)


def is_first() -> bool:
    """Return, in a handler, whether the signal is the first; a second one that is not part of it ends the process."""
    now = time.monotonic()
    if _stop.asked is None:
        _stop.asked = now
        return True
    if now - _stop.asked > _ONE_STOP:
        cursor = b"\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides it
        with suppress(OSError):
            os.write(2, cursor + b"error: stopped at once\n")
        os._exit(1)
    return False


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _stop.code is not None:  # all is done but the interpreter's own clearing up
        end(_stop.code)
    if not is_first():
        return
    if tasks and tasks[-1].cancel():
        tasks[-1].get_loop().call_soon_threadsafe(lambda: None)  # wakes the loop, which may wait for input
        return
    raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End the process with an exit code, also where a thread does not return."""
    _stop.code = code
    sys.exit(code)


def end(code: int) -> NoReturn:
    """End the process with an exit code now, whatever its threads are doing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
    os._exit(code)


def was_asked() -> bool:
    """Return whether a signal has come."""
    return _stop.asked is not None


@contextmanager
def untorn() -> Iterator[None]:
    """Let the end of the interpreter wait for this thread, for some seconds, and begin nothing once it has come."""
    with _stop.gate:
        while _stop.closed:
            _stop.gate.wait()
        _stop.inside += 1
    try:
        yield
    finally:
        with _stop.gate:
            _stop.inside -= 1
            _stop.gate.notify_all()


def _close() -> None:
    """Wait for threads that must not be torn; end without the interpreter's clearing up if they take too long."""
    with _stop.gate:
        _stop.closed = True
        ended = _stop.gate.wait_for(lambda: not _stop.inside, GRACE)
    # After a KeyboardInterrupt in Python code that C code ran, as while some libraries are imported, the interpreter
    # would end itself by the signal. The code of a program that merely uses this package cannot be known here.
    if _stop.code is not None and (was_asked() or not ended):
        end(_stop.code)


def _begin_anew() -> None:
    """Forget the threads of the process that this one was forked from."""
    global _stop
    _stop = _Stop()
    tasks.clear()


atexit.register(_close)
os.register_at_fork(after_in_child=_begin_anew)
