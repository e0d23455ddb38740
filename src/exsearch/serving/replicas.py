"""An index served by several processes, on one machine or many: the replicas of a Ray Serve deployment.

The HTTP front remains one process, which batches the requests of all clients; each batch is divided into one part per
replica. Index and corpus are on a file system that all machines share. Ray Serve places the replicas and replaces those
that die.
"""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from exsearch.core.errors import UsageError
from exsearch.corpus.passage import Hit
from exsearch.processes import cluster
from exsearch.retrieval.base import RetrievalError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentResponse


class Replica:
    """One process that has the index open."""

    def __init__(self, index: str, corpus: str | None) -> None:
        """Open the index, ready to answer."""
        from exsearch.retrieval.index.open import open_index

        self._retriever = open_index(Path(index), None if corpus is None else Path(corpus))
        self._retriever.search(["warm up"], 1)

    def process(self) -> int:
        """Return the process id."""
        return os.getpid()

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Return the hits of each query."""
        return self._retriever.search(queries, k)


class Replicas:
    """A retriever that passes its queries to the replicas. Call it from one thread at a time, like any other."""

    def __init__(self, index: Path, corpus: Path | None, fingerprint: str, count: int, address: str, seconds: float):
        """Start `count` replicas on the cluster at `address` (as for `ray.init`; `local` is this machine only).

        A search may take `seconds`. Raises UsageError if Ray is not installed or the cluster cannot hold them.
        """
        try:
            import ray
            from ray import serve
        except ImportError:
            raise UsageError("--replicas needs Ray: pip install 'exsearch[ray]'") from None
        try:
            cluster.join(address)
        except ConnectionError as error:
            raise UsageError(f"--ray {address}: {error}") from None
        processors = int(ray.cluster_resources().get("CPU", 0))
        if processors < count:
            raise UsageError(
                f"--replicas {count}: the cluster at {address} has {processors} processors, and each replica needs one"
            )
        serve.start(proxy_location="Disabled")  # our own front has the dialects and limits
        deployment = serve.deployment(
            Replica,
            num_replicas=count,
            ray_actor_options={"num_cpus": 1},
            max_ongoing_requests=1,
            health_check_period_s=2,
        )
        self.fingerprint = fingerprint
        self._count, self._seconds = count, seconds
        where = None if corpus is None else str(corpus.resolve())
        self._name = f"exsearch-{fingerprint}-{uuid.uuid4().hex[:8]}"  # another server may have the same index
        self.handle = serve.run(deployment.bind(str(index.resolve()), where), name=self._name, route_prefix=None)

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        """Search on all replicas at once. A part whose replica dies is tried once more, on another."""
        part = max(-(-len(queries) // self._count), 1)
        parts = [queries[start : start + part] for start in range(0, len(queries), part)]
        answers = [self.handle.search.remote(part, k) for part in parts]
        return [hits for part, answer in zip(parts, answers, strict=True) for hits in self._result(part, k, answer)]

    def close(self) -> None:
        """Stop the replicas, which a cluster would otherwise keep."""
        from ray import serve

        serve.delete(self._name)

    def _result(self, part: list[str], k: int, answer: "DeploymentResponse") -> list[list[Hit]]:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            try:
                hits: list[list[Hit]] = answer.result(timeout_s=self._seconds)
            except RayActorError:
                hits = self.handle.search.remote(part, k).result(timeout_s=self._seconds)
        except RayTaskError as error:
            raise error.cause from error  # the error that the retriever itself raised
        except (RayActorError, TimeoutError) as error:
            raise RetrievalError(f"no replica answered within {self._seconds:g} s: {error}") from error
        return hits
