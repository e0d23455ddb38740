"""Training examples: tokens, which of them carry loss, and the weight of the whole."""

import math
from dataclasses import dataclass
from itertools import pairwise

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammars.registry import is_one_turn
from exsearch.agent.trajectory import Trajectory
from exsearch.core.errors import UsageError


@dataclass(frozen=True)
class Example:
    """One weighted trajectory."""

    token_ids: list[int]
    loss_mask: list[int]
    answer_start: int
    """Loss tokens before this index belong to log p(z | x), those from it on to log p(y | x, z)."""
    weight: float = 1.0
    credits: list[float] | None = None
    """Factor of each token's loss, if turns count differently."""
    question_id: str = ""
    """Its question; examples of one question are either all trained on or all validated on."""

    def token_weight(self, position: int) -> float:
        """Return the weight of a token."""
        return self.weight if self.credits is None else self.weight * self.credits[position]

    def loss_tokens(self) -> int:
        """Return the number of tokens that carry loss; a first token cannot, since nothing predicts it."""
        return sum(self.loss_mask[1:])


def example_from(
    trajectory: Trajectory, weight: float, target: str | None, chat: ChatFormat, step_credit: float = 0.0
) -> Example:
    """Return the example that teaches a trajectory and the answer `target`; None keeps the model's own answer.

    The trajectory's tokens are used as they are, never re-tokenised. With `step_credit`, the turns before the answer
    are weighted by their gain: see `turn_credits`. Raises UsageError for a target if the answer is within a turn, as in
    grammars with stop strings.
    """
    start = trajectory.answer_start
    if start is None:
        raise ValueError(f"{trajectory.label}: a trajectory without an answer turn")
    ids, mask = trajectory.token_ids, trajectory.loss_mask
    if target is not None:
        if start and mask[start - 1] and is_one_turn(trajectory.grammar):
            raise UsageError(
                f"trajectory {trajectory.label}: its answer is within a turn, so that no "
                "gold answer can replace it; weigh with rft or em"
            )
        answer = chat.answer_ids(target, after_thought=bool(start and mask[start - 1]))
        ids, mask = ids[:start] + answer, mask[:start] + [1] * len(answer)
    if not step_credit:
        return Example(ids, mask, start, weight, None, trajectory.question_id)
    turns = turn_credits(trajectory, step_credit)
    credits, turn = [1.0] * len(ids), -1
    for position in range(start):
        if mask[position]:
            turn += not mask[position - 1]
            if turn < len(turns):  # thoughts before the answer are not a separate turn
                credits[position] = turns[turn]
    return Example(ids, mask, start, weight, credits, trajectory.question_id)


def turn_credits(trajectory: Trajectory, step_credit: float) -> list[float]:
    """Return the factor of each turn before the answer, one on average: the softmax of `step_credit` times its gain.

    The gain of a turn is the rise, in nats, of log p(y | x, ...) from before the search that it makes to after the fact
    recorded from it; the last turn, which makes none, has that of the last search. Raises UsageError for a trajectory
    whose steps were not scored.
    """
    after = [step.answer_logprob for step in trajectory.steps]
    if trajectory.opening_logprob is None or None in after:
        name = f"{trajectory.label}"
        raise UsageError(f"trajectory {name}: learn.step_credit needs trajectories explored with explore.score_steps")
    scores = [trajectory.opening_logprob, *(value for value in after if value is not None)]
    gains = [new - old for old, new in pairwise(scores)]
    exponents = [step_credit * gain for gain in [*gains, *gains[-1:]]]
    shares = [math.exp(exponent - max(exponents)) for exponent in exponents]
    return [share * len(shares) / sum(shares) for share in shares]
