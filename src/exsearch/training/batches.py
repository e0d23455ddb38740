"""Which examples make up which optimiser step, and how a step is cut to fit into memory."""

import random

from exsearch.engine.sampling import derive_seed
from exsearch.training.example import Example


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of optimiser steps of one pass over `count` examples."""
    return -(-count // batch_size)


def batch_of_step(examples: list[Example], step: int, batch_size: int, seed: int) -> list[Example]:
    """Return the examples of optimiser step `step`, counted from 0 over all epochs.

    Each epoch is a new shuffle that depends on the seed and the epoch alone, so a resumed run sees the same order.
    """
    epoch, batch = divmod(step, steps_per_epoch(len(examples), batch_size))
    order = list(range(len(examples)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
    return [examples[index] for index in order[batch * batch_size : (batch + 1) * batch_size]]


def micro_batches(batch: list[Example], max_tokens: int) -> list[list[Example]]:
    """Cut a batch into runs of similar length of at most `max_tokens` padded tokens each, one example at least."""
    cut: list[list[Example]] = []
    for example in sorted(batch, key=lambda e: len(e.token_ids), reverse=True):
        if not cut or len(cut[-1][0].token_ids) * (len(cut[-1]) + 1) > max_tokens:
            cut.append([])
        cut[-1].append(example)
    return cut
