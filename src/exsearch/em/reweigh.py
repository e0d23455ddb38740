"""Weights of earlier rollouts under the present model, by truncated importance ratios.

Samples z_k of an earlier model stand for those of the present one if each counts by its ratio

    r_k = p_new(z_k | x) / p_old(z_k | x)

That of whole trajectories varies so much that one sample may take all, so it is cut off at the square root of the
number of samples: the estimate stays consistent, and its variance bounded (Ionides: Truncated importance sampling,
Journal of Computational and Graphical Statistics 17, 2008). The weight is then r_k p_new(y | x, z_k)^(1/T), normalised
over the samples of the question as any other.

Both probabilities are at temperature 1, as those of the E-step are, whatever the sampling was.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from exsearch.agent.agents import Agents
from exsearch.agent.journal import few_failed
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
    """A trajectory's weight under another model than the one that sampled it."""

    ratio: float = 0.0
    """p_new(z | x) / p_old(z | x), cut off; 0 for a trajectory without an answer."""


def reweigh(
    agents: Agents,
    trajectories: list[Trajectory],
    questions: list[Question],
    config: WeighConfig,
    target: Path,
    label: str,
) -> list[Reweighed]:
    """Score the answered trajectories again, in one pass, and write the weights under the model of `agents`.

    They come in the order of the trajectories. Raises UsageError for a trajectory of a question that is not among
    `questions`, and ExSearchError if scoring fails for many.
    """
    known = {question.id: question for question in questions}
    if strange := [t.question_id for t in trajectories if t.question_id not in known]:
        raise UsageError(f"trajectory of question {strange[0]!r}, which is not among the questions")
    to_score = [number for number, trajectory in enumerate(trajectories) if trajectory.alias_scores]

    async def score() -> list[Trajectory]:
        free = asyncio.Semaphore(agents.in_flight)

        async def one(trajectory: Trajectory) -> Trajectory:
            async with free:
                found = await agents.rescored(known[trajectory.question_id], trajectory)
            bar.advance(1)
            return found

        return await asyncio.gather(*(one(trajectories[number]) for number in to_score))

    with progress(label, len(to_score), 0) as bar:
        scored = coroutines.run(score())
    few_failed(scored)
    now = dict(zip(to_score, scored, strict=True))
    weighed = weigh([now.get(number, old) for number, old in enumerate(trajectories)], questions, config)
    logs = [
        log_ratio(now[number], old) if number in now and not now[number].failed else -math.inf
        for number, old in enumerate(trajectories)
    ]
    found = with_ratios(weighed, logs, config.weighting in UNNORMALISED)
    write_jsonl(target, found)
    return found


def log_ratio(now: Trajectory, then: Trajectory) -> float:
    """Return log p_now(z | x) - log p_then(z | x): over what was said before the answer."""
    stop = then.answer_start
    return math.fsum(now.logprobs[:stop]) - math.fsum(then.logprobs[:stop])


def with_ratios(weighed: Sequence[Weighted], log_ratios: Sequence[float], unnormalised: bool) -> list[Reweighed]:
    """Multiply the weights of each question by its truncated ratios, and give them their old sum again.

    -inf is the ratio of a trajectory that was not scored. The number of samples of a question counts no branches.
    """
    samples: dict[str, int] = {}
    for record in weighed:
        samples[record.question_id] = samples.get(record.question_id, 0) + (record.branch == 0)
    most = {id_: 0.5 * math.log(max(count, 1)) for id_, count in samples.items()}
    logs = [min(log, most[record.question_id]) for log, record in zip(log_ratios, weighed, strict=True)]
    best = dict.fromkeys(samples, -math.inf)
    for log, record in zip(logs, weighed, strict=True):
        best[record.question_id] = max(best[record.question_id], log)
    products = []
    before, after = dict.fromkeys(samples, 0.0), dict.fromkeys(samples, 0.0)
    for log, record in zip(logs, weighed, strict=True):
        # relative to the question's best, since all ratios may be too small for exp; normalised weights stay the same
        reference = 0.0 if unnormalised or best[record.question_id] == -math.inf else best[record.question_id]
        products.append(record.weight * math.exp(log - reference))
        before[record.question_id] += record.weight
        after[record.question_id] += products[-1]
    found = []
    for record, log, product in zip(weighed, logs, products, strict=True):
        total = after[record.question_id]
        scale = 1.0 if unnormalised or not total else before[record.question_id] / total
        fields = msgspec.structs.asdict(record) | {"weight": product * scale, "ratio": math.exp(log)}
        found.append(Reweighed(**fields))
    return found


def ratios_worth(records: Sequence[Reweighed]) -> float:
    """Return how many samples per question the ratios are worth: the mean of (sum r)^2 / sum r^2, from 1 to K."""
    groups: dict[str, list[float]] = {}
    for record in records:
        if record.ratio > 0:
            groups.setdefault(record.question_id, []).append(record.ratio)
    sizes = [effective_sample_size([ratio / max(ratios) for ratio in ratios]) for ratios in groups.values()]
    return round(sum(sizes) / len(sizes), 5) if sizes else 0.0
