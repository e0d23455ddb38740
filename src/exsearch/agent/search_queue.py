"""Searches for many trajectories in batches, while their models go on."""

import asyncio
from collections.abc import Sequence

from exsearch.config import RolloutConfig
from exsearch.core.retry import RetryPolicy
from exsearch.corpus.passage import Hit
from exsearch.processes.futures import settle
from exsearch.processes.worker import Worker
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.retrieval.checked import checked_hits

PAUSE = 0.1
"""Seconds of pause before the first retry of a failed search."""

Asked = tuple[str, int]
"""A query, and the page of its ranking, from 1."""


class SearchQueue:
    """Collects queries while the retriever is busy, and then searches for them together, in a thread of its own.

    A query waits at most `search_seconds`. A retriever that does not return by then is abandoned, and later queries get
    a new thread. The queries of a batch that fails are searched for one by one, so that a bad query does not affect the
    others.
    """

    def __init__(self, retriever: Retriever, k: int, config: RolloutConfig) -> None:
        """Search for `k` passages per query and page."""
        self._retriever, self._k, self._config = retriever, k, config
        self._worker = Worker("search")
        self._waiting: dict[Asked, list[asyncio.Future[list[Hit]]]] = {}
        self._driver: asyncio.Task[None] | None = None

    async def search(self, query: str, page: int = 1) -> list[Hit]:
        """Return the hits of a query. Raises RetrievalError after the retries, or at once if time is up.

        `page` counts from 1: the first page has the `k` best hits, the next page the `k` after them, and so on.
        """
        for pause in RetryPolicy(self._config.search_retries, PAUSE).pauses():
            if pause:
                await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(self._config.search_seconds):
                    return await self._ask((query, page))
            except TimeoutError:
                self._abandon()
                raise RetrievalError(f"no answer within {self._config.search_seconds:g} s") from None
            except RetrievalError as error:
                failed = error
        raise failed

    async def _ask(self, key: Asked) -> list[Hit]:
        future: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        return await future

    async def _drive(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # queries that are about to arrive join this batch
            batch, self._waiting = self._waiting, {}
            for page in sorted({page for _, page in batch}):
                queries = [query for query, asked_page in batch if asked_page == page]
                for query, outcome in zip(queries, await self._outcomes(queries, page), strict=True):
                    settle((future, outcome) for future in batch[query, page])

    async def _outcomes(self, queries: list[str], page: int) -> Sequence[list[Hit] | RetrievalError]:
        """Search for all queries at once, or one by one if that fails."""
        first, last = (page - 1) * self._k, page * self._k
        try:
            results = await self._worker.run(
                lambda: checked_hits(self._retriever.search(queries, last), len(queries), last)
            )
            return [hits[first:] for hits in results]
        except Exception as error:
            if len(queries) == 1:
                if isinstance(error, RetrievalError):
                    return [error]
                return [RetrievalError(f"the retriever failed: {type(error).__name__}: {error}")]
        return [outcome for query in queries for outcome in await self._outcomes([query], page)]

    def _abandon(self) -> None:
        """Abandon the thread that did not return in time; the queries it has will also time out."""
        self._worker = Worker("search")
        if self._driver is not None:
            self._driver.cancel()
        self._driver = asyncio.create_task(self._drive()) if self._waiting else None
