"""The error of a refused request."""

from collections.abc import Mapping


class RequestError(Exception):
    """A refused request; the client gets `message` with the HTTP status `status` and these headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Keep what the client gets."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
