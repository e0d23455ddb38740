"""One thread that searches for all clients; requests that arrive while it is busy are searched for together."""

import asyncio
import threading
from dataclasses import dataclass
from queue import SimpleQueue

from exsearch.corpus.passage import Hit
from exsearch.processes.futures import settle_from_thread
from exsearch.processes.stopping import untorn
from exsearch.retrieval.base import RetrievalError, Retriever
from exsearch.serving.metrics import Metrics

BATCH_QUERIES = 1024
Answer = list[list[Hit]] | Exception


@dataclass(frozen=True)
class _Job:
    queries: list[str]
    k: int
    answer: "asyncio.Future[list[list[Hit]]]"


class Batcher:
    """Passes queries from the event loop to the retriever's thread, so a retriever need not be thread-safe."""

    def __init__(self, retriever: Retriever, metrics: Metrics) -> None:
        """Start the thread."""
        self._retriever = retriever
        self._metrics = metrics
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        metrics.watch("exsearch_queue_depth", "Requests waiting for the retriever.", self._waiting.qsize)
        # a daemon, so that a search that hangs does not keep the process from stopping
        self._thread = threading.Thread(target=self._run, name="retriever", daemon=True)
        self._thread.start()

    def search(self, queries: list[str], k: int) -> "asyncio.Future[list[list[Hit]]]":
        """Return the hits of each query, or what the retriever raises, as a future of the running event loop.

        A future that is cancelled before its turn is not searched for.
        """
        answer: asyncio.Future[list[list[Hit]]] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Job(queries, k, answer))
        return answer

    def close(self) -> None:
        """Let the thread end after the requests that are waiting now."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            jobs, queries = [job], len(job.queries)
            while queries < BATCH_QUERIES and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                jobs.append(following)
                queries += len(following.queries)
            jobs = [job for job in jobs if not job.answer.cancelled()]
            for k in {job.k for job in jobs}:
                group = [job for job in jobs if job.k == k]
                with untorn():
                    answers = self._answers(group, k)
                settle_from_thread([(job.answer, answer) for job, answer in zip(group, answers, strict=True)])

    def _answers(self, jobs: list[_Job], k: int) -> list[Answer]:
        """Search for the queries of all jobs at once; if that crashes, one by one, so that only a faulty job fails."""
        queries = list(dict.fromkeys(query for job in jobs for query in job.queries))
        self._metrics.batch_queries.observe(len(queries))
        try:
            hits = dict(zip(queries, self._retriever.search(queries, k), strict=True))
        except RetrievalError as error:
            return [error] * len(jobs)
        except Exception as error:
            if len(jobs) > 1:
                return [answer for job in jobs for answer in self._answers([job], k)]
            return [error]
        return [[hits[query] for query in job.queries] for job in jobs]
