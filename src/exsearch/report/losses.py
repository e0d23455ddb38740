"""Turns metrics.jsonl into one loss curve per stage, with few enough points to draw."""

import math
from collections.abc import Iterable, Sequence

from exsearch.report.page import LossCurve
from exsearch.runs.reader import Logged

MAX_POINTS = 300
"""Maximum number of points per curve; a longer curve is averaged in groups of equal size."""


def loss_curves(lines: Iterable[Logged]) -> list[LossCurve]:
    """Return the curves in the order in which their stages began.

    If a step was logged twice, because its stage was interrupted and resumed, the last line counts.
    """
    stages: dict[str, dict[float, Logged]] = {}
    for line in lines:
        if line.stage and line.step is not None and line.loss is not None:
            stages.setdefault(line.stage, {})[line.step] = line
    return [_curve(stage, [steps[step] for step in sorted(steps)]) for stage, steps in stages.items()]


def _curve(stage: str, lines: list[Logged]) -> LossCurve:
    size = math.ceil(len(lines) / MAX_POINTS)
    groups = [lines[start : start + size] for start in range(0, len(lines), size)]
    return LossCurve(
        stage=stage,
        step=[_mean([line.step for line in group]) or 0.0 for group in groups],
        loss=[_mean([line.loss for line in group]) for group in groups],
        search_loss=[_mean([line.search_loss for line in group]) for group in groups],
        answer_loss=[_mean([line.answer_loss for line in group]) for group in groups],
        averaged=size,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(f"{sum(numbers) / len(numbers):.5g}") if numbers else None
