import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.freshness import Freshness, FreshnessFunction, exponential, linear

AGES = st.floats(-1e15, 1e15)
SPANS = st.floats(1, 1e12)


def test_linear_falls_to_nothing_at_the_sla() -> None:
    assert [linear(age, 100) for age in (-5, 0, 25, 100, 1_000)] == [1.0, 1.0, 0.75, 0.0, 0.0]


def test_an_sla_of_nothing_leaves_only_the_new_fresh() -> None:
    assert [linear(age, 0) for age in (-1, 0, 1)] == [1.0, 1.0, 0.0]
    assert linear(np.array([-1, 0, 1]), 0).tolist() == [1.0, 1.0, 0.0]


def test_exponential_halves_with_each_half_life() -> None:
    assert [exponential(age, 100) for age in (-5, 0, 100, 200)] == [1.0, 1.0, 0.5, 0.25]


@settings(deadline=None)
@given(st.lists(AGES, min_size=1), SPANS)
def test_columns_agree_with_scalars_and_stay_between_0_and_1(ages: list[float], span: float) -> None:
    for function in (linear, exponential):
        column = function(np.array(ages), span)
        assert column == pytest.approx([function(age, span) for age in ages])
        assert ((column >= 0) & (column <= 1)).all()
        assert (np.diff(function(np.sort(np.array(ages)), span)) <= 0).all()


def test_an_unknown_age_has_an_unknown_freshness() -> None:
    for function in (linear, exponential):
        assert math.isnan(function(math.nan, 100))
        assert np.isnan(function(np.array([math.nan]), 100)).all()


def test_a_project_measures_by_its_function_and_half_life() -> None:
    assert Freshness().score(50, 100) == 0.5
    assert Freshness(FreshnessFunction.EXPONENTIAL).score(100, 100) == 0.5
    halves = Freshness(FreshnessFunction.EXPONENTIAL, half_life=50)
    assert halves.score(100, 100) == 0.25
    assert halves.score(100, None) == 0.25
    assert Freshness().score(1e9, None) == 1.0
    assert Freshness().score(np.array([1.0, 2.0]), None).tolist() == [1.0, 1.0]
    assert Freshness(FreshnessFunction.EXPONENTIAL).score(1e9, None) == 1.0
