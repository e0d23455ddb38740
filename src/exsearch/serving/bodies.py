"""Bodies of requests: complete, uncompressed and not too long."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exsearch.serving.refusal import refusal
from exsearch.wire.errors import RequestError

_SECONDS_LEFT = 60.0
"""Seconds for the rest of a refused body to arrive."""


class PlainBodies:
    """ASGI middleware: 415 for a compressed body, whose length does not limit its content's."""

    def __init__(self, app: ASGIApp) -> None:
        """Guard `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        encoding = "identity" if scope["type"] == "lifespan" else Headers(scope=scope).get("content-encoding", "")
        if encoding.strip().lower() in ("", "identity"):
            await self._app(scope, receive, send)
            return
        message = f"compressed bodies are not accepted (Content-Encoding: {encoding[:100]}); send it uncompressed"
        await refusal(415, message, {"Accept-Encoding": "identity"})(scope, receive, send)


class ReadOn:
    """ASGI middleware: reads the rest of a body before an answer ends.

    A client that is disconnected while it sends does not see why it was refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # a client that asks before sending (Expect) does not send after a refusal
        unread = "expect" not in Headers(scope=scope)

        async def received() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            nonlocal unread
            if message["type"] == "http.response.start" and _closes(message):
                unread = False  # the rest may never come
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS_LEFT):
                        while unread:
                            await received()
            await send(message)

        await self._app(scope, received, sent)


def _closes(start: Message) -> bool:
    return Headers(raw=start.get("headers", [])).get("connection", "").lower() == "close"


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body. Raises RequestError if it is longer than `limit` bytes, and ClientDisconnect."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestError(413, f"the body is too long, the maximum is {limit} bytes; send fewer queries at once")
    return bytes(body)
