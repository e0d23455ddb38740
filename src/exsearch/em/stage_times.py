"""How long each stage of a run took, over all its starts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.core.jsonl import read_growing
from exsearch.logs.metrics_log import MetricsLog

STAGE = "seconds"
"""Of the lines in metrics.jsonl that say so."""


class StageTimes:
    """Writes the duration of stages to the run's figures, and sums them up."""

    def __init__(self, metrics: MetricsLog) -> None:
        """Keep them in this log, beside those of earlier starts."""
        self._metrics = metrics
        self._total: dict[str, float] = {}
        for line in read_growing(metrics.path, dict[str, str | float]):
            if line["stage"] == STAGE:
                for stage, seconds in line.items():
                    if stage not in ("stage", "step"):
                        self._add(stage, float(seconds))

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Time what is done within, if that takes more than a second: a stage that is done already takes less."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds > 1:
            self._metrics.append(STAGE, 0, **{stage: round(seconds, 1)})
            self._add(stage, round(seconds, 1))

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage."""
        return dict(self._total)

    def _add(self, stage: str, seconds: float) -> None:
        self._total[stage] = round(self._total.get(stage, 0.0) + seconds, 1)
