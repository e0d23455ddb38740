"""Assigns examples to optimiser steps, and divides a step's examples into parts that fit into memory."""

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from exsearch.core.seeds import derive_seed
from exsearch.training.example import Example
from exsearch.training.loss import Packed, Packing
from exsearch.training.packing.rows import line_up
from exsearch.training.packing.tree import MIN_SHARED, common_tokens, grow
from exsearch.training.ranks.ranks import Ranks


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the number of optimiser steps of one pass over `count` examples."""
    return -(-count // batch_size)


def batch_of_step(examples: list[Example], step: int, batch_size: int, seed: int) -> list[Example]:
    """Return the examples of optimiser step `step`, counted from 0 over all epochs.

    Each epoch is a new shuffle that depends only on the seed and the epoch, so a resumed run sees the same order.
    """
    epoch, batch = divmod(step, steps_per_epoch(len(examples), batch_size))
    order = list(range(len(examples)))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
    return [examples[index] for index in order[batch * batch_size : (batch + 1) * batch_size]]


def micro_batches(
    batch: list[Example], max_tokens: int, multiple: int = 1, packing: Packing = "tree"
) -> list[list[Example]]:
    """Divide a batch into parts of similar size, each of at most `max_tokens` tokens to compute, or of a single
    example.

    Examples that begin alike stay together, since a shared beginning is computed once. The number of parts is the one
    that `max_tokens` requires, rounded up to a multiple of `multiple`, so that each rank has equally many; or fewer, if
    that would cost more. Rows are padded to the longest, which counts, and are grouped by length.
    """
    if packing == "single":
        return [[example] for example in batch]
    if packing == "rows":
        return _cut_rows(batch, max_tokens, multiple)
    ordered = sorted(batch, key=lambda example: example.token_ids)
    shared = [0, *(_shared(a, b) for a, b in pairwise(ordered))]

    def cut(limit: int) -> list[list[Example]]:
        parts: list[list[Example]] = []
        room = 0
        for example, same in zip(ordered, shared, strict=True):
            length = len(example.token_ids)
            if parts and length - same <= room:
                room -= length - same
                parts[-1].append(example)
            else:
                room = limit - length
                parts.append([example])
        return parts

    count = -(-len(cut(max_tokens)) // multiple) * multiple
    even = bisect_left(range(max_tokens), True, key=lambda limit: len(cut(limit)) <= count)
    return cut(even)


def _cut_rows(batch: list[Example], max_tokens: int, multiple: int) -> list[list[Example]]:
    """Divide a batch into parts of at most `max_tokens` tokens, padding included, longest examples first."""
    ordered = sorted(batch, key=lambda example: (-len(example.token_ids), example.token_ids))

    def cut(limit: int) -> list[list[Example]]:
        parts: list[list[Example]] = []
        for example in ordered:
            if parts and (len(parts[-1]) + 1) * len(parts[-1][0].token_ids) <= limit:
                parts[-1].append(example)
            else:
                parts.append([example])
        return parts

    count = -(-len(cut(max_tokens)) // multiple) * multiple
    return cut(bisect_left(range(max_tokens), True, key=lambda limit: len(cut(limit)) <= count))


def packed_of_rank(parts: list[list[Example]], ranks: Ranks, packing: Packing = "tree") -> list[Packed]:
    """Return what this rank computes of a batch that is divided into parts.

    All ranks run the same number of forward passes, because each ends in a collective. A rank without work repeats its
    first part with weight 0.
    """
    rounds = -(-len(parts) // ranks.count)
    places = range(ranks.rank, rounds * ranks.count, ranks.count)
    pack: Callable[[list[Example]], Packed] = grow if packing == "tree" else line_up
    return [pack(parts[place]) if place < len(parts) else _idle(pack(parts[0])) for place in places]


def _idle(packed: Packed) -> Packed:
    return replace(packed, targets=dict.fromkeys(packed.targets, 0.0))


def _shared(a: Example, b: Example) -> int:
    """Return the number of tokens with which both examples begin, 0 if they are too few to be shared."""
    same = common_tokens([a, b])
    return same if same >= MIN_SHARED else 0
