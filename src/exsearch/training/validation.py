"""Examples held out of a training run: the loss on them, and the weights with the lowest loss."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from exsearch.config import TrainingConfig
from exsearch.core.errors import UsageError
from exsearch.core.messages import logger
from exsearch.core.seeds import derive_seed
from exsearch.core.trouble import probe
from exsearch.processes import compute
from exsearch.training.batches import micro_batches, packed_of_rank
from exsearch.training.example import Example
from exsearch.training.learners.learner import Learner
from exsearch.training.loss import LossSums
from exsearch.training.ranks.ranks import Ranks
from exsearch.training.resume import write_tensors


class Split(NamedTuple):
    """The examples of a training run."""

    learned: list[Example]
    held: list[Example]
    """To validate on."""


def hold_out(examples: list[Example], share: float, seed: int) -> Split:
    """Return the examples to learn from and those to validate on: all of a `share` of the questions, by the seed.

    Raises UsageError if one of the two would be empty.
    """
    if share == 0:
        return Split(examples, [])
    questions = sorted(
        {example.question_id for example in examples}, key=lambda question: derive_seed(seed, "validation", question)
    )
    held_out = set(questions[: round(share * len(questions))])
    if not 0 < len(held_out) < len(questions):
        raise UsageError(
            f"validation_share = {share} of {len(questions)} questions leaves {len(held_out)} to validate on and "
            f"{len(questions) - len(held_out)} to learn from"
        )
    learned = [example for example in examples if example.question_id not in held_out]
    return Split(learned, [example for example in examples if example.question_id in held_out])


def validation_loss(learner: Learner, held_out: list[Example], config: TrainingConfig, ranks: Ranks) -> float:
    """Return the weighted mean loss per token of the held-out examples, in nats; each rank computes its share."""
    parts = micro_batches(held_out, config.micro_batch_tokens, packing=learner.packing)
    packed = packed_of_rank(parts, ranks, learner.packing)
    sums = []
    for part in packed:
        compute.check()
        sums.append(learner.measure(part))
    return LossSums(*ranks.sum(torch.stack(sums).sum(dim=0)).tolist()).per_token()["loss"]


class Best(msgspec.Struct, frozen=True):
    """The step at which the validation loss was lowest."""

    step: int
    loss: float


def keep_if_best(file: Path, step: int, loss: float, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Write the weights of a step to `file` if its loss is lower than at all earlier steps."""
    best = read_best(file)
    if best is not None and best.loss <= loss:
        return
    write_tensors(file, weights, {"best": msgspec.json.encode(Best(step, loss)).decode()})


def read_best(file: Path) -> Best | None:
    """Return the step whose weights are in `file`; None if it does not exist or is torn."""
    try:
        probe(file)  # safetensors reports any file that cannot be opened as missing
        with safe_open(file, framework="pt") as opened:
            return msgspec.json.decode(opened.metadata()["best"], type=Best)
    except FileNotFoundError:
        return None
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError):
        logger.warning(f"  {file.name}: damaged best weights skipped")
        return None
