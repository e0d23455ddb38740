"""Weights of earlier rollouts under the present model, by truncated importance ratios.

Samples z_k of an earlier model stand in for samples of the present one if each counts by its ratio

    r_k = p_new(z_k | x) / p_old(z_k | x)

Over whole trajectories this ratio varies so much that one sample may take all the weight. So it is truncated at the
square root of the number of samples, which keeps the estimate consistent and its variance bounded (Ionides: Truncated
importance sampling, Journal of Computational and Graphical Statistics 17, 2008). The weight is then
r_k p_new(y | x, z_k)^(1/T), normalised over the samples of the question as usual.

Both probabilities are at temperature 1, as the E-step's are, whatever the sampling temperature was.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.journal import check_failures
from exsearch.agent.trajectory import Trajectory
from exsearch.config import WeighConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.core.progress import progress
from exsearch.em.weigh import UNNORMALISED, effective_sample_size, weigh
from exsearch.processes import coroutines
from exsearch.questions.question import Question
from exsearch.runs.weighted import Weighted


class Reweighed(Weighted, frozen=True):
    """A trajectory's weight under a later model than the one that sampled it."""

    ratio: float = 0.0
    """p_new(z | x) / p_old(z | x), truncated; 0 for a trajectory without an answer."""


def reweigh(
    agents: Agents,
    trajectories: list[Trajectory],
    questions: list[Question],
    config: WeighConfig,
    target: Path,
    label: str,
) -> list[Reweighed]:
    """Score the answered trajectories again, in one pass, and write their weights under the model of `agents`.

    Weights are in the order of the trajectories. Raises UsageError for a trajectory whose question is not among
    `questions`, and ExSearchError if scoring fails for too many.
    """
    by_id = {question.id: question for question in questions}
    if strange := [t.question_id for t in trajectories if t.question_id not in by_id]:
        raise UsageError(f"trajectory of question {strange[0]!r}, which is not among the questions")
    to_score = [number for number, trajectory in enumerate(trajectories) if trajectory.alias_scores]

    async def score() -> list[Trajectory]:
        free = asyncio.Semaphore(agents.in_flight)

        async def one(trajectory: Trajectory) -> Trajectory:
            async with free:
                reweighed = await agents.rescored(by_id[trajectory.question_id], trajectory)
            bar.advance(1)
            return reweighed

        return await asyncio.gather(*(one(trajectories[number]) for number in to_score))

    with progress(label, len(to_score), 0) as bar:
        scored = coroutines.run(score())
    check_failures(scored)
    now = dict(zip(to_score, scored, strict=True))
    weighed = weigh([now.get(number, old) for number, old in enumerate(trajectories)], questions, config)
    logs = [
        log_ratio(now[number], old) if number in now and not now[number].failed else -math.inf
        for number, old in enumerate(trajectories)
    ]
    reweighed = with_ratios(weighed, logs, config.weighting in UNNORMALISED)
    write_jsonl(target, reweighed, sealed=True)
    return reweighed


def log_ratio(now: Trajectory, then: Trajectory) -> float:
    """Return log p_now(z | x) - log p_then(z | x), over the model's tokens before the answer."""
    stop = then.answer_start
    return math.fsum(now.logprobs[:stop]) - math.fsum(then.logprobs[:stop])


def with_ratios(weighed: Sequence[Weighted], log_ratios: Sequence[float], unnormalised: bool) -> list[Reweighed]:
    """Multiply the weights of each question by its truncated ratios, then rescale them to their old sum.

    A log ratio of -inf marks a trajectory that was not scored. Branches do not count as samples of their question.
    """
    samples: dict[str, int] = {}
    for record in weighed:
        samples[record.question_id] = samples.get(record.question_id, 0) + (record.branch == 0)
    limits = {id_: 0.5 * math.log(max(count, 1)) for id_, count in samples.items()}
    logs = [min(log, limits[record.question_id]) for log, record in zip(log_ratios, weighed, strict=True)]
    best = dict.fromkeys(samples, -math.inf)
    for log, record in zip(logs, weighed, strict=True):
        best[record.question_id] = max(best[record.question_id], log)
    products = []
    before, after = dict.fromkeys(samples, 0.0), dict.fromkeys(samples, 0.0)
    for log, record in zip(logs, weighed, strict=True):
        # relative to the question's best, since all ratios may underflow in exp; normalised weights stay the same
        reference = 0.0 if unnormalised or best[record.question_id] == -math.inf else best[record.question_id]
        products.append(record.weight * math.exp(log - reference))
        before[record.question_id] += record.weight
        after[record.question_id] += products[-1]
    reweighed = []
    for record, log, product in zip(weighed, logs, products, strict=True):
        total = after[record.question_id]
        scale = 1.0 if unnormalised or not total else before[record.question_id] / total
        fields = msgspec.structs.asdict(record) | {"weight": product * scale, "ratio": math.exp(log)}
        reweighed.append(Reweighed(**fields))
    return reweighed


def ratios_worth(records: Sequence[Reweighed]) -> float:
    """Return the mean effective sample size per question of the ratios, (sum r)^2 / sum r^2, from 1 to K."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if record.ratio > 0:
            groups.setdefault(record.question_id, []).append(record.ratio)
    sizes = [effective_sample_size([ratio / max(ratios) for ratio in ratios]) for ratios in groups.values()]
    return round(sum(sizes) / len(sizes), 5) if sizes else 0.0
