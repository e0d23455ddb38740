"""The retrieval server as an ASGI application: reads requests of any dialect, searches, and answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exsearch import __version__
from exsearch.core.shape import ShapeError, convert, decode
from exsearch.corpus.passage import Hit
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.batching import Batcher
from exsearch.serving.bodies import read_body
from exsearch.serving.concurrency import ConcurrencyLimit
from exsearch.serving.guard import guard
from exsearch.serving.limits import Limits
from exsearch.serving.metrics import Metrics
from exsearch.serving.openapi import openapi, overview
from exsearch.serving.refusal import refusal
from exsearch.serving.routes import OpenRoute, OwnRoute
from exsearch.serving.sites import Sites
from exsearch.wire.colbert import colbert_get
from exsearch.wire.errors import RequestError
from exsearch.wire.registry import REQUESTS_BY_KEYS, request_at
from exsearch.wire.request import SearchRequest
from exsearch.wire.search_r1 import Access, document

GONE = 499
"""Status counted in the metrics for a client that hung up; nobody receives it."""


def retrieval_app(
    retriever: Retriever, corpus: Corpus, limits: Limits, api_key: str | None = None, sites: Sites | None = None
) -> Starlette:
    """Return the server's application. With `api_key`, every request except `GET /health` must carry it.

    `sites` decides whom else it answers; by default, it answers to any name and rejects pages of all web sites.
    """
    service = _Service(retriever, corpus, limits, needs_key=api_key is not None)
    routes = [
        OpenRoute("/health", service.health),
        OpenRoute("/healthz", service.healthz),
        OwnRoute("/metrics", service.metrics),
        OwnRoute("/openapi.json", service.openapi),
        # DSPy's client searches at any URL that it is given
        Route(
            "/{path:path}",
            service.search,
            methods=["GET", "POST"],
            middleware=[Middleware(ConcurrencyLimit, limits.requests, service.counted)],
        ),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, RequestError: _refused, Exception: _crash},
        lifespan=service.lifespan,
    )
    return guard(app, api_key, sites or Sites())


class _Service:
    def __init__(self, retriever: Retriever, corpus: Corpus, limits: Limits, needs_key: bool) -> None:
        self._fingerprint = retriever.fingerprint
        self._corpus = corpus
        self._limits = limits
        self._description = openapi(limits, needs_key)
        self.counted = Metrics()
        self._batcher = Batcher(retriever, self.counted)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self._batcher.close()

    async def health(self, request: Request) -> Response:
        # FlashRAG's clients wait for an available retriever; ExSearch's client reads the fingerprint
        retrievers = {"total": 1, "available": 1}
        return _json({"status": "healthy", "retrievers": retrievers, "fingerprint": self._fingerprint})

    async def healthz(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self.counted.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return _json(self._description)

    async def search(self, request: Request) -> Response:
        """Answer a request of any dialect; a refusal is also JSON, and is counted."""
        if request.method != "POST" and request.scope["path"] == "/" and not request.scope["query_string"]:
            index = f"{len(self._corpus)} passages, index {self._fingerprint}"
            return PlainTextResponse(f"ExSearch {__version__} retrieval server: {index}\n\n{overview()}")
        started = time.perf_counter()
        dialect, status = "none", 500
        try:
            parsed = await self._read(request)
            dialect = parsed.dialect
            response = _json(await self._answer(parsed, request))
            status = response.status_code
        except RequestError as refused:
            status = refused.status
            response = _refusal(refused)
        except ClientDisconnect:
            status = GONE
            response = Response(status_code=GONE)
        finally:
            self.counted.requests.labels(dialect, status).inc()
            self.counted.seconds.labels(dialect).observe(time.perf_counter() - started)
        return response

    async def _read(self, request: Request) -> SearchRequest | Access:
        """Read and recognise the request. Raises RequestError."""
        path = request.scope["path"]
        if request.method != "POST":
            return _read_url(request)
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await read_body(request, self._limits.body_bytes)
        except TimeoutError:
            raise RequestError(408, f"the body did not arrive within {self._limits.seconds:g} s") from None
        try:
            keys = decode(body)
        except ShapeError as error:
            raise RequestError(400, f"the body: {error}") from None
        if not isinstance(keys, dict):
            raise RequestError(400, "the body must be a JSON object")
        kind = request_at(path, keys)
        try:
            return convert(keys, kind, strict=False)
        except ShapeError as error:
            raise RequestError(400, f"{kind.__name__} request: {error}") from None

    async def _answer(self, parsed: SearchRequest | Access, request: Request) -> Any:
        if isinstance(parsed, Access):
            self._limits.check(len(parsed.urls), k=1)
            return {"result": await asyncio.to_thread(self._pages, parsed.urls)}
        queries, k = parsed.asks()
        self._limits.check(len(queries), k, parsed.max_passages)
        faults = [self._limits.unsearchable(query) for query in queries]
        if queries and all(faults):
            raise RequestError(400, f"the query {faults[0]}")
        searchable = [query for query, fault in zip(queries, faults, strict=True) if fault is None]
        self.counted.unsearchable.inc(len(queries) - len(searchable))
        # one bad query of a model must not cost a trainer the answers to the rest of the batch
        hits_left = iter(await self._hits(searchable, k, request) if searchable else [])
        return parsed.answer([next(hits_left) if fault is None else [] for fault in faults])

    async def _hits(self, queries: list[str], k: int, request: Request) -> list[list[Hit]]:
        """Wait for the hits, but not longer than the client does. Raises RequestError and ClientDisconnect."""
        search = self._batcher.search(queries, k)
        disconnected = asyncio.ensure_future(_hang_up(request))
        either: set[asyncio.Future[Any]] = {search, disconnected}
        try:
            await asyncio.wait(either, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if search.done():
                return search.result()
            if disconnected.done():
                raise ClientDisconnect
            raise RequestError(504, f"the search took more than {self._limits.seconds:g} s")
        except RetrievalError as error:
            raise RequestError(503, f"the index could not answer: {error}") from error
        finally:
            search.cancel()
            disconnected.cancel()

    def _pages(self, urls: list[str]) -> list[dict[str, str] | None]:
        passages = map(self._corpus.by_id, urls)
        return [None if passage is None else document(passage) for passage in passages]


def _read_url(request: Request) -> SearchRequest:
    """Read a search from the URL. Raises RequestError."""
    search, path = colbert_get(request.scope["query_string"]), request.scope["path"]
    if search is not None:
        return search
    if path in REQUESTS_BY_KEYS:
        raise RequestError(400, "the URL has no `query`; a search by GET has `query` and `k` there")
    raise RequestError(404, f"nothing to GET at {path}; a search by GET has `query` and `k` in its URL")


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _refusal(refused: RequestError) -> Response:
    headers = {**refused.headers}
    if refused.status == 503:
        headers["Retry-After"] = "1"
    if refused.status == 408:
        headers["Connection"] = "close"  # the rest of the body may never arrive
    return refusal(refused.status, refused.message, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _refusal(error)


async def _crash(request: Request, error: Exception) -> Response:
    """Answer after a bug; the exception also goes to the server's log."""
    return refusal(500, "internal error of the server; see its log")
