"""Sends requests to a retrieval server as its clients do, and malformed ones."""

import json
from typing import Any

import httpx2
import msgspec

from exsearch.core.errors import UsageError
from exsearch.network.http_client import client, connect, describe

SECONDS = 60
"""Seconds to wait for an answer."""


def need(condition: bool, fault: str) -> None:
    """Fail the calling check unless `condition` holds."""
    if not condition:
        raise AssertionError(fault)


class ProbeReply(msgspec.Struct, frozen=True):
    """A server's answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the decoded body of a successful answer; any other answer fails the check."""
        need(self.status == 200, f"HTTP {self.status}: {self.body[:200]!r}")
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"not JSON: {self.body[:200]!r}") from None


class Probe:
    """Sends requests to one server."""

    def __init__(self, url: str, query: str, api_key: str | None = None) -> None:
        """Check `url` with `query`, which should have hits.

        Raises UsageError for an invalid URL, and for a proxy that cannot be used.
        """
        self._key = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            self._url = httpx2.URL(url.rstrip("/"))
        except httpx2.InvalidURL as error:
            raise UsageError(f"{url}: not a URL: {error}") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise UsageError(f"{url}: not the URL of a server, such as http://127.0.0.1:8000")
        self.shown = describe(self._url)
        """The URL as messages show it."""
        # one connection per request, so that no request affects the next
        each = httpx2.Limits(max_keepalive_connections=0)
        self._client = client(self._url, httpx2.Timeout(SECONDS), each, self._key)
        self.query = query
        self.other = f"{query} And who was born there?"

    def post(self, path: str, content: Any) -> ProbeReply:
        """POST `content` as JSON, or as it is if it is bytes."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self._send("POST", path, body)

    def get(self, path: str) -> ProbeReply:
        """GET `path`, which may have a query string."""
        return self._send("GET", path, None)

    def get_unencoded(self, target: str) -> ProbeReply:
        """GET `target` as it is, whatever characters it contains."""
        with connect(self._url, SECONDS) as connection:
            connection.sendall(self._head("GET", target, {"Connection": "close"}))
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        head_bytes, _, body = received.partition(b"\r\n\r\n")
        words = head_bytes.split(maxsplit=2)
        need(len(words) == 3 and words[1].isdigit(), f"no HTTP answer: {received[:100]!r}")
        return ProbeReply(int(words[1]), body)

    def hang_up(self, path: str, content: Any) -> None:
        """Send a request and close the connection before the answer."""
        body = json.dumps(content).encode()
        with connect(self._url, SECONDS) as connection:
            length = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            connection.sendall(self._head("POST", path, length) + body)

    def _head(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        host = self._url.netloc.decode()
        lines = [f"{method} {self._url.path.rstrip('/')}{target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in (self._key | headers).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _send(self, method: str, path: str, body: bytes | None) -> ProbeReply:
        headers = {} if body is None else {"Content-Type": "application/json"}
        response = self._client.request(method, f"{self._url}{path}", content=body, headers=headers)
        return ProbeReply(response.status_code, response.content)
