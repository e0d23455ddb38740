"""Bootstrap intervals: around the mean, the same every time, narrower with more questions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.evaluation.bootstrap import figure, paired_difference
from exsearch.evaluation.scores import Figure

outcomes = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=60)


@settings(max_examples=15)
@given(outcomes)
def test_the_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    found = figure(values)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert min(values) <= found.low <= found.mean <= found.high <= max(values)
    assert found.n == len(values)
    assert figure(values) == found


def test_the_interval_of_a_share_is_close_to_the_normal_one() -> None:
    found = figure([1.0] * 120 + [0.0] * 280)
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5
    assert found.mean == 0.3
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.005)


def test_no_values_have_no_interval() -> None:
    assert figure([]) == Figure(0.0, 0.0, 0.0, 0)


def test_equal_values_leave_no_doubt() -> None:
    assert figure([0.1] * 7) == Figure(0.1, 0.1, 0.1, 7)


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    before = [float(n % 2) for n in range(100)]
    after = [1.0 if n < 20 else value for n, value in enumerate(before)]
    found = paired_difference(before, after)
    assert found.mean == pytest.approx(0.1)
    assert found.low > 0
    assert figure(before).high > figure(after).low, "the intervals of the two overlap"
    assert paired_difference(after, before).mean == pytest.approx(-0.1)


def test_scores_of_different_questions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 0.0], [1.0])
