"""What the trainer learns from: tokens, which of them carry loss, and the weight of the whole."""

from dataclasses import dataclass

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory


@dataclass(frozen=True)
class Example:
    """One weighted trajectory."""

    token_ids: list[int]
    loss_mask: list[int]
    answer_start: int
    """Loss tokens before this index belong to log p(z | x), those from it on to log p(y | x, z)."""
    weight: float = 1.0

    def loss_tokens(self) -> int:
        """Return how many tokens carry loss; a first token cannot, since nothing predicts it."""
        return sum(self.loss_mask[1:])


def example_from(trajectory: Trajectory, weight: float, target: str | None, chat: ChatFormat) -> Example:
    """Return the example that teaches a trajectory and the answer `target`; None keeps the model's own answer.

    The trajectory's tokens are taken as they are, never re-tokenised.
    """
    start = trajectory.answer_start
    if start is None:
        raise ValueError(f"{trajectory.question_id}/{trajectory.sample}: a trajectory without an answer turn")
    if target is None:
        return Example(trajectory.token_ids, trajectory.loss_mask, start, weight)
    answer = [*chat.encode(target), chat.stop_id]
    ids = trajectory.token_ids[:start] + answer
    return Example(ids, trajectory.loss_mask[:start] + [1] * len(answer), start, weight)
