"""An HTTP proxy that keeps what it was asked for, and forwards it to one server whatever its name."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class ForwardingProxy(ThreadingHTTPServer):
    """Every name is that of the server at `address`."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = address
        self.asked: list[str] = []
        self.authorised: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: ForwardingProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._keep()
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = HTTPConnection(self.server.address, timeout=30)
        target = url.path + (f"?{url.query}" if url.query else "")
        connection.request(self.command, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        self._keep()
        host, _, port = self.server.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as other:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            back = threading.Thread(target=_pump, args=(other, self.connection))
            back.start()
            _pump(self.connection, other)
            back.join()
        self.close_connection = True

    def _keep(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.authorised.append(self.headers.get("Proxy-Authorization"))

    def log_message(self, *args: object) -> None:
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def proxying(address: str) -> Iterator[ForwardingProxy]:
    """Run a proxy before the server at `address`."""
    with ForwardingProxy(address) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
