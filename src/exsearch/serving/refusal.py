"""The answer to a request that is refused."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return what ColBERT's clients read (`message`) and FastAPI's (`detail`) in one."""
    content = msgspec.json.encode({"error": True, "message": message, "detail": message})
    return Response(content, status, headers, "application/json")
