"""Lets only requests with the server's key pass."""

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/health", "/healthz")
"""Paths that need no key: what starts and watches servers has none."""


class ApiKeyRequired:
    """ASGI middleware: 401 for a request without `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        """Guard `app`; without a key everything passes."""
        self._app = app
        self._key = None if key is None else key.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._fits(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        message = "this server wants its API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        content = {"error": True, "message": message, "detail": message}
        await JSONResponse(content, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _fits(self, headers: Headers) -> bool:
        if self._key is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # in constant time: how long a refusal takes says nothing about the key
        return hmac.compare_digest(given.encode("latin-1"), self._key)
