"""An HTTP server that answers as a test has it."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Reply = tuple[int, dict[str, str], bytes]
Asked = tuple[str, str, Any]
"""Method, path, and the JSON body or the parameters in the URL."""


class Scripted(ThreadingHTTPServer):
    """Answers with what `reply` gives for a request, and keeps what was asked; /health with `health`, else a 404."""

    daemon_threads = True

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.asked: list[Asked] = []
        self.headers: list[dict[str, str]] = []
        self.health: dict[str, str] | None = None
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two would wait for each other's acknowledgement

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self._answer(("GET", url.path, {name: value for name, [value] in parse_qs(url.query).items()}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(("POST", self.path, json.loads(body)))

    def _answer(self, asked: Asked) -> None:
        self.server.headers.append(dict(self.headers))
        if asked[1] == "/health":
            status, headers, body = as_json(self.server.health) if self.server.health else (404, {}, b"")
        else:
            with self.server.lock:
                self.server.asked.append(asked)
                self.server.at_once += 1
                self.server.most_at_once = max(self.server.at_once, self.server.most_at_once)
            status, headers, body = self.server.reply(asked)
            with self.server.lock:
                self.server.at_once -= 1
        if status == 0:  # hang up
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # from a client that stopped reading, as its test asks
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(reply: Callable[[Asked], Reply]) -> Iterator[Scripted]:
    with Scripted(reply) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def as_json(value: object) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def search_r1(asked: Asked) -> Reply:
    """A server that finds, for each query, k passages named after it."""
    queries, k = asked[2]["queries"], asked[2]["topk"]
    document = {"id": "7", "contents": '"Title"\ntext'}
    return as_json({"result": [[{"document": document | {"id": q}, "score": 1.5}] * k for q in queries]})
