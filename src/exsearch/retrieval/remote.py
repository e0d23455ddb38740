"""A retriever on another machine, over HTTP, in any wire format (dialect) that search agents' servers use.

A location is a URL. The dialect is a prefix, as in `skyrl+http://HOST:PORT/retrieve`, unless the path implies it:
`/retrieve` is Search-R1's, `/api/search` ColBERT's, `/queries` R1-Searcher's, `/batch_search` FlashRAG's. Without a
path, the dialect's own path is used; without both, Search-R1's. `KEY@` before the host is sent as an API key,
`USER:PASSWORD@` as basic authorisation; neither enters a fingerprint or a message.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.registry import unknown
from exsearch.core.retry import LONGEST_PAUSE, RetryPolicy, retry_after
from exsearch.core.shape import ShapeError, decode
from exsearch.corpus.passage import Hit
from exsearch.network.http_client import TooLongError, client, describe, exchange
from exsearch.network.reported import reported
from exsearch.retrieval.base import RetrievalError
from exsearch.wire.client import Found
from exsearch.wire.registry import CLIENTS

_QUERIES_A_REQUEST = 64
_TRY_AGAIN = {429, 502, 503, 504}
_BROKEN = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)


class Remote:
    """Asks a server, which is trusted to stay the same. Safe to share between threads.

    Its fingerprint is the index's, if the server's `/health` returns a `fingerprint`, and otherwise the URL.
    """

    def __init__(
        self, location: str, timeout: float = 60.0, retries: int = 5, backoff: float = 0.5, concurrency: int = 8
    ) -> None:
        """Connect to the server, and check that it answers.

        `timeout` is in seconds per attempt. A broken connection and the status codes 429, 502, 503 and 504 are retried
        up to `retries` times; the waits start at `backoff` seconds and double, or are what the server asks for. For
        dialects with one query per request, `concurrency` requests are sent at the same time.

        Raises UsageError for an invalid location or a proxy that cannot be used, and RetrievalError if no server
        answers.
        """
        name, url = _parsed(location)
        self._dialect = CLIENTS[name]
        self._name = name
        self._timeout, self._concurrency = timeout, concurrency
        self._policy = RetryPolicy(retries, backoff)
        headers = {}
        if url.username and not url.password:
            headers["Authorization"] = f"Bearer {url.username}"
        auth = (url.username, url.password) if url.password else None
        self._url = url.copy_with(username=None, password=None)
        self._shown = describe(self._url)
        self._client = client(
            self._url, httpx2.Timeout(timeout, pool=None), httpx2.Limits(max_connections=64), headers, auth
        )
        self.fingerprint = fingerprint(["remote", name, self._index() or str(self._url)])

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return at most `k` hits per query, in the server's order; none for a blank query, which is not sent.

        Raises RetrievalError, which names the URL, if one of the queries cannot be answered.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        worded = [query for query in dict.fromkeys(queries) if query.strip()]
        size = _QUERIES_A_REQUEST if self._dialect.batched else 1
        batches = [worded[start : start + size] for start in range(0, len(worded), size)]
        with ThreadPoolExecutor(self._concurrency) as pool:
            answers = [passages for batch in pool.map(lambda batch: self._ask(batch, k), batches) for passages in batch]
        hits = {query: _hits(passages[:k]) for query, passages in zip(worded, answers, strict=True)}
        return [hits.get(query, []) for query in queries]

    def _ask(self, queries: list[str], k: int) -> list[Found]:
        """Send one request and read its answer."""
        to_send = self._dialect.ask(queries, k)
        try:
            if self._dialect.in_url:
                request = self._client.build_request("GET", self._url, params=to_send)
            else:
                request = self._client.build_request(
                    "POST",
                    self._url,
                    content=msgspec.json.encode(to_send),
                    headers={"Content-Type": "application/json"},
                )
        except UnicodeEncodeError as error:
            raise RetrievalError(f"a query is not valid Unicode ({error.reason})") from None
        status, body = self._exchange(request)
        if status != 200:
            excerpt = body[:200].decode(errors="replace")
            raise RetrievalError(f"{self._shown}: status {status}: {excerpt!r}")
        try:
            results = self._dialect.read(body)
        except ValueError as error:
            if reported := _reported(body):
                raise RetrievalError(f"{self._shown}: the server reports an error: {reported}") from None
            raise RetrievalError(f"{self._shown}: not an answer of a {self._name} server: {error}") from None
        if len(results) != len(queries):
            raise RetrievalError(f"{self._shown}: {len(results)} answers to {len(queries)} queries")
        return results

    def _index(self) -> str | None:
        """Return the index fingerprint from the server's /health, if it has one."""
        status, body = self._exchange(
            self._client.build_request("GET", self._url.copy_with(path="/health", query=None))
        )
        try:
            health: _Health = decode(body, _Health)
        except ShapeError:
            return None
        return health.fingerprint if status == 200 else None

    def _exchange(self, request: httpx2.Request) -> tuple[int, bytes]:
        """Return status and body; retries where that may help. Raises RetrievalError."""
        pause_asked = 0.0
        for pause in self._policy.pauses():
            if wait := max(pause, pause_asked):
                time.sleep(wait)
            pause_asked = 0.0
            try:
                response, body = exchange(self._client, request, self._timeout)
            except _BROKEN as error:
                failure = str(error) or type(error).__name__
            except httpx2.TimeoutException:
                raise RetrievalError(f"{self._shown}: no answer within {self._timeout:g} s") from None
            except (httpx2.HTTPError, TooLongError) as error:
                raise RetrievalError(f"{self._shown}: {error}") from None
            else:
                if response.status_code not in _TRY_AGAIN:
                    return response.status_code, body
                failure = f"status {response.status_code}"
                pause_asked = retry_after(response.headers.get("Retry-After"))
                if pause_asked > LONGEST_PAUSE:
                    raise RetrievalError(f"{self._shown}: {failure}, and the server asks to wait {pause_asked:.0f} s")
        raise RetrievalError(f"{self._shown}: {failure} ({self._policy.retries + 1} attempts)")


