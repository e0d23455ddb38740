"""Limits how many requests are answered at the same time."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exsearch.serving.metrics import Metrics
from exsearch.wire.errors import RequestError

_PIECE = 1 << 16
"""Maximum bytes of an answer that are sent at once."""


class ConcurrencyLimit:
    """ASGI middleware: a request occupies a place until its answer is sent; if no place is free, it gets 503.

    Answers are sent in pieces, each after the client has read most of the previous ones. So a client that does not read
    occupies a place, but only a few pieces of its answer are in the socket's buffers.
    """

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics) -> None:
        """Answer at most `limit` requests at the same time."""
        self._app, self._limit, self._metrics = app, limit, metrics
        self._taken = 0
        metrics.watch("exsearch_requests_in_flight", "Requests being answered.", lambda: self._taken)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises RequestError if no place is free."""
        if self._taken >= self._limit:
            self._metrics.rejected.inc()
            self._metrics.requests.labels("none", 503).inc()
            raise RequestError(503, f"server busy ({self._taken} requests in flight); retry later")
        self._taken += 1
        try:
            await self._app(scope, receive, _in_pieces(send))
        finally:
            self._taken -= 1


def _in_pieces(send: Send) -> Send:
    async def sent_in_pieces(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= _PIECE:
            await send(message)
            return
        for start in range(0, len(body), _PIECE):
            more = start + _PIECE < len(body) or message.get("more_body", False)
            await send({**message, "body": body[start : start + _PIECE], "more_body": more})

    return sent_in_pieces
