"""Bins of quantiles: their width, their order, and whole columns."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.windows.quantile_bins import bin_of, bins_of, midpoint, rank_of

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_a_midpoint_is_within_one_in_128(value):
    middle = midpoint(bin_of(value))
    assert abs(Fraction(middle) - Fraction(value)) <= abs(Fraction(value)) / 128
    assert bin_of(middle) == bin_of(value)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_bins_are_in_the_order_of_the_values(one, other):
    if one <= other:
        assert bin_of(one) <= bin_of(other) < bin_of(math.nan)
    assert bin_of(-one) == -bin_of(one)


def test_zero_infinities_and_nan_have_bins_of_their_own():
    assert [midpoint(bin_of(value)) for value in (0.0, -0.0, math.inf, -math.inf)] == [0.0, 0.0, math.inf, -math.inf]
    assert math.isnan(midpoint(bin_of(math.nan)))
    assert len({bin_of(value) for value in (0.0, 5e-324, -5e-324, math.inf, 1.7976931348623157e308)}) == 5


def test_the_bins_that_are_stored_stay_what_they_are():
    assert [bin_of(value) for value in (5e-324, 1.0, 1.5, 2.0, -3.3)] == [1, 68737, 68769, 68801, -68842]


@given(st.lists(st.floats(), min_size=1))
def test_whole_columns_have_the_bins_of_their_values(values):
    assert bins_of(np.array(values)).tolist() == [bin_of(value) for value in values]


def test_the_rank_of_a_quantile():
    assert [rank_of(q, 10) for q in (0.0, 0.1, 0.5, 0.51, 1.0)] == [1, 1, 5, 6, 10]
    # in doubles: 0.1 · 3 is 0.30000000000000004
    assert rank_of(0.1 * 3, 10) == 4
