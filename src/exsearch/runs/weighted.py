"""A trajectory's weight among the samples of its question."""

from exsearch.agent.trajectory import Numbered


class Weighted(Numbered, frozen=True):
    """One JSON line of weights.jsonl; the trajectory itself stays in trajectories.jsonl.

    >>> [(each.question_id, each.sample, each.weight) for each in xs.weigh(rollouts, questions)]
    [('q1', 0, 0.5), ('q1', 1, 0.5)]
    """

    question_id: str
    sample: int
    logprob: float | None
    """log p(y | x, z) over the aliases, in nats; None if the trajectory has no answer turn."""
    exact_match: float
    """Whether the model's own answer is right: 0 or 1."""
    f1: float
    weight: float
    """Sums to 1 over a question's samples, or to the gate's factor, or to 0 for a skipped question; `rft` and
    `reference-v1` are not normalised."""
    target: str | None
    """Gold alias that the answer turn is trained on."""
    malformed: bool | None = None
    """Whether the trajectory ended as malformed; None in older files."""
    branch: int = 0
    """0 for the sample itself, n for its n-th branch."""
