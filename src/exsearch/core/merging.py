"""Decides which segments to merge, so that many small additions leave few segments and each row is rewritten rarely.

A segment with 4^t to 4^(t+1) - 1 rows has tier t. Segments are in the order of their rows and only neighbours are
merged, so the list is divided into steps: the first step goes up to the last segment of the highest tier, the second
from there to the last segment of the highest remaining tier, and so on. A step of at least four segments is merged into
one of a higher tier. So there are at most three segments per tier, besides those that are too large to be merged: n
additions of one row leave at most 3 log4(n) + 3 segments, and rewrite each row about log4(n) times.
"""

from collections.abc import Sequence
from itertools import accumulate

FAN_IN = 4
"""Number of segments in a step from which they are merged. With more, rows are rewritten less, and more segments stay.
"""


def segments_to_merge(sizes: Sequence[int], largest: int) -> list[range]:
    """Return what to merge: runs of neighbours, by their numbers, in order; none of more than `largest` rows.

    A run has at least two members. After all these merges, no further merge is needed.
    """
    groups = [range(number, number + 1) for number in range(len(sizes))]
    before = [0, *accumulate(sizes)]
    while True:
        totals = [before[group.stop] - before[group.start] for group in groups]
        merged = [
            range(groups[run.start].start, groups[run.stop - 1].stop)
            for step in _steps(totals)
            for run in (_runs(totals, step, largest) if len(step) >= FAN_IN else _singles(step))
        ]
        if len(merged) == len(groups):
            return [group for group in groups if len(group) > 1]
        groups = merged


def _steps(sizes: Sequence[int]) -> list[range]:
    """Return the steps, each as a range of numbers."""
    steps: list[range] = []
    stop, highest = len(sizes), -1
    for number in reversed(range(len(sizes))):
        if (tier := _tier(sizes[number])) > highest:
            if highest >= 0:
                steps.append(range(number + 1, stop))
                stop = number + 1
            highest = tier
    return [*([range(stop)] if sizes else []), *reversed(steps)]


def _runs(sizes: Sequence[int], step: range, largest: int) -> list[range]:
    """Divide a step into runs of at most `largest` rows, each as long as possible."""
    runs: list[range] = []
    total = 0
    for number in step:
        total += sizes[number]
        if runs and total <= largest:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
            total = sizes[number]
    return runs


def _singles(step: range) -> list[range]:
    return [range(number, number + 1) for number in step]


def _tier(size: int) -> int:
    return (size.bit_length() - 1) // 2
