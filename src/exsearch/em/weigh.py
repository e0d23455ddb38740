"""E-step, second half: weigh the K trajectories of each question by how likely they make the right answer.

Pure arithmetic on a rollout file: every weighting can be computed from the same trajectories.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from exsearch.agent.trajectory import StopReason, Trajectory, answer_logprob
from exsearch.config import WeighConfig, checked
from exsearch.core.errors import UsageError
from exsearch.core.registry import Registry
from exsearch.evaluation.metrics import exact_match, f1
from exsearch.questions.question import Question
from exsearch.runs.records import Iteration
from exsearch.runs.weighted import Weighted


@dataclass(frozen=True)
class Sample:
    """What a weighting knows about one answered trajectory.

    >>> sample = xs.Sample(-0.1, -0.05, -0.05, exact_match=1.0, f1=1.0, gain=None)
    >>> sample.logprob
    -0.1
    """

    logprob: float
    """log p(y | x, z) over the spellings of accepted answers, in nats."""
    mean_logprob: float
    """The highest log-probability of an alias per token of it, in nats."""
    alias_mean_logprob: float
    """The same without the model's own spelling of the answer."""
    exact_match: float
    f1: float
    gain: float | None
    """log p(y | x, z) - log p(y | x): the gain from evidence, in nats; None if the latter was not scored."""


Weighting = Callable[[list[Sample], float], list[float]]
"""Maps the samples of one question, and the temperature T, to weights; all zero skips the question."""


def _softmax(scores: list[float], temperature: float) -> list[float]:
    scaled = np.asarray(scores) / temperature
    weights = np.exp(scaled - scaled.max())
    normalised: list[float] = (weights / weights.sum()).tolist()
    return normalised


def _share(rewards: list[float]) -> list[float]:
    total = sum(rewards)
    return [reward / total for reward in rewards] if total > 0 else [0.0] * len(rewards)


WEIGHTINGS = Registry[Weighting](
    "weighting",
    {
        # The paper's: p(y | x, z_k)^(1/T), normalised over the samples of the question, in log space.
        "paper": lambda samples, t: _softmax([s.logprob for s in samples], t),
        # The same with the mean log-probability per token, so that long answers do not count as unlikely.
        "nll-mean": lambda samples, t: _softmax([s.mean_logprob for s in samples], t),
        "em": lambda samples, t: _share([s.exact_match for s in samples]),
        "f1": lambda samples, t: _share([s.f1 for s in samples]),
        # Rejection sampling: every right sample counts fully; not normalised.
        "rft": lambda samples, t: [s.exact_match for s in samples],
        # SearchLM's v1 branch: 4 exp(-mean NLL) of a gold answer as the tokenizer encodes it; not normalised.
        "reference-v1": lambda samples, t: [4 * math.exp(s.alias_mean_logprob) for s in samples],
        "uniform": lambda samples, t: [1 / len(samples)] * len(samples),
    },
    setting="weigh.weighting",
)


def weighting_of(config: WeighConfig) -> Weighting:
    """Return the weighting that the settings name, built-in or the user's own. Raises UsageError if there is none."""
    if config.weighting in WEIGHTINGS:
        return WEIGHTINGS[config.weighting]
    own = WEIGHTINGS.ours_or_own(config.weighting)
    if not callable(own):
        raise UsageError(f"weigh.weighting = {config.weighting}: not a function")

    def weighting(samples: list[Sample], temperature: float) -> list[float]:
        weights = [float(weight) for weight in own(samples, temperature)]
        if len(weights) != len(samples) or not all(0 <= weight < math.inf for weight in weights):
            raise UsageError(
                f"weigh.weighting = {config.weighting}: must return one number of 0 or more for each of "
                f"{len(samples)} samples, not {weights}"
            )
        return weights

    return weighting


UNNORMALISED = ("rft", "reference-v1")
TEMPERED = ("paper", "nll-mean")
"""Weightings that depend on T."""


