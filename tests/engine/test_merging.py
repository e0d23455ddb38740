"""Which segments are merged: few are left, and rows are rewritten few times."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exsearch.core.merging import FAN_IN, segments_to_merge

sizes = st.lists(st.integers(1, 3000), max_size=60)


def merged(sizes: list[int], largest: int) -> list[int]:
    left: list[int] = []
    done = 0
    for run in segments_to_merge(sizes, largest):
        left += [*sizes[done : run.start], sum(sizes[run.start : run.stop])]
        done = run.stop
    return left + sizes[done:]


@given(sizes, st.integers(1, 4000))
def test_runs_of_neighbours_are_merged_into_none_too_large_and_nothing_remains_to_merge(
    sizes: list[int], largest: int
) -> None:
    runs = segments_to_merge(sizes, largest)
    assert all(len(run) > 1 for run in runs)
    assert all(one.stop <= other.start for one, other in pairwise(runs))
    assert all(sum(sizes[run.start : run.stop]) <= largest for run in runs)
    left = merged(sizes, largest)
    assert sum(left) == sum(sizes)
    assert segments_to_merge(left, largest) == []


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300))
def test_additions_leave_few_segments_and_each_row_is_rewritten_few_times(additions: list[int]) -> None:
    segments: list[int] = []
    rewritten = 0
    for size in additions:
        segments.append(size)
        rewritten += sum(sum(segments[run.start : run.stop]) for run in segments_to_merge(segments, 1 << 40))
        segments = merged(segments, 1 << 40)
        tiers = int(math.log(sum(segments), FAN_IN)) + 1
        assert len(segments) <= (FAN_IN - 1) * tiers
    assert rewritten <= 2 * sum(additions) * (int(math.log(sum(additions), FAN_IN)) + 1)


def test_what_is_full_is_not_rewritten_and_what_is_large_not_for_a_few_small_ones() -> None:
    assert segments_to_merge([100] * 9 + [30], 100) == []
    assert segments_to_merge([1000, 1, 1, 1], 4000) == []
    assert segments_to_merge([1000, 1, 1, 1, 1], 4000) == [range(1, 5)]
    assert segments_to_merge([1] * 150, 1 << 17) == [range(150)]
    assert segments_to_merge([], 10) == []
