"""Prevents pages of other web sites from using a server through the browser of someone who can reach it.

A page's requests carry its site as `Origin`. A page whose site's name was made to resolve to this machine (DNS
rebinding) is recognised by the `Host` that it requests.
"""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from exsearch.core.errors import UsageError
from exsearch.network.loopback import is_loopback
from exsearch.serving.refusal import refusal

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s:/?#@*\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?P<host>[^\s/?#@*]+)")
_LAST_PORT = 65535
_SHOWN = 100
"""Maximum characters of a header that a message repeats."""


class Sites:
    """The names of a server, and the web sites whose pages may use it. This machine's own are always included."""

    def __init__(self, hosts: Iterable[str] | None = None, origins: Iterable[str] = ()) -> None:
        """Accept requests for `hosts`, names with or without a port; for any name if that is None.

        Pages of `origins` (such as https://app.example.org) and of `hosts` may use the server. Raises UsageError for an
        invalid host or origin.
        """
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}
        for host in self._hosts or ():
            if _name(host) is None:
                raise UsageError(
                    f"--allowed-host {host}: not a host; write it like search.example.org, HOST:PORT or [::1]"
                )
        for origin in self._origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"--allowed-origin {origin}: not an origin; write it like https://app.example.org")

    def has_host(self, host: str) -> bool:
        """Return whether a request for `host` means this server."""
        return self._hosts is None or self._is_listed(host) or is_loopback(_name(host) or "")

    def has_origin(self, origin: str) -> bool:
        """Return whether a page of `origin` may use this server."""
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False
        host = match["host"]
        return origin.lower() in self._origins or self._is_listed(host) or is_loopback(_name(host) or "")

    def _is_listed(self, host: str) -> bool:
        return bool({host.lower(), _name(host)} & (self._hosts or set()))


class OnlySites:
    """ASGI middleware: 421 for a request with another server's name, 403 for one from another site's page."""

    def __init__(self, app: ASGIApp, sites: Sites) -> None:
        """Guard `app`."""
        self._app, self._sites = app, sites

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._sites.has_host(host):
            answer = refusal(421, f"{host[:_SHOWN]!r} is not a name of this server; --allowed-host adds it")
            await answer(scope, receive, send)
        elif origin is not None and not self._sites.has_origin(origin):
            answer = refusal(403, f"pages of {origin[:_SHOWN]!r} may not use this server; --allowed-origin allows them")
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _name(host: str) -> str | None:
    """Return the name or address in a host, without brackets and port; None if it is invalid."""
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        return None
    return (match["address"] or match["name"]).lower()
