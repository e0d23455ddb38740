"""Kinds of routes of our servers."""

from starlette.routing import Match, Route
from starlette.types import Scope


class OwnRoute(Route):
    """A route that answers for its path alone: a method that it lacks is a 405, and no other route's business."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match by path; `handle` refuses a wrong method."""
        match, child = super().matches(scope)
        return Match.FULL if match is Match.PARTIAL else match, child


class OpenRoute(OwnRoute):
    """A route that needs no API key, for its own methods: what starts and watches servers has none."""