class _Health(msgspec.Struct):
    fingerprint: str | None = None


def _parsed(location: str) -> tuple[str, httpx2.URL]:
    """Return dialect and URL of a location. Raises UsageError if it is invalid."""
    prefix, _, rest = location.partition("://")
    name, _, scheme = prefix.rpartition("+")
    displayed = f"{prefix}://{rest.rpartition('@')[2]}"  # without the key
    if name and name not in CLIENTS:
        raise UsageError(f"{displayed}: {unknown(CLIENTS.noun, name, CLIENTS)}")
    try:
        url = httpx2.URL(f"{scheme}://{rest}")
    except httpx2.InvalidURL as error:
        raise UsageError(f"{displayed}: not a URL: {error}") from None
    if scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
        raise UsageError(f"{displayed}: not the URL of a server; write it like http://HOST:PORT/retrieve")
    if url.path == "/":
        name = name or "search-r1"
        return name, url.copy_with(path=CLIENTS[name].path)
    # several dialects use /retrieve; the first of them is Search-R1's
    name = name or next((name for name, dialect in CLIENTS.items() if dialect.path == url.path), "")
    if not name:
        raise UsageError(
            f"{displayed}: put the server's dialect in front ({', '.join(CLIENTS)}), as in skyrl+http://..."
        )
    return name, url


def _reported(body: bytes) -> str | None:
    """Return the error that an answer contains instead of hits."""
    try:
        return reported(decode(body))
    except ShapeError:
        return None


def _hits(passages: Found) -> list[Hit]:
    return [
        Hit(passage, 1 / rank if score is None else score, rank)
        for rank, (passage, score) in enumerate(passages, start=1)
    ]
