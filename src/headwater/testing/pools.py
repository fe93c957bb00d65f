"""Small pools of values and instants, and the Arrow forms in which tables hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

SECOND = 1_000_000_000
MIDNIGHT = int(datetime(2024, 3, 10, tzinfo=UTC).timestamp()) * SECOND
"""The middle of the generated times (nanoseconds): a midnight, so that dates take part."""

_DAY = 86_400 * SECOND
_TEXTS = ["", "a", "aa", "B", "é", "\uffff", "\U0001f600", "a\x00b", "a|b", "NA"]
_MOMENTS = [
    datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2024, 3, 10, tzinfo=UTC),
    datetime(2024, 3, 10, 1, tzinfo=UTC),
]
_FLOATS = [0.0, -0.0, 1.5, -1.5, math.nan, math.inf, -math.inf]
_VALUES: dict[str, list[Any]] = {
    "int32": [0, 1, -1, 2**31 - 1, -(2**31)],
    "int64": [0, 1, -1, 2**63 - 1, -(2**63)],
    "float32": _FLOATS,
    "float64": [*_FLOATS, 0.1],
    "bool": [True, False],
    "string": _TEXTS,
    "bytes": [b"", b"\x00", b"a", b"\xff", b"\x80\x00"],
    "timestamp": _MOMENTS,
    "date": [date(1969, 12, 31), date(2024, 3, 10), date(2024, 3, 11)],
}
_SMALL = [0, 1, 2]


class Stored(NamedTuple):
    """How a source holds a feature: the Arrow type, and the values it can hold."""

    arrow: pa.DataType
    values: list[Any]


def stored_forms(dtype: DType) -> list[Stored]:
    """The Arrow types a source may hold a dtype in, the exact one first, then those that widen without loss."""
    if dtype.name == "array":
        assert dtype.element is not None
        inner = stored_forms(dtype.element)[0]
        some = [None, *inner.values]
        lists = [[], *([v] for v in some), *([some[-1], v] for v in some), *([v, some[1]] for v in some)]
        return [Stored(pa.list_(inner.arrow), lists), Stored(pa.large_list(inner.arrow), lists)]
    if dtype.name == "embedding":
        assert dtype.dim is not None
        numbers = [0.0, 1.5, -1.5]
        vectors = [[n] * dtype.dim for n in numbers] + [[numbers[i % 3] for i in range(dtype.dim)]]
        return [Stored(dtype.arrow, vectors), Stored(pa.list_(pa.float32()), vectors)]
    exact, values = Stored(dtype.arrow, _VALUES[dtype.name]), _VALUES[dtype.name]
    wider = {
        "int32": [Stored(pa.int8(), _SMALL)],
        "int64": [
            Stored(pa.int32(), _VALUES["int32"]),
            Stored(pa.uint32(), _SMALL),
            Stored(pa.decimal128(38, 0), _SMALL),
        ],
        "float32": [Stored(pa.float16(), _FLOATS)],
        "float64": [Stored(pa.float32(), _FLOATS), Stored(pa.int32(), _SMALL)],
        "string": [Stored(pa.large_string(), values), Stored(pa.dictionary(pa.int32(), pa.string()), values)],
        "bytes": [Stored(pa.large_binary(), values)],
        "timestamp": [
            Stored(pa.timestamp("us"), values),
            Stored(pa.timestamp("ns", tz="UTC"), values),
            Stored(pa.timestamp("s", tz="America/New_York"), values),
        ],
    }
    return [exact, *wider.get(dtype.name, [])]


DTYPES: list[DType] = [
    Int32,
    Int64,
    Float32,
    Float64,
    Bool,
    String,
    Bytes,
    Timestamp,
    Date,
    Embedding(2),
    Array(Float64),
    Array(String),
    Array(Int64),
    Array(Array(Int32)),
]
"""Every dtype, with the arrays that differ in how they are stored."""

KEYS: dict[str, tuple[DType, list[Any]]] = {
    "text": (String, ["", "a", "é", "a|b"]),
    "num": (Int64, [0, 1, -1, 7]),
    "small": (Int32, [0, 1, 2]),
    "raw": (Bytes, [b"", b"\x00", b"a|b"]),
    "day": (Date, [date(2024, 3, 10), date(2024, 3, 11)]),
    "moment": (Timestamp, _MOMENTS),
    "flag": (Bool, [True, False]),
}
KEY_SETS: list[tuple[str, ...]] = [
    ("text",),
    ("num",),
    ("small",),
    ("text", "num"),
    ("num", "text"),
    ("raw",),
    ("day",),
    ("moment",),
    ("flag", "text"),
    (),
]


class TimeForm(NamedTuple):
    """How a table holds a time: the Arrow type, the nanoseconds of its unit, and the times it can hold."""

    arrow: pa.DataType
    unit: int
    instants: list[int]


def _grid(unit: int, zone: str | None, fine: Sequence[int]) -> TimeForm:
    name = {SECOND: "s", 10**6: "ms", 1000: "us", 1: "ns"}[unit]
    steps = [MIDNIGHT + k * SECOND + f for k in range(-1, 4) for f in fine]
    return TimeForm(pa.timestamp(name, tz=zone), unit, steps)


TIME_FORMS = [
    _grid(SECOND, None, [0]),
    _grid(10**6, "UTC", [0]),
    _grid(1000, "UTC", [0, 1000, -1000]),
    _grid(1000, None, [0, 1000]),
    _grid(1000, "America/New_York", [0]),
    _grid(1, None, [0, 1, 999, 1000, 1001, -1, -999]),
    _grid(1, "UTC", [0, 1, -1, 500]),
]
SPINE_TIME_FORMS = [*TIME_FORMS, TimeForm(pa.date32(), _DAY, [MIDNIGHT, MIDNIGHT + _DAY])]


def time_column(instants: Sequence[int | None], form: TimeForm) -> pa.Array:
    """A column of instants (nanoseconds) in one form."""
    if pa.types.is_date(form.arrow):
        days = [None if at is None else at // _DAY for at in instants]
        return pa.array(days, pa.int32()).cast(form.arrow)
    return pa.array([None if at is None else at // form.unit for at in instants], pa.int64()).cast(form.arrow)


def value_column(given: Sequence[Any], stored: pa.DataType) -> pa.Array:
    """A column of feature or key values in the type a table holds it in."""
    if pa.types.is_timestamp(stored):
        micros = [
            None if v is None else (v - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for v in given
        ]
        return pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz=stored.tz)).cast(stored)
    if pa.types.is_dictionary(stored):
        return pa.array(given, stored.value_type).dictionary_encode()
    if pa.types.is_float16(stored):
        # older Arrow takes no other kind of number for it
        return pa.array([None if v is None else np.float16(v) for v in given], stored)
    return pa.array(given, stored)


def key_forms(dtype: DType) -> list[pa.DataType]:
    """The Arrow types that match a join key."""
    forms = {
        "int64": [pa.int64(), pa.int32(), pa.int16()],
        "int32": [pa.int32(), pa.int64(), pa.int8()],
        "string": [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
        "timestamp": [pa.timestamp("us", tz="UTC"), pa.timestamp("s"), pa.timestamp("ns", tz="UTC")],
    }
    return forms.get(dtype.name, [dtype.arrow])
