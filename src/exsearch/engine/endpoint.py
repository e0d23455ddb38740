"""HTTP to an OpenAI-compatible server: requests that are safe to repeat are, and every failure has one type."""

import asyncio
from typing import Any

import httpx2

from exsearch.engine.base import EngineError
from exsearch.errors import UsageError
from exsearch.http_client import async_client, describe
from exsearch.thoughts import without_thoughts

RETRIES = 4
"""Of requests that the server refused for now (429, 5xx) or did not receive; the pause doubles from half a second."""


class Endpoint:
    """The server at `url`, which ends in `/v1`."""

    def __init__(self, url: str, key: str | None, seconds: float) -> None:
        """Connect on first use; `seconds` is the most that one request may take.

        Raises UsageError for what is no URL, and for a proxy that cannot be used.
        """
        self._address, self._seconds = _parsed(url), seconds
        self.url = describe(self._address)
        """As messages show it: without a password, with the proxy before it."""
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._clients: dict[int, tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient]] = {}

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request, again where that is safe and may help; raises EngineError."""
        for trial in range(RETRIES):
            if trial:
                await asyncio.sleep(0.5 * 2 ** (trial - 1))
            try:
                response = await self._client().post(f"{self._address}/{path}", json=body)
            except httpx2.TimeoutException:
                raise EngineError(f"{self.url}: no answer within {self._seconds:g} s") from None
            except httpx2.TransportError as error:
                failed = EngineError(f"{self.url} cannot be reached: {error}")
                continue
            if response.status_code == 200:
                try:
                    answer = response.json()
                except ValueError:
                    raise EngineError(f"{self.url}: the answer is not JSON") from None
                if not isinstance(answer, dict):
                    raise EngineError(f"{self.url}: the answer is not a JSON object")
                return answer
            failed = EngineError(f"{self.url}: HTTP {response.status_code}: {response.text[:200]}")
            if response.status_code != 429 and response.status_code < 500:
                break
        raise failed

    def _client(self) -> httpx2.AsyncClient:
        """Return the connections of the running event loop; those of a loop that is gone are dropped."""
        loop = asyncio.get_running_loop()
        if id(loop) not in self._clients or self._clients[id(loop)][0] is not loop:
            client = async_client(self._address, httpx2.Timeout(self._seconds), self._headers)
            self._clients = {id(loop): (loop, client)}
        return self._clients[id(loop)][1]


def _parsed(url: str) -> httpx2.URL:
    """Return the URL without a slash at its end; raises UsageError if it is none."""
    try:
        parsed = httpx2.URL(url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise UsageError(f"{url}: not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url}: not the URL of a server; write it like http://127.0.0.1:8000/v1")
    return parsed


def spoken_text(choice: dict[str, Any]) -> str | None:
    """Return what the model says in a choice of a chat completion, without its thoughts; None if the server gives none.

    Nothing is said where it did not get beyond its thoughts within its tokens: that is no fault of the server.
    """
    message = choice.get("message") or {}
    content = message.get("content")
    if isinstance(content, str):
        return without_thoughts(content) or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return "" if content is None and (thought or choice.get("finish_reason") == "length") else None


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice of an answer; raises EngineError if it has none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineError("the server's answer has no choices")
    return choices[0]
