"""The time that each stage of a run took, over all its starts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.core.jsonl import read_growing
from exsearch.logs.metrics_log import MetricsLog

STAGE = "seconds"
"""Prefix of the keys in metrics.jsonl that hold times."""


class StageTimes:
    """Logs the duration of stages with the run's figures, and sums them."""

    def __init__(self, metrics: MetricsLog) -> None:
        """Log to `metrics`, and sum what earlier starts logged there."""
        self._metrics = metrics
        self._total: dict[str, float] = {}
        for line in read_growing(metrics.path, dict[str, str | float]):
            if line["stage"] == STAGE:
                for stage, seconds in line.items():
                    if stage not in ("stage", "step"):
                        self._add(stage, float(seconds))

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Time the body of a `with`. A stage that was done already takes under a second, which is not logged."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds > 1:
            self._metrics.append(STAGE, 0, **{stage: round(seconds, 1)})
            self._add(stage, round(seconds, 1))

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage, summed over all starts."""
        return dict(self._total)

    def _add(self, stage: str, seconds: float) -> None:
        self._total[stage] = round(self._total.get(stage, 0.0) + seconds, 1)
