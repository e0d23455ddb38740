"""Sockets and signals: runs an ASGI application until it is told to stop."""

import asyncio
import math
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar
from urllib.parse import quote_from_bytes

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from exsearch.core.errors import UsageError
from exsearch.processes import stopping

_VISIBLE = bytes(range(0x21, 0x7F)).decode()
_UNENCODED = re.compile(rb"[^\x21-\x7e]")
_LONGEST_LINE = 65536


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 chooses a free one. Raises UsageError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another (--host, --port)"
        ) from None
    # Connections inherit it. Otherwise, the body of an answer, sent after its head, waits 40 ms for the client's
    # delayed acknowledgement of the head; asyncio sets it only for sockets that were created with an explicit protocol.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def make_server(app: ASGIApp, seconds: float) -> uvicorn.Server:
    """Return the server of `app`; when told to stop, it finishes requests in flight, within `seconds`."""
    config = uvicorn.Config(
        app,
        http=HardenedHttp,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        # longer than clients keep idle connections, since closing one while a request arrives is an error there
        timeout_keep_alive=120,
        timeout_graceful_shutdown=math.ceil(seconds),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM; the second one ends the process at once.

        uvicorn raises the first again afterwards, but a stop that was asked for is a success.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if stopping.is_first():
                self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class HardenedHttp(H11Protocol):
    """HTTP that tolerates odd request lines, and does not tolerate clients that stall.

    A request line may have spaces and bytes that are not ASCII, as in hand-made URLs of clients. A connection is closed
    if the head of a request does not arrive or nobody reads an answer; uvicorn would keep it forever.
    """

    head_seconds: ClassVar[float] = 20.0
    """Seconds from the connection, or the first byte of a later request, to the end of a request's head."""
    reading_seconds: ClassVar[float] = 60.0
    """Maximum seconds to wait until a client with full buffers reads on."""

    _line = b""
    _line_passed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, for a limited time."""
        super().connection_made(transport)
        self._head = _Deadline(self.loop, self.head_seconds, transport)
        self._reading = _Deadline(self.loop, self.reading_seconds, transport)
        self._head.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all deadlines."""
        self._head.meet()
        self._reading.meet()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data on, with the target of a request line percent-encoded where necessary."""
        if self.conn.their_state is h11.IDLE:
            self._head.begin()
        if self.conn.their_state is h11.IDLE and not self._line_passed:
            self._line += data
            if b"\n" not in self._line and len(self._line) < _LONGEST_LINE:
                return
            data, self._line = _with_encoded_target(self._line), b""
            self._line_passed = True
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._line_passed = False
            self._head.meet()

    def pause_writing(self) -> None:
        """Wait until the client has read what was sent, for a limited time."""
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        """Resume sending."""
        self._reading.meet()
        super().resume_writing()


class _Deadline:
    """Deadline that closes a connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, transport: asyncio.Transport) -> None:
        self._loop, self._seconds, self._transport = loop, seconds, transport
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Start the time, unless it has started already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._transport.abort)

    def meet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _with_encoded_target(data: bytes) -> bytes:
    line, feed, rest = data.partition(b"\n")
    method, _, target_and_version = line.partition(b" ")
    target, _, version = target_and_version.rpartition(b" ")
    if not _UNENCODED.search(target):
        return data
    return b"%s %s %s%s%s" % (method, quote_from_bytes(target, safe=_VISIBLE).encode(), version, feed, rest)
