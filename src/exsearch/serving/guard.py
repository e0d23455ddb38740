"""What every server refuses before it looks at what is asked."""

from starlette.applications import Starlette

from exsearch.serving.api_key import ApiKeyRequired
from exsearch.serving.bodies import PlainBodies, ReadOn
from exsearch.serving.sites import OnlySites, Sites


def guard(app: Starlette, key: str | None, sites: Sites) -> Starlette:
    """Return `app`, which from now on answers only holders of the key, at its own names, and no foreign page."""
    app.add_middleware(PlainBodies)
    app.add_middleware(OnlySites, sites=sites)
    app.add_middleware(ApiKeyRequired, key=key, routes=app.routes)
    app.add_middleware(ReadOn)  # the last one added is the outermost
    return app
