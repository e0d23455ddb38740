"""M-step: from weighted trajectories to the examples that the trainer learns from."""

from collections.abc import Iterable

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.em.weighted import Weighted
from exsearch.errors import UsageError
from exsearch.training.example import Example, example_from


def weighted_examples(
    trajectories: Iterable[Trajectory], weighted: list[Weighted], chat: ChatFormat, min_weight: float
) -> list[Example]:
    """Return the examples of an M-step: trajectories of at least `min_weight`, each with its weight.

    Samples of a question with equal tokens are learned once, with the sum of their weights: the gradient is the
    same and costs less. Raises UsageError if a trajectory has no weight.
    """
    weight_of = {(w.question_id, w.sample): w for w in weighted}
    merged: dict[tuple[str, tuple[int, ...]], Example] = {}
    for trajectory in trajectories:
        record = weight_of.get((trajectory.question_id, trajectory.sample))
        if record is None:
            raise UsageError(f"trajectory {trajectory.question_id}/{trajectory.sample} has no weight")
        if record.weight <= 0:
            continue
        example = example_from(trajectory, record.weight, record.target, chat)
        key = (trajectory.question_id, tuple(example.token_ids))
        if key in merged:
            same = merged[key]
            example = Example(same.token_ids, same.loss_mask, same.answer_start, same.weight + record.weight)
        merged[key] = example
    return [example for example in merged.values() if example.weight >= min_weight]
