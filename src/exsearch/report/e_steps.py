"""Collects the E-step of each iteration: the samples of the training questions and their weights."""

import math
from collections import Counter
from collections.abc import Iterable

from exsearch.agent.trajectory import Number, Trajectory
from exsearch.em.weigh import effective_sample_size
from exsearch.questions.question import Question
from exsearch.report.page import EStep, Explored, Histogram, PageSample
from exsearch.report.passages import PassageTable
from exsearch.report.trajectories import page_trajectory
from exsearch.runs.reader import RunReader
from exsearch.runs.weighted import Weighted

MAX_SAMPLES = 1_200
"""Maximum number of sampled trajectories to browse, over all iterations; the histograms are over all of them."""

Weights = dict[str, dict[Number, Weighted]]
"""By question, sample and branch."""


def collect_e_steps(run: RunReader, train: list[Question], passages: PassageTable) -> list[EStep]:
    """Return the iterations, each with as many questions to browse as its share of MAX_SAMPLES allows."""
    names = run.explored_iterations()
    return [_e_step(run, name, train, passages, MAX_SAMPLES // len(names)) for name in names]


def _e_step(run: RunReader, name: str, train: list[Question], passages: PassageTable, share: int) -> EStep:
    weights: Weights = {}
    for weighted in run.weights(name):
        weights.setdefault(weighted.question_id, {})[weighted.number] = weighted
    references = list(run.references(name))
    counts = Counter(reference.question_id for reference in references)
    samples_of = Counter(reference.question_id for reference in references if not reference.branch)
    largest = max(counts.values(), default=0)
    samples = _samples(run.explored(name), _first_ids(counts, train, share), weights, passages)
    questions = {question.id: question for question in train}
    sizes = [ess for ess in map(_ess, weights.values()) if ess is not None]
    flat = [weighted.weight for group in weights.values() for weighted in group.values()]
    top = float(math.ceil(max([1.0, *flat]) - 1e-6))
    return EStep(
        name=name,
        k=max(samples_of.values(), default=0),
        largest=largest,
        total=len(counts),
        explored=[
            Explored(
                question=questions.get(id_, Question(id=id_, text=id_, answers=[])),
                samples=group,
                ess=_ess(weights.get(id_, {})),
            )
            for id_, group in samples.items()
        ],
        weights=histogram(flat, 0.0, top, 20) if flat else None,
        top_weight=top,
        zero_weights=sum(weight == 0 for weight in flat),
        ess=histogram(sizes, 1.0, float(max(largest, 2)), _ess_bins(largest)) if sizes else None,
        skipped=len(weights) - len(sizes),
    )


def _first_ids(counts: Counter[str], train: list[Question], share: int) -> list[str]:
    """Return the first question ids, in file order, that have at most `share` samples in total; at least one."""
    ordered = [question.id for question in train if question.id in counts]
    ordered += sorted(counts.keys() - set(ordered))
    return ordered[: max(1, share // max(counts.values(), default=1))]


def _samples(
    trajectories: Iterable[Trajectory], ids: list[str], weights: Weights, passages: PassageTable
) -> dict[str, list[PageSample]]:
    groups: dict[str, dict[Number, PageSample]] = {id_: {} for id_ in ids}
    for trajectory in trajectories:
        id_ = trajectory.question_id
        if id_ in groups:
            weighted = weights.get(id_, {}).get(trajectory.number)
            groups[id_][trajectory.number] = _sample(trajectory, weighted, passages)
    return {id_: [group[number] for number in sorted(group)] for id_, group in groups.items()}


def _sample(trajectory: Trajectory, weighted: Weighted | None, passages: PassageTable) -> PageSample:
    view = page_trajectory(trajectory, passages)
    if weighted is None:
        return PageSample(trajectory=view)
    return PageSample(
        trajectory=view,
        weight=round(weighted.weight, 5),
        logprob=None if weighted.logprob is None else round(weighted.logprob, 3),
        em=weighted.exact_match,
        f1=round(weighted.f1, 4),
        target=weighted.target,
    )


def _ess(group: dict[Number, Weighted]) -> float | None:
    """Return the effective sample size of a question's weights; None if all are 0."""
    weights = [weighted.weight for weighted in group.values()]
    return round(effective_sample_size(weights), 4) if any(weights) else None


def histogram(values: list[float], low: float, high: float, bins: int) -> Histogram:
    """Count values in `bins` equal bins of [low, high]; one outside, by rounding, goes to the nearest bin."""
    counts = [0] * bins
    for value in values:
        position = int((value - low) / (high - low) * bins + 1e-9)
        counts[min(max(position, 0), bins - 1)] += 1
    return Histogram(edges=[round(low + (high - low) * i / bins, 6) for i in range(bins + 1)], counts=counts)


def _ess_bins(largest: int) -> int:
    """Return 2 bins per unit for few samples, then 1, then a constant number."""
    span = max(largest, 2) - 1
    return 2 * span if span <= 8 else min(span, 20)
