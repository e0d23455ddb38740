"""HTTP to an OpenAI-compatible server: repeats requests where that is safe, and reports the server's error messages."""

import asyncio
import json
from typing import Any

import httpx2

from exsearch.core.errors import UsageError
from exsearch.core.retry import LONGEST_PAUSE, RetryPolicy, retry_after
from exsearch.core.thoughts import without_thoughts
from exsearch.engine.base import EngineError
from exsearch.network.http_client import TooLongError, async_client, describe, exchange_async
from exsearch.network.reported import reported, words

RETRY = RetryPolicy(retries=3, pause=0.5)
"""Of requests that the server refused for now (429, 5xx) or did not receive."""


class BusyError(EngineError):
    """The server cannot answer now, but may later."""


class RefusedError(EngineError):
    """The server answers with an error."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the message, and the status: the server's, or that of a server behind it; 0 if there is none."""
        super().__init__(message)
        self.for_now = status == 429 or status >= 500
        """Whether a retry may succeed."""


class Endpoint:
    """The server at `url`, which ends in `/v1`."""

    def __init__(self, url: str, key: str | None, seconds: float) -> None:
        """Connect on first use; `seconds` is the time limit of one request.

        Raises UsageError for an invalid URL, and for a proxy that cannot be used.
        """
        self._address, self._seconds = _parsed(url), seconds
        self.url = describe(self._address)
        """The URL as messages show it: without a password, and with the proxy before it."""
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._clients: dict[int, tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient]] = {}

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request; retry where that is safe and may help. Raises EngineError, with the server's own message.

        A gateway may answer with status 200 and an `error` that holds the status of the server behind it. A server that
        says when to come back is waited for, up to a minute.
        """
        pause_asked = 0.0
        for pause in RETRY.pauses():
            if wait := max(pause, pause_asked):
                await asyncio.sleep(wait)
            pause_asked = 0.0
            try:
                client = self._client()
                request = client.build_request("POST", f"{self._address}/{path}", json=body)
                response, content = await exchange_async(client, request, self._seconds)
            except httpx2.TimeoutException:
                raise BusyError(f"{self.url}: no answer within {self._seconds:g} s") from None
            except httpx2.TransportError as error:
                failed = EngineError(f"{self.url} cannot be reached: {error}")
                continue
            except (TooLongError, httpx2.DecodingError) as error:
                raise EngineError(f"{self.url}: {error}") from None
            answer = _decoded(content)
            if response.status_code == 200 and isinstance(answer, dict) and reported(answer) is None:
                return answer
            failed = self._failure(response.status_code, content, answer)
            pause_asked = retry_after(response.headers.get("Retry-After"))
            if not (isinstance(failed, RefusedError) and failed.for_now) or pause_asked > LONGEST_PAUSE:
                break
        raise failed

    def _failure(self, status: int, content: bytes, answer: object) -> EngineError:
        """Return the error to raise for an unusable answer."""
        if status == 200 and not isinstance(answer, dict):
            what = "not JSON" if answer is None else "not a JSON object"
            return EngineError(f"{self.url}: the answer is {what}")
        message = reported(answer) or words(answer if isinstance(answer, dict) else content.decode(errors="replace"))
        code = _code(answer) if status == 200 else status
        what = f"HTTP {status}" if status != 200 else f"an error {code}" if code else "an error"
        return RefusedError(f"{self.url}: {what}: {message}", code)

    def _client(self) -> httpx2.AsyncClient:
        """Return the HTTP client of the running event loop; those of closed loops are dropped."""
        loop = asyncio.get_running_loop()
        if id(loop) not in self._clients or self._clients[id(loop)][0] is not loop:
            client = async_client(self._address, httpx2.Timeout(self._seconds), self._headers)
            self._clients = {id(loop): (loop, client)}
        return self._clients[id(loop)][1]


def _parsed(url: str) -> httpx2.URL:
    """Return the URL without a slash at its end. Raises UsageError if it is invalid."""
    try:
        parsed = httpx2.URL(url.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise UsageError(f"{url}: not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url}: not the URL of a server; write it like http://127.0.0.1:8000/v1")
    return parsed


def spoken_text(choice: dict[str, Any]) -> str | None:
    """Return the model's text in a choice of a chat completion, without its thoughts; None if the server returns none.

    The text is empty if the model spent all its tokens on thoughts, which is not an error of the server.
    """
    message = choice.get("message") or {}
    content = message.get("content")
    if isinstance(content, str):
        return without_thoughts(content) or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    return "" if content is None and (thought or choice.get("finish_reason") == "length") else None


def first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the first choice of an answer. Raises EngineError if it has none, or one that was aborted."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineError("the server's answer has no choices")
    choice: dict[str, Any] = choices[0]
    if (message := reported(choice)) or choice.get("finish_reason") == "error":
        raise EngineError(f"the server aborted its answer: {message or 'no reason given'}")
    return choice


def _decoded(content: bytes) -> object:
    """Return decoded JSON, None for invalid JSON."""
    try:
        answer: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer


def _code(answer: object) -> int:
    """Return the status in an `error`, 0 if there is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if code.isdecimal() else 0
