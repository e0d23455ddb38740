"""Which examples make up which optimiser step, and how a step is cut to fit into memory."""

import random
from bisect import bisect_left
from itertools import pairwise

from exsearch.engine.sampling import derive_seed
from exsearch.training.example import Example
from exsearch.training.ranks import Ranks
from exsearch.training.tree import MIN_SHARED, Tree, common_tokens, grow


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


def micro_batches(batch: list[Example], max_tokens: int, multiple: int = 1) -> list[list[Example]]:
    """Cut a batch into parts of at most `max_tokens` tokens to compute, one example at least, and of similar sizes.

    Examples that begin alike stay together, since what they share is computed once. There are as many parts as
    `max_tokens` asks for, rounded up to a multiple of `multiple`, so that each rank has as many; or fewer, if that
    would cost more.
    """
    ordered = sorted(batch, key=lambda example: example.token_ids)
    shared = [0, *(_shared(a, b) for a, b in pairwise(ordered))]

    def cut(limit: int) -> list[list[Example]]:
        parts: list[list[Example]] = []
        left = 0
        for example, same in zip(ordered, shared, strict=True):
            length = len(example.token_ids)
            if parts and length - same <= left:
                left -= length - same
                parts[-1].append(example)
            else:
                left = limit - length
                parts.append([example])
        return parts

    count = -(-len(cut(max_tokens)) // multiple) * multiple
    even = bisect_left(range(max_tokens), True, key=lambda limit: len(cut(limit)) <= count)
    return cut(even)


def trees_of_rank(parts: list[list[Example]], ranks: Ranks) -> list[Tree]:
    """Return what this rank computes of a batch that is cut into parts.

    Every rank makes as many passes as any other, since they meet in each: who has no part left repeats the first one
    with weight 0.
    """
    rounds = -(-len(parts) // ranks.count)
    places = range(ranks.rank, rounds * ranks.count, ranks.count)
    return [grow(parts[place]) if place < len(parts) else _idle(grow(parts[0])) for place in places]


def _idle(tree: Tree) -> Tree:
    return Tree(tree.token_ids, tree.positions, tree.nodes, dict.fromkeys(tree.targets, 0.0))


def _shared(a: Example, b: Example) -> int:
    """Return how many tokens two examples begin with, if they are enough to be shared."""
    same = common_tokens([a, b])
    return same if same >= MIN_SHARED else 0
