"""Packed examples: every example is whole in the tree, and what several begin with is there once."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exsearch.training.example import Example
from exsearch.training.packing.tree import MIN_SHARED, TargetToken, Tree, grow

BEGINNING = list(range(80))
sequences = st.builds(
    lambda common, middle, own: BEGINNING[:common] + [90] * middle + own,
    st.integers(0, 80),
    st.integers(0, 40),
    st.lists(st.integers(0, 99), min_size=1, max_size=20),
)


def example(ids: list[int], weight: float = 1.0) -> Example:
    return Example(ids, [position % 2 for position in range(len(ids))], len(ids) // 2, weight)


def path(tree: Tree, leaf: int) -> list[int]:
    """The places of a node's ancestors and its own, in order."""
    nodes = [tree.nodes[number] for number in (*tree.nodes[leaf].ancestors, leaf)]
    return [place for node in nodes for place in range(node.start, node.stop)]


def paths(tree: Tree) -> list[list[int]]:
    return [path(tree, number) for number in range(len(tree.nodes))]


@given(st.lists(sequences, min_size=1, max_size=8))
def test_every_example_is_a_path_of_the_tree(found: list[list[int]]) -> None:
    tree = grow([example(ids) for ids in found])
    spelled = {tuple(tree.token_ids[place] for place in places) for places in paths(tree)}
    assert all(tuple(ids) in spelled for ids in found)
    assert [node.start for node in tree.nodes] == [0, *(node.stop for node in tree.nodes[:-1])]
    assert tree.nodes[-1].stop == len(tree.token_ids) == len(tree.positions)
    for places in paths(tree):
        assert [tree.positions[place] for place in places] == list(range(len(places)))


@given(st.lists(sequences, min_size=1, max_size=8), st.floats(0.1, 2))
def test_every_loss_token_is_a_target_behind_the_token_before_it(found: list[list[int]], weight: float) -> None:
    examples = [example(ids, weight) for ids in found]
    tree = grow(examples)
    mass = weight * sum(one.loss_tokens() for one in examples)
    assert abs(sum(tree.targets.values()) - mass) < 1e-6 * max(mass, 1)
    for places in paths(tree):
        for before, place in pairwise(places):
            token, position = tree.token_ids[place], tree.positions[place]
            learned = any(TargetToken(before, token, answer) in tree.targets for answer in (True, False))
            assert learned == (position % 2 == 1)


def test_samples_of_a_question_share_what_they_begin_with() -> None:
    prompt, search = list(range(100)), list(range(100, 150))
    samples = [[*prompt, 1], [*prompt, *search, 2], [*prompt, *search, 3, 3]]
    tree = grow([example(ids) for ids in samples])
    assert len(tree.token_ids) == 100 + 50 + 4
    assert [node.depth for node in tree.nodes] == [0, 100, 100, 150, 150]
    assert [node.ancestors for node in tree.nodes] == [(), (0,), (0,), (0, 2), (0, 2)]


def test_too_little_in_common_is_not_shared() -> None:
    ids = list(range(MIN_SHARED - 1))
    assert len(grow([example([*ids, 50]), example([*ids, 51])]).nodes) == 2
    assert len(grow([example([*ids, 40, 50]), example([*ids, 40, 51])]).nodes) == 3


def test_equal_examples_are_computed_once_with_the_sum_of_their_weights() -> None:
    once = grow([example(BEGINNING, 0.75)])
    twice = grow([example(BEGINNING, 0.5), example(list(BEGINNING), 0.25)])
    assert twice == once
