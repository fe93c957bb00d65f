"""Columns as the values that aggregates hold, and these as results give them."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.windows.values import NAN, result_array, result_value, result_values, stored_form, stored_values
from headwater.testing.pools import DTYPES
from headwater.testing.strategies import values
from headwater.types import Array, Embedding, Float32, Float64, String, Timestamp

KINDS = [*DTYPES, Array(Array(Float64)), Array(Embedding(2)), Array(Timestamp), Array(String)]


@given(st.data(), st.sampled_from(DTYPES))
def test_all_at_once_is_one_by_one(data, dtype):
    given_values = data.draw(st.lists(values(dtype), max_size=8))
    column = pa.array(given_values, dtype.arrow)
    stored = stored_values(dtype, column)
    assert repr(stored) == repr([stored_form(dtype, value) for value in column.to_pylist()])
    assert repr(stored_values(dtype, pa.chunked_array([column[:2], column[2:]], dtype.arrow))) == repr(stored)
    assert repr(result_values(dtype, stored)) == repr([result_value(dtype, value) for value in stored])
    again = result_array(dtype, stored)
    assert again.type == dtype.arrow
    assert repr(stored_values(dtype, again)) == repr(stored)
    assert repr(again.to_pylist()).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") == repr(
        result_values(dtype, stored)
    )


def test_numbers_have_one_nan_and_no_negative_zero():
    stored = stored_values(Float32, pa.array([-0.0, math.nan, None, 0.1], pa.float32()))
    assert math.copysign(1, stored[0]) == 1
    assert stored[1] is NAN
    assert stored[2] is None
    assert stored[3] == pa.scalar(0.1, pa.float32()).as_py()
    (inner,) = stored_values(Array(Float64), pa.array([[math.nan, -0.0, None]]))
    assert inner[0] is NAN
    assert math.copysign(1, inner[1]) == 1
    assert inner[2] is None


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_no_values_are_a_column_of_the_type(dtype):
    assert result_array(dtype, []).type == dtype.arrow
    assert stored_values(dtype, pa.array([None], dtype.arrow)) == [None]
