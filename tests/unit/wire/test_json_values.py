"""Every value of every dtype comes back from JSON as it was, and by the form that is stated for it."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headwater as hw
from headwater.types import DType
from headwater.wire.json_values import NoForm, from_json, to_json, value_to_json

INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1])
FLOAT64 = st.floats() | st.sampled_from([0.0, -0.0, 1e308, -1e308, math.nan, math.inf, -math.inf])
FLOAT32 = st.floats(width=32)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda time: time.replace(fold=0)
)
VALUES: list[tuple[DType, st.SearchStrategy[Any]]] = [
    (hw.Int32, st.integers(-(2**31), 2**31 - 1)),
    (hw.Int64, INT64),
    (hw.Float32, FLOAT32),
    (hw.Float64, FLOAT64),
    (hw.Bool, st.booleans()),
    (hw.String, st.text()),
    (hw.Bytes, st.binary()),
    (hw.Timestamp, TIMES),
    (hw.Date, st.dates()),
    (hw.Array(hw.Int64), st.lists(st.none() | INT64)),
    (hw.Array(hw.Float64), st.lists(st.none() | FLOAT64)),
    (hw.Array(hw.Timestamp), st.lists(st.none() | TIMES)),
    (hw.Array(hw.Bytes), st.lists(st.none() | st.binary())),
    (hw.Array(hw.Array(hw.Int64)), st.lists(st.none() | st.lists(st.none() | INT64))),
    (hw.Embedding(3), st.lists(FLOAT32, min_size=3, max_size=3)),
]


@st.composite
def columns(draw: st.DrawFn) -> tuple[DType, list[Any]]:
    dtype, values = draw(st.sampled_from(VALUES))
    return dtype, draw(st.lists(st.none() | values, max_size=6))


def strict(text: bytes) -> Any:
    """As readers read it who have doubles alone, and take no NaN."""

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    def whole(digits: str) -> int:
        assert float(digits) == int(digits)
        return int(digits)

    return json.loads(text, parse_constant=refuse, parse_int=whole)


@given(column=columns())
def test_values_come_back_as_they_were(column: tuple[DType, list[Any]]) -> None:
    dtype, values = column
    text = msgspec.json.encode(to_json(values, dtype))
    for decoded in (strict(text), msgspec.json.decode(text)):
        back = from_json(decoded, dtype)
        # a NaN is equal to none; -0.0 is equal to 0.0
        assert repr(back) == repr(values)


@pytest.mark.parametrize(
    ("dtype", "value", "form"),
    [
        (hw.Int64, 2**53, "9007199254740992"),
        (hw.Int64, 2**53 + 1, '"9007199254740993"'),
        (hw.Int64, -(2**63), '"-9223372036854775808"'),
        (hw.Float64, 0.1, "0.1"),
        (hw.Float32, 1.1109999418258667, "1.1109999418258667"),
        (hw.Float64, math.nan, '"NaN"'),
        (hw.Float64, -math.inf, '"-Infinity"'),
        (hw.Timestamp, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05.000000Z"'),
        (hw.Date, date(2026, 1, 2), '"2026-01-02"'),
        (hw.Bytes, b"\0\xff", '"AP8="'),
        (hw.Embedding(2), [1.0, math.inf], '[1.0,"Infinity"]'),
        (hw.Array(hw.Int64), [2**60, None], '["1152921504606846976",null]'),
    ],
)
def test_each_dtype_has_one_form(dtype: DType, value: Any, form: str) -> None:
    assert msgspec.json.encode(to_json([value], dtype)).decode() == f"[{form}]"


def test_requests_may_use_text_for_integers_and_any_offset_for_times() -> None:
    assert from_json(["7", 8, None], hw.Int64) == [7, 8, None]
    assert from_json(["2026-01-02T05:04:05+02:00"], hw.Timestamp) == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (hw.Int64, "seven"),
        (hw.Int64, "1_000"),
        (hw.Int64, ""),
        (hw.Float64, "nan"),
        (hw.Float64, "1.5"),
        (hw.Timestamp, "2026-01-02"),
        (hw.Timestamp, "2026-01-02T03:04:05"),
        (hw.Timestamp, "2026-13-02T03:04:05Z"),
        (hw.Date, "02.01.2026"),
        (hw.Date, "2026-02-30"),
        (hw.Bytes, "not base64"),
        (hw.Array(hw.Int64), ["x"]),
    ],
)
def test_other_texts_are_refused_with_their_row(dtype: DType, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^row 1: .* is not .*(write|there is no such date)"):
        from_json([None, value], dtype)


def test_what_is_not_text_is_left_to_whoever_takes_it() -> None:
    for dtype in (hw.Int64, hw.Timestamp, hw.Bytes, hw.Embedding(2)):
        assert from_json([True, {"a": 1}, 1.5], dtype) == [True, {"a": 1}, 1.5]


@given(columns())
def test_a_value_whose_dtype_is_not_known_has_the_form_of_its_dtype(column: tuple[DType, list[Any]]) -> None:
    dtype, values = column
    by_dtype, by_type = to_json(values, dtype), value_to_json(values)
    assert msgspec.json.encode(by_type) == msgspec.json.encode(by_dtype)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), {"a": 1}, [Decimal(1)], object()])
def test_a_value_without_a_form_is_refused_not_rounded(value: Any) -> None:
    with pytest.raises(NoForm):
        value_to_json(value)