def weigh(
    trajectories: Sequence[Trajectory], questions: Iterable[Question], config: WeighConfig = WeighConfig()
) -> list[Weighted]:
    """Weigh the trajectories of each question against each other; return one record each, in their order.

    Trajectories without an answer get weight 0, and so do those without room left in the context for a gold answer.
    Journals of earlier versions do not record how the model's own spelling of a right answer scored; they are weighed
    by the aliases only, as those versions did.
    Raises UsageError for a trajectory of an unknown question or one that occurs twice, for trajectories without scores
    or with scores of other answers, or if the weighting cannot be tempered to `target_ess`.

    >>> weights = xs.weigh(rollouts, questions, xs.WeighConfig(weighting="paper"))
    >>> [each.weight for each in weights]
    [0.5, 0.5]
    """
    checked(config, WeighConfig)
    if config.target_ess and config.weighting not in TEMPERED:
        raise UsageError(f"weigh.target_ess: {config.weighting!r} has no temperature; use one of {', '.join(TEMPERED)}")
    by_id = {question.id: question for question in questions}
    if trajectories and not by_id:
        raise UsageError("there are no questions; an iterator, such as World.questions returns, can be read only once")
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        if trajectory.question_id not in by_id:
            raise UsageError(f"trajectory of question {trajectory.question_id!r}, which is not among the questions")
        groups.setdefault(trajectory.question_id, []).append(trajectory)
    scored = any(trajectory.alias_scores for trajectory in trajectories)
    weighted = {
        (w.question_id, w.number): w
        for id_, group in groups.items()
        for w in _weigh_question(group, by_id[id_], config, scored)
    }
    if len(weighted) < len(trajectories):
        raise UsageError(_duplicate_message(trajectories))
    return [weighted[t.question_id, t.number] for t in trajectories]


def _duplicate_message(trajectories: Sequence[Trajectory]) -> str:
    """Return an error message about the trajectory that occurs most often."""
    [(label, _)] = Counter(t.label for t in trajectories).most_common(1)
    seeds = {t.seed for t in trajectories if t.label == label}
    if len(seeds) == 1:
        return (
            f"trajectory {label} occurs twice, drawn from one seed: two processes wrote to the journal at once; "
            "resume `exsearch explore` with its settings, which keeps one of each"
        )
    return (
        f"trajectory {label} occurs twice; samples of several explorations have the same names, so weigh "
        "each by itself, or explore more samples at once"
    )


def _weigh_question(group: list[Trajectory], question: Question, config: WeighConfig, scored: bool) -> list[Weighted]:
    # Without a gold answer there is nothing to weigh by: all weights are 0, and the question counts as skipped. Where
    # others have scores and one has none, no gold answer fitted into the context after it.
    answered = [
        t for t in group if t.stop_reason == StopReason.ANSWERED and question.answers and (t.alias_scores or not scored)
    ]
    samples = [_sample(t, question, config.alias) for t in answered]
    weights = _tempered(samples, config) if samples else []
    weights = _shared(weights, [t.share for t in answered], config.weighting in UNNORMALISED)
    factor = _gate(samples, config)
    weight_of = {t.number: w * factor for t, w in zip(answered, weights, strict=True)}
    sample_of = {t.number: s for t, s in zip(answered, samples, strict=True)}
    return [
        Weighted(
            question_id=question.id,
            sample=t.sample,
            logprob=sample_of[t.number].logprob if t.number in sample_of else None,
            exact_match=sample_of[t.number].exact_match if t.number in sample_of else 0.0,
            f1=sample_of[t.number].f1 if t.number in sample_of else 0.0,
            weight=weight_of.get(t.number, 0.0),
            target=_target(t, question) if t.number in sample_of else None,
            malformed=t.stop_reason == StopReason.MALFORMED,
            branch=t.branch,
        )
        for t in group
    ]


def _tempered(samples: list[Sample], config: WeighConfig) -> list[float]:
    """Return the weights at the configured T, or at the lowest higher T that reaches the target sample size."""
    weighting = weighting_of(config)
    weights = weighting(samples, config.temperature)
    target = min(config.target_ess, len(samples)) * (1 - 1e-6)
    if not config.target_ess or effective_sample_size(weights) >= target:
        return weights
    low = high = config.temperature
    while effective_sample_size(weighting(samples, high)) < target:
        low, high = high, 2 * high
    for _ in range(40):
        middle = math.sqrt(low * high)
        if effective_sample_size(weighting(samples, middle)) < target:
            low = middle
        else:
            high = middle
    return weighting(samples, high)


def _shared(weights: list[float], shares: list[float], unnormalised: bool) -> list[float]:
    """Multiply the weights of branches by their shares, so that the estimate is that of independent samples."""
    if all(share == 1 for share in shares):
        return weights
    shared = [weight * share for weight, share in zip(weights, shares, strict=True)]
    factor = 1.0 if unnormalised or not sum(shared) else sum(weights) / sum(shared)
    return [weight * factor for weight in shared]


