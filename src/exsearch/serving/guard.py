"""Checks that every server makes before it reads a request's content."""

from starlette.applications import Starlette

from exsearch.serving.api_key import ApiKeyRequired
from exsearch.serving.bodies import PlainBodies, ReadOn
from exsearch.serving.sites import OnlySites, Sites


def guard(app: Starlette, key: str | None, sites: Sites) -> Starlette:
    """Return `app`, which from now on answers only requests with the key, for its own names, not from foreign pages."""
    app.add_middleware(PlainBodies)
    app.add_middleware(OnlySites, sites=sites)
    app.add_middleware(ApiKeyRequired, key=key, routes=app.routes)
    app.add_middleware(ReadOn)  # the last one added is the outermost
    return app
