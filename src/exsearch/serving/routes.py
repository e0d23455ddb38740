"""Kinds of routes of the servers."""

from starlette.routing import Match, Route
from starlette.types import Scope


class OwnRoute(Route):
    """A route that owns its path: a method that it does not have gets 405, and is not tried on other routes."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match by path; `handle` rejects a wrong method."""
        match, child = super().matches(scope)
        return Match.FULL if match is Match.PARTIAL else match, child


class OpenRoute(OwnRoute):
    """A route whose methods need no API key, since programs that start and monitor servers have none."""
