"""Scores predictions under several normalisers: how much of a score, or of a difference, is due to the metric."""

import msgspec

from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.metrics import METRICS, answer_scores
from exsearch.evaluation.predictions import Matched
from exsearch.evaluation.scores import Figure
from exsearch.questions.normalise import NORMALISERS
from exsearch.questions.question import Question

Values = dict[str, dict[str, list[float]]]
"""By normaliser (or judge) and metric: one value per question, in order."""
Figures = dict[str, dict[str, Figure]]
"""By normaliser (or judge) and metric."""


class Spread(msgspec.Struct, frozen=True):
    """How much the normalisers' scores of the same predictions differ in one metric."""

    lowest: str
    highest: str
    difference: Figure
    """Highest minus lowest, paired over the questions."""


class Rescored(msgspec.Struct, frozen=True):
    """One file of predictions."""

    path: str
    field: str
    """Field of a record that has the answer."""
    missing: list[str]
    """Ids of questions without a prediction; they count as wrong."""
    unanswered: list[str]
    """Ids of questions whose prediction is null or blank; they count as wrong."""
    extra: list[str]
    """Ids that match no question; not scored."""
    figures: Figures
    spread: dict[str, Spread]
    """By metric."""


class RescoreReport(msgspec.Struct, frozen=True):
    """The result of `exsearch score`."""

    n: int
    """Questions."""
    emptied: dict[str, list[str]]
    """By normaliser, the ids of questions with a gold answer that it empties.

    Any answer that it empties too matches this one, such as "The" for "A".
    """
    predictions: list[Rescored]
    difference: Figures
    """The second file minus the first, paired over the questions; empty with one file."""


def values(questions: list[Question], answers: list[str | None], normalisers: list[str]) -> Values:
    """Score one answer per question under each normaliser; None and blank answers are wrong in all metrics."""
    by_normaliser: Values = {}
    for name in normalisers:
        rows = [answer_scores(a, q.answers, NORMALISERS[name]) for q, a in zip(questions, answers, strict=True)]
        by_normaliser[name] = {metric: [row[metric] for row in rows] for metric in METRICS}
    return by_normaliser


def report(questions: list[Question], files: list[Matched], scored: list[Values]) -> RescoreReport:
    """Summarise one file of predictions, or two and their difference; `scored` has the values of each."""
    return RescoreReport(
        n=len(questions),
        emptied=_emptied(questions, [name for name in scored[0] if name in NORMALISERS]),
        predictions=[_rescored(file, columns) for file, columns in zip(files, scored, strict=True)],
        difference=_figures(_minus(scored[1], scored[0])) if len(scored) > 1 else {},
    )


def _rescored(file: Matched, scored: Values) -> Rescored:
    return Rescored(
        path=str(file.path),
        field=file.field,
        missing=file.missing,
        unanswered=file.unanswered,
        extra=file.extra,
        figures=_figures(scored),
        spread=_spread(scored),
    )


def _emptied(questions: list[Question], normalisers: list[str]) -> dict[str, list[str]]:
    emptied = {
        name: [q.id for q in questions if not all(NORMALISERS[name](answer) for answer in q.answers)]
        for name in normalisers
    }
    return {name: ids for name, ids in emptied.items() if ids}


def _figures(scored: Values) -> Figures:
    cache: dict[tuple[float, ...], Figure] = {}  # intervals take time, and many columns are equal

    def of(column: list[float]) -> Figure:
        key = tuple(column)
        if key not in cache:
            cache[key] = figure(column)
        return cache[key]

    return {name: {metric: of(column) for metric, column in columns.items()} for name, columns in scored.items()}


def _minus(b: Values, a: Values) -> Values:
    return {
        name: {
            metric: [after - before for before, after in zip(column, b[name][metric], strict=True)]
            for metric, column in columns.items()
        }
        for name, columns in a.items()
    }


def _spread(scored: Values) -> dict[str, Spread]:
    """Compare the normalisers by each metric; of equal ones, the first counts."""
    spreads = {}
    for metric in METRICS:
        sums = {name: sum(columns[metric]) for name, columns in scored.items() if metric in columns}
        low, high = min(sums, key=sums.__getitem__), max(sums, key=sums.__getitem__)
        spreads[metric] = Spread(low, high, paired_difference(scored[low][metric], scored[high][metric]))
    return spreads
