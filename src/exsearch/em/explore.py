"""E-step, first half: sample K trajectories per question into an append-only journal."""

import math
from pathlib import Path

import numpy as np

from exsearch.agent.agents import Agents
from exsearch.agent.journal import Found, Journals, Plan, first_samples
from exsearch.agent.origin import check_origin, known_before_loading, origin_of
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Trajectory, answer_logprob
from exsearch.config import Config, ExploreConfig
from exsearch.core.locks import require_free
from exsearch.questions.question import Question


def explore(
    agents: Agents,
    questions: list[Question],
    config: ExploreConfig,
    seed: int,
    journal: Path,
    label: str = "explore",
) -> list[Trajectory]:
    """Sample up to `config.samples` trajectories of each question, scored against the gold answers; return all.

    The result is ordered by question and sample. What the journal already holds is not sampled again, unless the
    retriever or engine failed. Raises UsageError as `Journals` does.
    """
    draw, next_samples = draw_of(config, seed), plan(config)
    with Journals(agents, {journal: questions}, draw, drop_failed=True) as journals:
        groups = journals.roll_out(next_samples, config.samples, label)
    return [trajectory for group in groups[journal] for trajectory in group]


def check_journal(journal: Path, questions: list[Question], config: Config) -> None:
    """Raise UsageError where `explore` would, for what can be checked before a model is loaded."""
    require_free(journal)
    draw = draw_of(config.explore, config.seed)
    check_origin(journal, origin_of(known_before_loading(config.agent), draw, questions))


def draw_of(config: ExploreConfig, seed: int) -> Draw:
    """Return how the trajectories of an exploration are drawn and scored."""
    return Draw(
        seed=seed,
        temperature=config.temperature,
        top_p=config.top_p,
        score_answers=True,
        score_opening=config.score_opening,
        score_steps=config.score_steps,
        branches=config.branches,
        branch_gain=config.branch_gain,
    )


def plan(config: ExploreConfig) -> Plan:
    """Return the plan of which samples to draw of a question: all at once, or batches until its weights are settled.

    What is drawn depends only on the earlier samples by number, so neither the order in which trajectories end nor an
    interruption changes it.
    """
    if not config.first_samples:
        return first_samples(config.samples)

    def next_samples(found: Found) -> list[int]:
        for first in range(0, config.samples, config.first_samples):
            stop = min(first + config.first_samples, config.samples)
            if samples := [sample for sample in range(first, stop) if (sample, 0) not in found]:
                return samples
            drawn = [trajectory for (sample, _), trajectory in found.items() if sample < stop]
            if relative_error(drawn) < config.settled:
                return []
        return []

    return next_samples


def relative_error(trajectories: list[Trajectory]) -> float:
    """Return the relative standard error of the mean of p(y | x, z), which estimates p(y | x) from these samples.

    It is small if all samples make the answer about equally likely, so that another sample would barely change the
    weights; it is infinite for fewer than two samples or if none has an answer. A branch counts by its share.
    """
    samples: dict[int, float] = {}
    best = max((answer_logprob(t.alias_scores, "sum") for t in trajectories if t.alias_scores), default=-math.inf)
    if best == -math.inf:
        return math.inf
    for trajectory in trajectories:
        logprob = answer_logprob(trajectory.alias_scores, "sum") if trajectory.alias_scores else -math.inf
        sample = trajectory.sample
        samples[sample] = samples.get(sample, 0.0) + trajectory.share * math.exp(logprob - best)
    values = np.array(list(samples.values()))
    if len(values) < 2:
        return math.inf
    return float(values.std(ddof=1) / math.sqrt(len(values)) / values.mean())
