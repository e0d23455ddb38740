"""Sockets and signals: run an ASGI application until it is told to stop."""

import math
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote_from_bytes

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from exsearch.errors import UsageError

_VISIBLE = bytes(range(0x21, 0x7F)).decode()
_UNENCODED = re.compile(rb"[^\x21-\x7e]")
_LONGEST_LINE = 65536


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises UsageError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {host}, port {port}: {error.strerror}; choose another (--host, --port)"
        ) from None
    # Connections inherit it. Else the body of an answer, sent behind its head, waits 40 ms for the client's delayed
    # acknowledgement of the head; asyncio sets it only for sockets that were made with an explicit protocol.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def make_server(app: ASGIApp, seconds: float) -> uvicorn.Server:
    """Return the server of `app`; when told to stop, it finishes what is in flight, within `seconds`."""
    config = uvicorn.Config(
        app,
        http=ForgivingRequestLine,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        # longer than clients keep idle connections: one that is closed as a request arrives is an error there
        timeout_keep_alive=120,
        timeout_graceful_shutdown=math.ceil(seconds),
    )
    return _Server(config)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM. uvicorn raises them again afterwards; a stop that was asked for is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class ForgivingRequestLine(H11Protocol):
    """HTTP whose request line may hold spaces and bytes that are not ASCII, as hand-made URLs of clients do."""

    _line = b""
    _line_passed = False

    def data_received(self, data: bytes) -> None:
        """Hand the data on, with the target of a request line percent-encoded where it must be."""
        if self.conn.their_state is h11.IDLE and not self._line_passed:
            self._line += data
            if b"\n" not in self._line and len(self._line) < _LONGEST_LINE:
                return
            data, self._line = _with_encoded_target(self._line), b""
            self._line_passed = True
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._line_passed = False


def _with_encoded_target(data: bytes) -> bytes:
    line, feed, rest = data.partition(b"\n")
    method, _, target_and_version = line.partition(b" ")
    target, _, version = target_and_version.rpartition(b" ")
    if not _UNENCODED.search(target):
        return data
    return b"%s %s %s%s%s" % (method, quote_from_bytes(target, safe=_VISIBLE).encode(), version, feed, rest)
