"""Rejects requests without the server's key."""

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from exsearch.serving.refusal import refusal
from exsearch.serving.routes import OpenRoute


class ApiKeyRequired:
    """ASGI middleware: 401 for a request without `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Only requests to an `OpenRoute`, by one of its methods, need no key.
    """

    def __init__(self, app: ASGIApp, key: str | None, routes: Sequence[BaseRoute] = ()) -> None:
        """Guard `app`, whose router has `routes`; without a key, every request passes."""
        self._app = app
        self._key = None if key is None else key.encode("ascii")
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] == "lifespan" or self._fits(Headers(scope=scope)) or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        message = "this server requires its API key, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        await refusal(401, message, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        """Match the routes as the router will, since the route that answers must be open, not a similar one."""
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return isinstance(route, OpenRoute) and scope.get("method") in (route.methods or ())
        return False

    def _fits(self, headers: Headers) -> bool:
        if self._key is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        sent_key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # in constant time, so that the time of a refusal does not reveal the key
        return hmac.compare_digest(sent_key.encode("latin-1"), self._key)
