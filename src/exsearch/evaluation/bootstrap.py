"""Bootstrap confidence intervals over questions."""

import numpy as np

from exsearch.evaluation.scores import Figure, Scores

RESAMPLES = 10_000
_SEED = 20250526
"""Fixed, so that equal values always give equal intervals."""


def figure(values: list[float]) -> Figure:
    """Return the mean of per-question values with its 95% percentile interval; zeros for no values."""
    if not values:
        return Figure(0.0, 0.0, 0.0, 0)
    array = np.asarray(values)
    generator = np.random.default_rng(_SEED)
    means = np.concatenate(
        [array[generator.integers(len(array), size=(100, len(array)))].mean(axis=1) for _ in range(RESAMPLES // 100)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(round(float(array.mean()), 5), round(float(low), 5), round(float(high), 5), len(array))


def paired_difference(a: list[float], b: list[float]) -> Figure:
    """Return the mean of b - a over the same questions with its 95% interval (paired bootstrap)."""
    return figure([after - before for before, after in zip(a, b, strict=True)])


def answer_probability(scores: Scores) -> Figure:
    """Return the mean of p(y | x, z) over the questions, 0 for those without an answer, also for old evaluations."""
    return figure([row.answer_probability for row in scores.questions if row.answer_probability is not None])
