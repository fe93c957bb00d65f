"""Columns of written rows fitted to dtypes."""

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.planning.cast import fit, fit_time
from headwater.planning.value_rule import Misfit, cast_value
from headwater.testing import rounds
from headwater.types import DType

UTC = dt.UTC
NOON = dt.datetime(2024, 1, 1, 12, tzinfo=UTC)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


def fitted(column: Any, dtype: DType, **options: Any) -> tuple[list[Any], list[int]]:
    found = fit(column, dtype, **options)
    assert found.values.type == dtype.arrow
    return found.values.to_pylist(), [] if found.bad is None else np.flatnonzero(found.bad).tolist()


@pytest.mark.parametrize(
    ("dtype", "column", "values", "bad"),
    [
        (hw.Int64, [1, None, -5], [1, None, -5], []),
        (hw.Int32, [1, 2**31, -(2**31)], [1, None, -(2**31)], [1]),
        (hw.Int64, [1, 2**63], [1, None], [1]),
        (hw.Int64, [1, 1.5], [1, None], [1]),
        (hw.Int64, [True, 1], [None, 1], [0]),
        (hw.Int64, ["1", 1], [None, 1], [0]),
        (hw.Float64, [1, 2.5, None], [1.0, 2.5, None], []),
        (hw.Float64, [2**53 + 1, 2**53, 2**60], [None, float(2**53), None], [0, 2]),
        (hw.Float64, ["1", 2.0], [None, 2.0], [0]),
        (hw.Float64, [True], [None], [0]),
        (hw.Float32, [0.5, 1e300, float("inf")], [0.5, None, float("inf")], [1]),
        (hw.Float32, [2**24 + 1], [None], [0]),
        (hw.Bool, [True, None, False], [True, None, False], []),
        (hw.Bool, [1, True], [None, True], [0]),
        (hw.String, ["a", b"b", None, 1], ["a", None, None, None], [1, 3]),
        (hw.Bytes, [b"a", "b"], [b"a", None], [1]),
        (hw.Timestamp, [NOON, None, "2024"], [NOON, None, None], [2]),
        (hw.Timestamp, [NOON.replace(tzinfo=None)], [NOON], []),
        (hw.Timestamp, [NOON.astimezone(dt.timezone(dt.timedelta(hours=5)))], [NOON], []),
        (hw.Timestamp, [dt.date(2024, 1, 1)], [NOON.replace(hour=0)], []),
        (hw.Date, [dt.date(2024, 1, 1), NOON], [dt.date(2024, 1, 1), None], [1]),
        (hw.Array(hw.Int64), [[1, None], None, [], ["x"]], [[1, None], None, [], None], [3]),
        (hw.Array(hw.Float64), [[1, 2.5], [1]], [[1.0, 2.5], [1.0]], []),
        (hw.Embedding(2), [[1.0, 2.0], [1.0], None, [1.0, None]], [[1.0, 2.0], None, None, None], [1, 3]),
    ],
)
def test_values_fit_or_are_named(dtype: DType, column: list[Any], values: list[Any], bad: list[int]) -> None:
    assert fitted(column, dtype) == (values, bad)


def arrow(values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("dtype", "column", "values", "bad"),
    [
        (hw.Int64, arrow([1, None], pa.int8()), [1, None], []),
        (hw.Int32, arrow([1, 2**40], pa.int64()), [1, None], [1]),
        (hw.Int64, arrow([1, 2**63], pa.uint64()), [1, None], [1]),
        (
            hw.Int64,
            arrow([1.0, 2.5, None, float("nan"), 2.0**53], pa.float64()),
            [1, None, None, None, None],
            [1, 3, 4],
        ),
        (hw.Int32, arrow([-(2.0**31), 2.0**31, 5.0], pa.float32()), [-(2**31), None, 5], [1]),
        (hw.Int64, arrow([Decimal("3.00"), Decimal("3.50")], pa.decimal128(9, 2)), [3, None], [1]),
        (hw.Int64, arrow([Decimal(2**63 - 1), Decimal(2**63)], pa.decimal128(38, 0)), [2**63 - 1, None], [1]),
        (hw.Float64, arrow([Decimal("1234567.891")], pa.decimal128(38, 18)), [1234567.891], []),
        (hw.Float32, arrow([Decimal("0.1")], pa.decimal128(38, 18)), [float(np.float32(0.1))], []),
        (hw.Float32, arrow([Decimal(10) ** 50], pa.decimal256(60, 2)), [None], [0]),
        (hw.Float64, arrow([2**53, 2**53 + 1], pa.int64()), [2.0**53, None], [1]),
        (hw.Float32, arrow([2**24, 2**24 + 2], pa.int32()), [2.0**24, None], [1]),
        (hw.Timestamp, arrow([1000, 1001], pa.timestamp("ns")), [EPOCH + dt.timedelta(microseconds=1), None], [1]),
        (hw.Float64, arrow([1, 2], pa.int32()), [1.0, 2.0], []),
        (hw.Float64, arrow([1.5, None], pa.float32()), [1.5, None], []),
        (hw.Float32, arrow([0.1, None], pa.float64()), [float(np.float32(0.1)), None], []),
        (hw.String, arrow(["a", None], pa.large_string()), ["a", None], []),
        (hw.String, pa.chunked_array([pa.array(["a", "b", "a"]).dictionary_encode()]), ["a", "b", "a"], []),
        (hw.String, pa.chunked_array([], pa.dictionary(pa.int8(), pa.null())), [], []),
        (hw.String, arrow([None, None], pa.null()), [None, None], []),
        (hw.String, arrow([1, 2], pa.int64()), [None, None], [0, 1]),
        (hw.Bytes, arrow([b"ab"], pa.binary(2)), [b"ab"], []),
        (hw.Date, arrow([dt.date(2024, 1, 1)], pa.date64()), [dt.date(2024, 1, 1)], []),
        (hw.Embedding(2), arrow([[1.0, 2.0], None], pa.list_(pa.float64())), [[1.0, 2.0], None], []),
        (hw.Embedding(2), arrow([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), [[1.0, 2.0], None], []),
        (hw.Array(hw.String), arrow([["a"], []], pa.large_list(pa.large_string())), [["a"], []], []),
    ],
)
def test_arrow_columns_fit_or_are_named(dtype: DType, column: Any, values: list[Any], bad: list[int]) -> None:
    assert fitted(column, dtype) == (values, bad)


def test_floats_hold_integers_with_gaps() -> None:
    column = arrow([1.0, None, 2.5], pa.float64())
    assert fitted(column, hw.Int64) == ([1, None, None], [2])


def test_times_round_up_to_the_microsecond() -> None:
    nanos = arrow([1, 1000, -1, None], pa.timestamp("ns"))
    found = fit_time(nanos).values.cast(pa.int64()).to_pylist()
    assert found == [1, 1, 0, None]
    assert fit(nanos, hw.Timestamp).values.cast(pa.int64()).to_pylist() == [None, 1, None, None]


def test_a_time_beyond_microseconds_is_named() -> None:
    far = fit_time(arrow([2**62, 5], pa.timestamp("s")))
    assert far.bad is not None and far.bad.tolist() == [True, False]


@settings(max_examples=rounds(60), deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=2), st.booleans()), max_size=6
    )
)
def test_lists_of_python_values_follow_the_rule(column: list[Any]) -> None:
    for dtype in (hw.Int32, hw.Int64, hw.Float32, hw.Float64, hw.String, hw.Bool):
        assert repr(fitted(column, dtype)) == repr(by_the_rule(column, dtype))


