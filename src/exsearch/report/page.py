"""The typed content of the JSON block that report.html embeds.

To save space, `Model.scores`, `Model.trajectories` and `Paired.outcomes` are parallel to `Page.questions`, and hits
refer to rows of `Page.passages`.
"""

from typing import Literal

import msgspec

from exsearch.agent.trajectory import AliasScore
from exsearch.evaluation.compare import Difference, Group
from exsearch.evaluation.scores import Figure
from exsearch.questions.question import Question
from exsearch.runs.records import ExactMatchDifference, Iteration


class PageStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One search of a trajectory."""

    query: str
    hits: list[tuple[int, float]]
    """Index into Page.passages, and the retriever's score."""
    evidence: str | None
    selected: list[int] | None = None
    """Ranks of the hits that the model selected; None in grammars without selection."""


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
    """Tokens that the model generated."""
    own_logprob: float | None = None
    """Sum over the model's own tokens, in nats."""
    shortened: int = 0
    branch: int = 0
    """0 for the sample itself, n for its n-th branch."""
    share: float = 1.0
    """Its share of the sample: one over the number of continuations drawn at its branching point."""


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
    """Whether it is a point of the training curve rather than a baseline."""
    protocol: str | None
    figures: dict[str, Figure]
    validation: Figure | None
    """Exact match on the validation questions."""
    train_probability: Figure | None
    """p(y | x, z) on a fixed set of training questions, greedy, 0 without an answer."""
    stop_reasons: dict[str, int]
    by_hops: dict[str, Figure]
    """Exact match."""
    f1_by_hops: dict[str, Figure]
    searches: dict[str, int]
    """Questions by number of searches."""
    scores: list[Score | None]
    trajectories: list[PageTrajectory | None]


class PageSample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the K trajectories of a question, with its weight if it has one yet."""

    trajectory: PageTrajectory
    weight: float | None = None
    logprob: float | None = None
    em: float | None = None
    f1: float | None = None
    target: str | None = None


class Explored(msgspec.Struct, frozen=True):
    """A training question with its samples."""

    question: Question
    samples: list[PageSample]
    ess: float | None
    """Effective sample size; None for a question whose weights are all 0."""


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]` values are in [edges[i], edges[i + 1]); the last bin is closed."""

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
    """Number of questions in the run; `explored` may have fewer."""
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
    """Number of logged steps averaged per point."""


class Paired(msgspec.Struct, frozen=True):
    """The second model of the page compared with the first, by question."""

    metric: str
    """The metric by which questions are wins, losses or ties, and sorted."""
    n: int
    wins: int
    losses: int
    ties: int
    differences: list[Difference]
    breakdowns: dict[str, list[Group]]
    outcomes: list[Literal["win", "loss", "tie"] | None]
    """None if one of the two lacks the metric for the question."""


class Page(msgspec.Struct, frozen=True):
    """Everything the page shows."""

    kind: Literal["run", "evaluation", "comparison"]
    title: str
    fingerprint: str | None
    best: str | None
    comparison: ExactMatchDifference | None
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
    """Reasons why the figures are not comparable."""
    notices: list[str]
    """What is absent or omitted."""
