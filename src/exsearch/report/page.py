"""What report.html embeds: the typed content of its JSON block.

To save space, `Model.scores`, `Model.trajectories` and `Paired.outcomes` are parallel to `Page.questions`, and hits
point into `Page.passages`.
"""

from typing import Literal

import msgspec

from exsearch.agent.trajectory import AliasScore
from exsearch.evaluation.compare import Difference, Group
from exsearch.evaluation.scores import Figure
from exsearch.questions.question import Question
from exsearch.runs.records import Comparison, Iteration


class PageStep(msgspec.Struct, frozen=True):
    """One search of a trajectory."""

    query: str
    hits: list[tuple[int, float]]
    """Index into Page.passages, and the retriever's score."""
    evidence: str | None


class PageTrajectory(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trajectory without its tokens."""

    sample: int
    stop_reason: str
    steps: list[PageStep]
    answer: str | None = None
    logprob: float | None = None
    """log p(y | x, z) over all aliases, in nats."""
    aliases: list[AliasScore] = []
    tokens: int = 0
    own_tokens: int = 0
    """Those the model generated."""
    own_logprob: float | None = None
    """Sum over the model's own tokens, in nats."""
    shortened: int = 0
    branch: int = 0
    """0 for the sample itself, n for its n-th branch."""
    share: float = 1.0
    """Its part of the sample: one over the number of continuations drawn where it branches off."""


class Score(msgspec.Struct, frozen=True):
    """The figures of one question."""

    em: float
    f1: float
    recall: float | None
    searches: int
    stop_reason: str


class Model(msgspec.Struct, frozen=True):
    """One evaluated model or baseline."""

    name: str
    trained: bool
    """A point of the training curve, not a baseline beside it."""
    protocol: str | None
    figures: dict[str, Figure]
    validation: Figure | None
    """Exact match on the validation questions."""
    train_probability: Figure | None
    """p(y | x, z) on a fixed set of training questions, greedy, 0 where there is no answer."""
    stop_reasons: dict[str, int]
    by_hops: dict[str, Figure]
    """Exact match."""
    f1_by_hops: dict[str, Figure]
    searches: dict[str, int]
    """Questions by number of searches."""
    scores: list[Score | None]
    trajectories: list[PageTrajectory | None]


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the K trajectories of a question, with its weight once it has one."""

    trajectory: PageTrajectory
    weight: float | None = None
    logprob: float | None = None
    em: float | None = None
    f1: float | None = None
    target: str | None = None


class Explored(msgspec.Struct, frozen=True):
    """A training question with its samples."""

    question: Question
    samples: list[Sample]
    ess: float | None
    """Effective sample size; None for a question without weight."""


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]` values lie in [edges[i], edges[i + 1]), the last bin being closed."""

    edges: list[float]
    counts: list[int]


class EStep(msgspec.Struct, frozen=True):
    """The E-step of one iteration."""

    name: str
    k: int
    """The largest number of samples of a question."""
    largest: int
    """The largest number of trajectories of a question: its samples and their branches."""
    total: int
    """Questions in the run; `explored` may hold fewer."""
    explored: list[Explored]
    weights: Histogram | None
    top_weight: float
    """The end of the weights' scale: 1, or more for a weighting that is not normalised."""
    zero_weights: int
    ess: Histogram | None
    skipped: int
    """Questions whose weights are all 0."""


class LossCurve(msgspec.Struct, frozen=True):
    """The losses of one training stage."""

    stage: str
    step: list[float]
    loss: list[float | None]
    search_loss: list[float | None]
    answer_loss: list[float | None]
    averaged: int
    """How many logged steps one point is the mean of."""


class Paired(msgspec.Struct, frozen=True):
    """The second model of the page against the first, by question."""

    metric: str
    """By which questions are won, lost and sorted."""
    n: int
    wins: int
    losses: int
    ties: int
    differences: list[Difference]
    breakdowns: dict[str, list[Group]]
    outcomes: list[Literal["win", "loss", "tie"] | None]
    """None where one of the two has no such figure."""


class Page(msgspec.Struct, frozen=True):
    """Everything the page shows."""

    kind: Literal["run", "evaluation", "comparison"]
    title: str
    fingerprint: str | None
    best: str | None
    comparison: Comparison | None
    paired: Paired | None
    iterations: list[Iteration]
    seconds: dict[str, float]
    split_sizes: dict[str, int]
    models: list[Model]
    questions: list[Question]
    e_steps: list[EStep]
    losses: list[LossCurve]
    passages: list[tuple[str, str, str]]
    """Id, title, text."""
    config: list[tuple[str, str]]
    protocol: list[tuple[str, str]]
    warnings: list[str]
    """What keeps the figures from being compared."""
    notices: list[str]
    """What is absent or was left out."""
