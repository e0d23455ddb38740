"""The time that each stage of a run took, over all its starts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.core.jsonl import read_jsonl
from exsearch.logs.metrics_log import MetricsLog

STAGE = "seconds"
"""Prefix of the keys in metrics.jsonl that hold times."""


class StageTimes:
    """Logs the duration of stages with the run's figures, and sums them."""

    def __init__(self, metrics: MetricsLog) -> None:
        """Log to `metrics`."""
        self._metrics = metrics

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Time the body of a `with`. A stage that was done already takes under a second, which is not logged."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds > 1:
            self._metrics.append(STAGE, 0, **{stage: round(seconds, 1)})

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage, summed over all starts."""
        total: dict[str, float] = {}
        for line in read_jsonl(self._metrics.path, dict[str, str | float]):
            if line["stage"] == STAGE:
                for stage, seconds in line.items():
                    if stage not in ("stage", "step"):
                        total[stage] = round(total.get(stage, 0.0) + float(seconds), 1)
        return total