def by_the_rule(column: list[Any], dtype: DType) -> tuple[list[Any], list[int]]:
    values, bad = [], []
    for i, value in enumerate(column):
        try:
            values.append(cast_value(value, dtype))
        except Misfit:
            values.append(None)
            bad.append(i)
    return values, bad


def test_python_times_of_every_kind() -> None:

    nano = pd.Timestamp("2024-01-01T12:00:00.000000001", tz="UTC")
    column = [
        NOON,
        NOON.date(),
        nano,
        np.datetime64("2024-01-01T12:00:00.000000001"),
        pd.NaT,
        np.datetime64("NaT"),
        None,
        5,
        "x",
    ]
    found = fit_time(column)
    later = NOON + dt.timedelta(microseconds=1)
    assert found.values.to_pylist() == [NOON, NOON.replace(hour=0), later, later, None, None, None, None, None]
    assert found.bad is not None and np.flatnonzero(found.bad).tolist() == [7, 8]
    as_values = fit(column, hw.Timestamp)
    assert as_values.values.to_pylist() == [NOON, NOON.replace(hour=0), *[None] * 7]
    assert as_values.bad is not None and np.flatnonzero(as_values.bad).tolist() == [2, 3, 7, 8]


@pytest.mark.parametrize("width", [np.float16, np.float32, np.float64])
def test_vectors_of_any_width_are_embeddings(width: Any) -> None:
    vector = np.array([0.1, 2], width)
    near = [float(np.float32(vector[0])), 2.0]
    kind = pa.from_numpy_dtype(width)
    columns: list[Any] = [[vector], [list(vector)], [tuple(vector)]]
    columns += [arrow([vector], form) for form in (pa.list_(kind), pa.large_list(kind), pa.list_(kind, 2))]
    for column in columns:
        assert fitted(column, hw.Embedding(2)) == ([near], [])


DAY = np.datetime64("2026-01-02")


@pytest.mark.parametrize(
    ("value", "dtype", "right"),
    [
        (DAY, hw.Timestamp, dt.datetime(2026, 1, 2, tzinfo=UTC)),
        (np.datetime64("2026-01-02T03:04", "ns"), hw.Timestamp, dt.datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        (np.datetime64("NaT"), hw.Timestamp, None),
        (DAY, hw.Date, dt.date(2026, 1, 2)),
        (np.datetime64("NaT", "D"), hw.Date, None),
        (np.datetime64(1, "ns"), hw.Timestamp, "refused"),
        (np.datetime64("20000-01-01"), hw.Timestamp, "refused"),
        (np.datetime64("20000-01-01"), hw.Date, "refused"),
        (np.datetime64("2026-01-02T00", "h"), hw.Date, "refused"),
    ],
)
def test_a_time_of_numpy_is_the_same_on_every_road(value: np.datetime64, dtype: DType, right: Any) -> None:
    for column in ([value], [value, None], [value, right if right != "refused" else None]):
        found = fit(column, dtype)
        assert (found.bad is not None) == (right == "refused")
        assert found.values[0].as_py() == (None if right == "refused" else right)
    if right == "refused":
        with pytest.raises(Misfit):
            cast_value(value, dtype)
    else:
        assert cast_value(value, dtype) == right
