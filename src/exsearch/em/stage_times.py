"""How long each stage of a run took, over all its starts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from exsearch.core.jsonl import read_jsonl
from exsearch.logs.metrics_log import MetricsLog

STAGE = "seconds"
"""Of the lines in metrics.jsonl that say so."""


class StageTimes:
    """Writes the duration of stages to the run's figures, and sums them up."""

    def __init__(self, metrics: MetricsLog) -> None:
        """Keep them in this log."""
        self._metrics = metrics

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Time what is done within, if that takes more than a second: a stage that is done already takes less."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds > 1:
            self._metrics.append(STAGE, 0, **{stage: round(seconds, 1)})

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage."""
        total: dict[str, float] = {}
        for line in read_jsonl(self._metrics.path, dict[str, str | float]):
            if line["stage"] == STAGE:
                for stage, seconds in line.items():
                    if stage not in ("stage", "step"):
                        total[stage] = round(total.get(stage, 0.0) + float(seconds), 1)
        return total
