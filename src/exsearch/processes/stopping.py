"""How this process stops at Ctrl-C or SIGTERM: in an orderly way the first time, at once the second time.

The first signal cancels the coroutine that the main thread runs, or raises KeyboardInterrupt there; either way, files
are written completely or not at all. The interpreter does not exit while a thread executes native code: it would kill
the thread there, and the process would abort.
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

STOPPED = "interrupted; run the same command again to resume"
"""Message of a command that was interrupted."""
GRACE = 5.0
"""Seconds given to work in progress when the process stops, such as a pass through the model."""
_ONE_STOP = 0.5
"""Signals within this many seconds count as one: wrappers such as `timeout` and `uv run` forward the terminal's signal
again."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stop:
    """The state of this process's end."""

    def __init__(self) -> None:
        self.first_signal: float | None = None
        """Time of the first signal."""
        self.code: int | None = None
        self.gate = threading.Condition()
        self.inside = 0
        """Number of threads in code that must not be interrupted."""
        self.closed = False


_stop = _Stop()
tasks: "list[asyncio.Task[Any]]" = []
"""Coroutines that the main thread runs, the innermost last; the first signal cancels these instead of raising."""


def listen() -> None:
    """Stop at Ctrl-C and SIGTERM from now on. Signals that are ignored, as in a shell's background, stay ignored."""
    _stop.first_signal = _stop.code = None
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore signal handlers that a library changes meanwhile."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: a handler that is not Python's
                    signal.signal(number, handler)


def is_first() -> bool:
    """Return, in a handler, whether the signal is the first; a further one ends the process."""
    now = time.monotonic()
    if _stop.first_signal is None:
        _stop.first_signal = now
        return True
    if now - _stop.first_signal > _ONE_STOP:
        cursor = b"\x1b[?25h" if os.isatty(2) else b""  # progress bars hide the cursor
        with suppress(OSError):
            os.write(2, cursor + b"error: stopped at once\n")
        os._exit(1)
    return False


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _stop.code is not None:  # there is nothing left to stop in an orderly way
        end(_stop.code)
    if not is_first():
        return
    if tasks and tasks[-1].cancel():
        tasks[-1].get_loop().call_soon_threadsafe(lambda: None)  # wakes up the loop, which may be waiting for input
        return
    raise KeyboardInterrupt


def end_at_signal(code: int) -> None:
    """End the process with an exit code at the first signal from now on, whatever it is doing."""
    _stop.code = code


def leave(code: int) -> NoReturn:
    """End the process with an exit code, even if a thread does not return."""
    _stop.code = code
    sys.exit(code)


def end(code: int) -> NoReturn:
    """End the process with an exit code now, whatever its threads are doing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
    os._exit(code)


def was_asked() -> bool:
    """Return whether a signal has arrived."""
    return _stop.first_signal is not None


@contextmanager
def untorn() -> Iterator[None]:
    """Make the interpreter's exit wait for this thread, for some seconds; start nothing once it is exiting."""
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
    """Wait for threads that must not be interrupted; end without the interpreter's cleanup if they take too long."""
    with _stop.gate:
        _stop.closed = True
        ended = _stop.gate.wait_for(lambda: not _stop.inside, GRACE)
    # After a KeyboardInterrupt in Python code called from C code, as during the import of some libraries, the
    # interpreter would end itself by the signal. The exit code of a program that merely uses this package is not known
    # here.
    if _stop.code is not None and (was_asked() or not ended):
        end(_stop.code)


def _begin_anew() -> None:
    """Forget the threads of the process that this one was forked from."""
    global _stop
    _stop = _Stop()
    tasks.clear()


atexit.register(_close)
os.register_at_fork(after_in_child=_begin_anew)