def _sample(trajectory: Trajectory, question: Question, alias: str) -> Sample:
    if not trajectory.alias_scores:
        raise UsageError(f"trajectory {trajectory.label} has no alias_scores: explore it with gold answers")
    for score in trajectory.alias_scores:
        if not (question.accepts(score.alias) if score.said else score.alias in question.answers):
            raise UsageError(
                f"trajectory {trajectory.label} was scored with the answer {score.alias!r}, "
                "which its question does not have; use the question file that was explored"
            )
    answer, opening = trajectory.answer or "", trajectory.opening_logprob
    logprob = answer_logprob(trajectory.alias_scores, alias)
    means = {score: score.logprob / score.tokens for score in trajectory.alias_scores}
    return Sample(
        logprob=logprob,
        mean_logprob=max(means.values()),
        alias_mean_logprob=max((mean for score, mean in means.items() if not score.said), default=-math.inf),
        exact_match=exact_match(answer, question.answers),
        f1=f1(answer, question.answers),
        gain=None if opening is None else logprob - opening,
    )


def _gate(samples: list[Sample], config: WeighConfig) -> float:
    """Return the question's gate factor by its best p(y | x, z), and by its best gain if `gate_gain` is set."""
    if config.gate == "none" or not samples:
        return 1.0
    ratio = math.exp(max(sample.logprob for sample in samples)) / config.gate_probability
    if config.gate_gain:
        gain = max((sample.gain for sample in samples if sample.gain is not None), default=None)
        if gain is None:
            raise UsageError("weigh.gate_gain needs trajectories explored with explore.score_opening")
        ratio = min(ratio, math.exp(min(0.0, gain - config.gate_gain)))
    if config.gate == "damp":
        return min(1.0, ratio)
    return float(ratio >= 1)


def _target(trajectory: Trajectory, question: Question) -> str | None:
    """Return the alias to train the answer turn on, the likeliest; None if the model's own answer is right."""
    if question.accepts(trajectory.answer or ""):
        return None
    return max(trajectory.alias_scores, key=lambda score: score.logprob).alias


@dataclass(frozen=True)
class WeightSummary:
    """Statistics of the weights of an iteration."""

    questions: int
    skipped: int
    """Questions whose weights are all zero: none answered, or rejected by the weighting or the gate."""
    mean_answer_probability: float
    """Mean p(y | x, z) over all trajectories, 0 for those without an answer."""
    malformed: float | None
    """Share of the trajectories that ended as malformed; None for weights of an older version."""
    effective_sample_size: float
    """Mean of (sum w)^2 / sum w^2 over the questions that were not skipped, from 1 to K."""
    weight_entropy: float
    """Mean entropy of the normalised weights over the questions that were not skipped, in nats."""
    exact_match: float
    """Mean over all trajectories."""
    any_exact_match: float
    """Share of questions with at least one right sample."""

    def as_iteration(self, name: str) -> Iteration:
        """Return the record of an iteration of which only the E-step's figures are known."""
        return Iteration(
            name=name,
            questions=self.questions,
            skipped=self.skipped,
            mean_answer_probability=self.mean_answer_probability,
            malformed=self.malformed,
            effective_sample_size=self.effective_sample_size,
            weight_entropy=self.weight_entropy,
            sample_exact_match=self.exact_match,
            any_exact_match=self.any_exact_match,
        )


def summarise(weighted: Sequence[Weighted]) -> WeightSummary:
    """Summarise the weights of one iteration."""
    groups: dict[str, list[Weighted]] = {}
    for record in weighted:
        groups.setdefault(record.question_id, []).append(record)
    positive = [[w.weight for w in group] for group in groups.values() if sum(w.weight for w in group) > 0]
    malformed = [w.malformed for w in weighted if w.malformed is not None]
    return WeightSummary(
        questions=len(groups),
        skipped=len(groups) - len(positive),
        mean_answer_probability=_mean([0.0 if w.logprob is None else math.exp(w.logprob) for w in weighted]),
        malformed=_mean([float(one) for one in malformed]) if malformed else None,
        effective_sample_size=_mean([effective_sample_size(weights) for weights in positive]),
        weight_entropy=_mean([entropy(weights) for weights in positive]),
        exact_match=_mean([w.exact_match for w in weighted]),
        any_exact_match=_mean([max(w.exact_match for w in group) for group in groups.values()]),
    )


def effective_sample_size(weights: list[float]) -> float:
    """Return (sum w)^2 / sum w^2, the number of equally weighted samples that these are worth."""
    return sum(weights) ** 2 / sum(weight**2 for weight in weights)


def entropy(weights: list[float]) -> float:
    """Return the entropy of the normalised weights, in nats."""
    shares = [weight / sum(weights) for weight in weights]
    return -sum(share * math.log(share) for share in shares if share > 0)


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 5) if values else 0.0
