"""Columns of every Arrow type, and what the rule says of their one value as a dtype."""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

import headwater as hw
from headwater.planning.value_rule import Misfit, cast_value
from headwater.types import DType, castable, key_castable

REFUSED = "refused"
_CONTEXT = decimal.Context(prec=60)
EDGES = [0, 1, -1, 2**24, 2**24 + 1, -(2**24) - 1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1]
EDGES += [2**53 - 1, 2**53, 2**53 + 1, -(2**53), 2**63 - 1, -(2**63), 2**63, 2**64 - 1]
FLOATS = [0.1, -0.0, 1.5, 1e19, 3.4028234663852886e38, 3.4028235677973362e38, 3.4028235677973366e38, 1e-46, 1e39]
FLOATS += [float("nan"), float("inf"), float("-inf"), *(float(edge) for edge in EDGES), 2.0**53 - 1, 2.5]

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
DECIMALS = [
    pa.decimal128(38, 18),
    pa.decimal128(38, 0),
    pa.decimal128(9, 2),
    pa.decimal128(38, 38),
    pa.decimal128(18, 6),
]
REALS = [pa.float16(), pa.float32(), pa.float64()]
OTHERS = [pa.string(), pa.large_string(), pa.binary(), pa.bool_(), pa.date32()]
OTHERS += [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")] + [pa.timestamp("us", "Europe/Berlin"), pa.null()]
NUMBERS = [*INTEGERS, *DECIMALS, *REALS]
LISTS = [pa.list_(n) for n in NUMBERS] + [pa.large_list(n) for n in REALS] + [pa.list_(n, 2) for n in REALS]
LISTS += [pa.list_(pa.string()), pa.list_(pa.timestamp("ns")), pa.list_(pa.list_(pa.float64()))]
SCALAR_DTYPES = [hw.Int32, hw.Int64, hw.Float32, hw.Float64, hw.Bool, hw.String, hw.Bytes, hw.Timestamp, hw.Date]
LIST_DTYPES = [hw.Array(hw.Int32), hw.Array(hw.Float32), hw.Array(hw.Float64), hw.Embedding(2), hw.Array(hw.Timestamp)]
LIST_DTYPES += [hw.Array(hw.String), hw.Array(hw.Array(hw.Int64))]


def values_of(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that a column of a type can hold, the edges of the rule among them."""
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        low, high = (
            (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1) if signed else (0, 2**kind.bit_width - 1)
        )
        return st.sampled_from([e for e in EDGES if low <= e <= high]) | st.integers(low, high)
    if pa.types.is_decimal(kind):
        most = 10**kind.precision - 1
        numbers = st.integers(-most, most) | st.sampled_from(
            [e * 10**kind.scale for e in EDGES if abs(e) * 10**kind.scale <= most]
        )
        return numbers.map(lambda n: Decimal(n).scaleb(-kind.scale, _CONTEXT))
    if pa.types.is_floating(kind):
        form = {16: np.float16, 32: np.float32, 64: np.float64}[kind.bit_width]
        with np.errstate(over="ignore"):
            edges = [form(f) for f in FLOATS]
        return (st.sampled_from(edges) | st.floats(width=kind.bit_width)).map(form)
    if pa.types.is_timestamp(kind):
        return st.integers(-(10**9), 10**9)
    if pa.types.is_date(kind):
        return st.dates(date(1900, 1, 1), date(2100, 1, 1))
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_binary(kind):
        return st.binary(max_size=3)
    if pa.types.is_null(kind):
        return st.none()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return st.sampled_from(["", "1", "1.5", "nan", "é"])
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
    inner = st.none() | values_of(kind.value_type)
    return st.lists(inner, min_size=size or 0, max_size=3 if size is None else size)


def column_of(kind: pa.DataType, value: Any) -> pa.Array:
    """A column of one value."""
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        return pa.array([value], pa.list_(pa.int64())).cast(kind)
    return pa.array([value], kind)


def given_value(column: pa.Array) -> Any:
    """The value of a column as the rule takes it: nanoseconds as datetimes, where they are whole microseconds."""
    kind, scalar = column.type, column[0]
    if pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        return (
            None
            if not scalar.is_valid
            else [
                given_value(pa.array([n], pa.int64()).cast(kind.value_type))
                for n in column.cast(pa.list_(pa.int64()))[0].as_py()
            ]
        )
    if pa.types.is_timestamp(kind) and scalar.is_valid:
        count = scalar.cast(pa.int64()).as_py()
        if kind.unit == "ns":
            if count % 1000:
                return REFUSED
            count //= 1000
        per = {"s": 10**6, "ms": 1000, "us": 1, "ns": 1}[kind.unit]
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=count * per)
    return scalar.as_py()


def by_the_rule(column: pa.Array, dtype: DType, *, key: bool = False) -> Any:
    """What the rule makes of a column's one value."""
    if not (key_castable if key else castable)(column.type, dtype):
        return REFUSED
    try:
        return cast_value(given_value(column), dtype)
    except Misfit:
        return REFUSED


def same(one: Any, other: Any) -> bool:
    """Whether two values are one number, NaN too, and -0.0 not 0.0."""
    return repr(one) == repr(other)


def plain(value: Any) -> Any:
    """A value with its times in UTC."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def cases(kinds: list[pa.DataType], dtypes: list[DType]) -> st.SearchStrategy[tuple[pa.Array, DType]]:
    """Columns of one value, with the dtype that it is to be."""
    columns = st.sampled_from(kinds).flatmap(lambda k: (st.none() | values_of(k)).map(lambda v: column_of(k, v)))
    return st.tuples(columns, st.sampled_from(dtypes))
