"""Statistics gathered batch by batch are those of the whole column."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.offline.training_sets.statistics import ColumnStatistics
from headwater.testing import rounds


def gathered(column, kind, cut):
    found = ColumnStatistics(kind)
    for part in (column[:cut], column[cut:]):
        found.add(pa.array(part, kind))
    return found


FLOATS = st.lists(st.none() | st.floats(-1e6, 1e6) | st.just(math.nan), max_size=20)


@settings(max_examples=rounds(20), deadline=None)
@given(FLOATS, st.integers(0, 20))
def test_floats(values, cut):
    found = gathered(values, pa.float64(), cut)
    numbers = np.array([v for v in values if v is not None and not math.isnan(v)])
    said = found.summary()
    assert found.nulls == values.count(None)
    assert found.null_rate == (values.count(None) / len(values) if values else 0)
    assert said.get("nan", 0) == sum(v is not None and math.isnan(v) for v in values)
    if not len(numbers):
        assert "mean" not in said and "min" not in said
        return
    assert (said["min"], said["max"]) == (numbers.min(), numbers.max())
    assert said["mean"] == pytest.approx(numbers.mean(), rel=1e-9, abs=1e-6)
    assert said["stddev"] == pytest.approx(numbers.std(), rel=1e-6, abs=1e-6)


@settings(max_examples=rounds(20), deadline=None)
@given(st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=20), st.integers(0, 20))
def test_integers_have_their_exact_extremes(values, cut):
    said = gathered(values, pa.int64(), cut).summary()
    numbers = [v for v in values if v is not None]
    assert said.get("min") == min(numbers, default=None) and said.get("max") == max(numbers, default=None)


def test_texts_times_bools_and_what_has_no_order():
    assert gathered(["b", None, "a"], pa.string(), 1).summary() == {"min": "a", "max": "b"}
    assert gathered([True, False, True], pa.bool_(), 1).summary()["mean"] == pytest.approx(2 / 3)
    day = pa.scalar(19_000, pa.date32()).as_py()
    assert gathered([day], pa.date32(), 0).summary() == {"min": day.isoformat(), "max": day.isoformat()}
    assert gathered([[1.0], None], pa.list_(pa.float64()), 1).summary() == {}
    assert gathered(["x" * 1000], pa.string(), 0).summary() == {}
    dictionary = pa.dictionary(pa.int8(), pa.string())
    assert gathered(["b", "a"], dictionary, 1).summary() == {"min": "a", "max": "b"}


def test_infinities_leave_out_what_they_make_of_the_others():
    said = gathered([math.inf, 1.0], pa.float64(), 1).summary()
    assert said["min"] == 1.0 and "max" not in said and "mean" not in said
