"""The answer to a request that is refused."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error that both ColBERT's clients (`message`) and FastAPI's (`detail`) can read."""
    content = msgspec.json.encode({"error": True, "message": message, "detail": message})
    return Response(content, status, headers, "application/json")
