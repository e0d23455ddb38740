"""Examples packed as a tree: tokens at which several examples begin alike are computed once.

The samples of a question share its prompt and often their first searches, and all questions share the instruction. A
token's hidden state depends only on the tokens before it, so a shared beginning has one hidden state, and the loss
after it is summed over its examples. The gradient equals that of separate examples.
"""

from collections import defaultdict
from dataclasses import dataclass

from exsearch.core.tokens import common_start
from exsearch.training.example import Example

MIN_SHARED = 16
"""Minimum number of tokens of a shared run; a node for a shorter one would cost more than it saves."""


@dataclass(frozen=True)
class Node:
    """A run of tokens that belongs to the same examples."""

    start: int
    stop: int
    """Its tokens are `token_ids[start:stop]` of the tree."""
    depth: int
    """Number of tokens before it in each of its examples."""
    ancestors: tuple[int, ...]
    """Numbers of the nodes with those tokens, from the root."""


@dataclass(frozen=True)
class TargetToken:
    """Loss at a token: the model should predict another one next."""

    place: int
    """Position of the token before it in the tree's `token_ids`."""
    token: int
    is_answer: bool


@dataclass(frozen=True)
class Tree:
    """Packed examples. Nodes are in the order of their tokens, each after its ancestors."""

    token_ids: list[int]
    positions: list[int]
    """Position of each token in its examples."""
    nodes: list[Node]
    targets: dict[TargetToken, float]
    """Targets, each with the sum of the weights that the examples give the token."""


def grow(examples: list[Example]) -> Tree:
    """Pack examples into one tree."""
    tree = Tree([], [], [], {})
    places: dict[int, list[int]] = {id(example): [] for example in examples}
    _add(tree, examples, 0, (), places)
    sums: dict[TargetToken, float] = defaultdict(float)
    for example in examples:
        path = places[id(example)]
        for position in range(1, len(example.token_ids)):
            if example.loss_mask[position]:
                answer = position >= example.answer_start
                sums[TargetToken(path[position - 1], example.token_ids[position], answer)] += example.token_weight(
                    position
                )
    tree.targets.update(sums)
    return tree


def _add(
    tree: Tree, examples: list[Example], depth: int, ancestors: tuple[int, ...], places: dict[int, list[int]]
) -> None:
    """Add the tokens from `depth` on of examples whose earlier tokens are equal."""
    groups: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        if len(example.token_ids) > depth:
            groups[example.token_ids[depth]].append(example)
    for group in groups.values():
        stop = common_tokens(group)
        shared = stop - depth >= MIN_SHARED
        for part, end in [(group, stop)] if shared else [([one], len(one.token_ids)) for one in group]:
            start = len(tree.token_ids)
            node = Node(start, start + end - depth, depth, ancestors)
            tree.nodes.append(node)
            tree.token_ids.extend(part[0].token_ids[depth:end])
            tree.positions.extend(range(depth, end))
            for example in part:
                places[id(example)].extend(range(node.start, node.stop))
            _add(tree, part, end, (*ancestors, len(tree.nodes) - 1), places)


def common_tokens(examples: list[Example]) -> int:
    """Return the length of the longest common prefix of all examples."""
    sequences = [example.token_ids for example in examples]
    return common_start(
        min(sequences), max(sequences)
    )  # what the first and last in sorted order share, all between them share
