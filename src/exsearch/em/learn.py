"""M-step: turns weighted trajectories into the examples that the trainer learns from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import Trajectory
from exsearch.config import LearnConfig
from exsearch.core.errors import UsageError
from exsearch.runs.weighted import Weighted
from exsearch.training.example import Example, example_from


def refuse_unused(config: LearnConfig, *names: str) -> None:
    """Raise UsageError if one of these settings asks for something that only a whole run does."""
    usual = LearnConfig()
    if used := [f"learn.{name}" for name in names if getattr(config, name) != getattr(usual, name)]:
        raise UsageError(
            f"{', '.join(used)}: only a whole run (exsearch train) does this; leave them at their defaults here"
        )


def weighted_examples(
    trajectories: Iterable[Trajectory], weighted: Sequence[Weighted], chat: ChatFormat, config: LearnConfig
) -> list[Example]:
    """Return the examples of an M-step: trajectories of at least `config.min_weight`, each with its weight.

    The order is that of `weighted`, whatever the order of the trajectories, which is the one in which they ended.
    Samples of a question with equal tokens are learned once, with the sum of their weights: the gradient is the same
    and costs less. Raises UsageError if a trajectory has no weight, if a trajectory or weight occurs twice, or if the
    tokens are not the engine's own.
    """
    place = {(w.question_id, w.number): number for number, w in enumerate(weighted)}
    if len(place) < len(weighted):
        raise UsageError("the weights name a trajectory twice; use those of one exploration")
    examples_by_order: dict[int, Example] = {}
    numbers: set[int] = set()
    for trajectory in trajectories:
        name = f"trajectory {trajectory.label}"
        number = place.get((trajectory.question_id, trajectory.number))
        if number is None:
            raise UsageError(f"{name} has no weight")
        if number in numbers:
            raise UsageError(f"{name} occurs twice; use those of one exploration")
        numbers.add(number)
        if weighted[number].weight <= 0:
            continue
        if not trajectory.exact:
            raise UsageError(
                f"{name}: its token ids are not the engine's own, so training would not see what the model generated; "
                "explore with an engine that returns them, or set model.retokenise"
            )
        record = weighted[number]
        examples_by_order[number] = example_from(trajectory, record.weight, record.target, chat, config.step_credit)
    merged: dict[tuple[str, tuple[int, ...]], Example] = {}
    for number, example in sorted(examples_by_order.items()):
        key = (weighted[number].question_id, tuple(example.token_ids))
        if key in merged:
            example = replace(example, weight=merged[key].weight + example.weight)
        merged[key] = example
    return [example for example in merged.values() if example.weight >= config.min_weight]
