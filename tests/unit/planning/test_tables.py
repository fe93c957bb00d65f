"""What users hand in as rows, and key columns matched to their dtypes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from headwater.errors import DataError, EntityKeyError
from headwater.planning.data_kinds import is_pandas
from headwater.planning.tables import as_table, match_key, table_of_rows
from headwater.types import Bool, Bytes, Date, DType, Int32, Int64, String, Timestamp

EXPECTED = {"a": [1, 2], "b": ["x", None]}


@pytest.mark.parametrize(
    "data",
    [
        pa.table(EXPECTED),
        pa.table(EXPECTED).to_batches()[0],
        pa.table(EXPECTED).to_reader(),
        pd.DataFrame(EXPECTED),
        pd.DataFrame(EXPECTED, index=[7, 8]),
        pl.DataFrame(EXPECTED),
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
        [{"a": 1, "b": "x"}, {"a": 2}],
        EXPECTED,
        {"a": np.array([1, 2]), "b": ("x", None)},
        {"a": pd.Series([1, 2]), "b": pa.array(["x", None])},
    ],
    ids=lambda data: type(data).__name__,
)
def test_every_form_of_rows(data: Any) -> None:
    assert as_table(data, "rows").to_pydict() == EXPECTED


def test_a_matrix_is_a_column_of_vectors() -> None:
    for width in (np.float16, np.float32, np.float64):
        table = as_table({"k": ["a", "b"], "v": np.array([[0.5, 1], [2, 3]], width)}, "rows")
        assert table.column("v").to_pylist() == [[0.5, 1.0], [2.0, 3.0]]


def test_scalars_are_repeated() -> None:
    assert as_table({"user": 7, "item": [1, 2, 3]}, "entities").to_pydict() == {"user": [7, 7, 7], "item": [1, 2, 3]}
    assert as_table({"user": 7, "name": "x"}, "entities").to_pydict() == {"user": [7], "name": ["x"]}


def test_a_pandas_nan_is_null_and_any_other_a_value() -> None:
    assert as_table(pd.DataFrame({"x": [1.0, float("nan")]}), "rows").column("x").null_count == 1
    assert as_table({"x": [1.0, float("nan")]}, "rows").column("x").null_count == 0
    assert is_pandas(pd.DataFrame())
    assert not is_pandas(pl.DataFrame())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (5, "cannot read a int"),
        ("x", "cannot read a str"),
        ([1, 2], "cannot read a list"),
        ({"a": [1], "b": [1, 2]}, "columns differ in length: a has 1, b has 2"),
        ([{"a": 1}, {"a": "x"}], "rows: "),
        ({"a": [2**70]}, "rows: "),
        ({"a": [0.5, True]}, "column 'a' holds numbers and booleans"),
        (pd.Series([1]), "a single column"),
        (pl.Series([1]), "a single column"),
    ],
)
def test_what_is_no_table(data: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_table(data, "rows")


def test_columns_of_dicts_in_order_of_their_first_use() -> None:
    assert table_of_rows([{"b": 1}, {"a": 2}], ["c"]).column_names == ["c", "b", "a"]


def match(values: Any, dtype: DType) -> list[Any]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    found: list[Any] = match_key(column, dtype, "column 'k'", EntityKeyError).to_pylist()
    return found


NANOS = pa.array([1_000, None], pa.timestamp("ns"))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (pa.array([1, None], pa.int8()), Int64, [1, None]),
        (pa.array([1, 2], pa.uint64()), Int64, [1, 2]),
        (pa.array([1.0, None, 2.0**53 - 1]), Int64, [1, None, 2**53 - 1]),
        (pa.array([Decimal(7), None], pa.decimal128(38, 0)), Int64, [7, None]),
        (pa.array([2**40], pa.int64()), Int32, [2**40]),
        (pa.array(["a", None], pa.large_string()), String, ["a", None]),
        (pa.array(["a"], pa.string_view()), String, ["a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), String, ["a", "b", "a"]),
        (pa.array([1, 2]).dictionary_encode(), Int64, [1, 2]),
        (pa.nulls(2), String, [None, None]),
        (pa.array([b"x"], pa.large_binary()), Bytes, [b"x"]),
        (pa.array([b"xy"], pa.binary(2)), Bytes, [b"xy"]),
        (pa.array([True]), Bool, [True]),
        (pa.array([date(2024, 1, 1)], pa.date64()), Date, [date(2024, 1, 1)]),
        (pa.array([datetime(2024, 1, 1)], pa.timestamp("s")), Timestamp, [datetime(2024, 1, 1, tzinfo=UTC)]),
        (NANOS, Timestamp, [datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None]),
    ],
    ids=str,
)
def test_keys_that_match(values: pa.Array, dtype: DType, expected: list[Any]) -> None:
    assert match(values, dtype) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "said"),
    [
        (pa.array([1.0, 1.5]), Int64, "1.5 in row 11 does not fit int64: not a whole number"),
        (pa.array([2.0**53]), Int64, r"in row 10 .* a float of 2\*\*53 or more"),
        (pa.array([1e19]), Int32, "in row 10"),
        (pa.array([float("nan")]), Int64, "nan in row 10"),
        (pa.array([float("inf")]), Int64, "inf in row 10"),
        (pa.array([1, 2**63], pa.uint64()), Int64, "9223372036854775808 in row 11 .* beyond 64 bits"),
        (pa.array([Decimal("1.5")]), Int64, "in row 10 .* not a whole number"),
        (pa.array([1_001], pa.timestamp("ns")), Timestamp, "in row 10 .* finer than a microsecond"),
    ],
    ids=str,
)
def test_a_key_that_does_not_fit_is_named(values: pa.Array, dtype: DType, said: str) -> None:
    with pytest.raises(EntityKeyError, match=f"^column 'k' .*{said}"):
        match_key(values, dtype, "column 'k'", EntityKeyError, first=10)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1], String),
        (["1"], Int64),
        ([True], Int64),
        ([1], Bool),
        (["x"], Bytes),
        ([b"x"], String),
        ([1], Timestamp),
        ([1], Date),
    ],
)
def test_keys_of_another_type_are_never_cast(values: Any, dtype: DType) -> None:
    with pytest.raises(EntityKeyError, match=r"column 'k' is .*; the join key is"):
        match(values, dtype)


def test_polars_categories_are_text() -> None:
    text = pl.Series("k", ["a", None, "b"], dtype=pl.Categorical)
    for data in (pl.DataFrame([text]), {"k": text}):
        column = as_table(data, "rows")["k"]
        assert match_key(column, String, "k", EntityKeyError).to_pylist() == ["a", None, "b"]


def test_nanoseconds_of_pandas_timestamps_are_kept() -> None:
    fine = pd.Timestamp("2024-01-01 00:00:00.000000001", tz="UTC")
    for data in ([{"t": None}, {"t": fine}], {"t": [None, fine]}):
        column = as_table(data, "rows")["t"]
        assert (column.type, column.cast(pa.int64()).to_pylist()) == (pa.timestamp("ns", "UTC"), [None, fine.value])
