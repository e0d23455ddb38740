"""Builds the segments of an index on a Ray cluster.

Corpus and index folder are on a file system that all machines share. Ray Data keeps a pool of workers, one per
processor or GPU, gives each the next segment, and gives the segment of a lost machine to another. Only finished
segments are moved into place, so that the same command resumes after a cluster has died, with or without Ray.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exsearch.core.errors import ExSearchError, UsageError
from exsearch.corpus.store import Corpus
from exsearch.processes import cluster
from exsearch.retrieval.index.kinds import segmented_kind, typed
from exsearch.retrieval.index.segments import BuildTarget, build_segment


class _Builder:
    """One worker."""

    def __init__(self, folder: str, corpus: str, kind: str, parameters: dict[str, Any], encodes: bool) -> None:
        """Open the corpus; an encoder is loaded with the first segment."""
        settings = typed(kind, parameters, segmented_kind(kind).Parameters)
        self._target = BuildTarget(Path(folder), kind, settings, parameters, Corpus.open(Path(corpus)), encodes)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Build the segments of `batch`, with columns `start` and `stop`."""
        for start, stop in zip(batch["start"], batch["stop"], strict=True):
            build_segment(self._target, range(int(start), int(stop)), lambda count: None)
        return batch


def build_on_ray(address: str, target: BuildTarget, to_build: list[range], advance: Callable[[int], None]) -> None:
    """Build the segments `to_build` of an index on the cluster at `address`.

    `address` is as for `ray.init`: `auto`, `local` for this machine only, or HOST:PORT. A worker uses one GPU if the
    cluster has any, otherwise one processor. Raises UsageError if Ray is not installed or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs Ray: pip install 'exsearch[ray]'") from None
    try:
        cluster.join(address)
    except ConnectionError as error:
        raise UsageError(f"--ray {address}: {error}") from None
    resources = ray.cluster_resources()
    graphics = int(resources.get("GPU", 0))
    workers = min(len(to_build), graphics or max(int(resources.get("CPU", 1)), 1))
    segments = ray.data.from_items([{"start": rows.start, "stop": rows.stop} for rows in to_build])
    segments_built = segments.repartition(len(to_build)).map_batches(
        _Builder,
        fn_constructor_args=(
            str(target.folder.resolve()),
            str(target.corpus.folder.resolve()),
            target.kind,
            target.parameters,
            target.encodes,
        ),
        batch_size=1,
        concurrency=(1, workers),
        num_gpus=1 if graphics else None,
        num_cpus=None if graphics else 1,
    )
    try:
        for row in segments_built.iter_rows():
            advance(int(row["stop"]) - int(row["start"]))
    except ray.exceptions.RayError as error:
        raise ExSearchError(f"building on Ray failed; run the same command again to resume: {error}") from None
