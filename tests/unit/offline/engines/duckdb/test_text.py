"""The SQL of texts is the rule of `planning.text_values`."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.clock import to_micros
from headwater.definitions.csv_format import CSVFormat
from headwater.offline.engines.duckdb.text import cast_text, cast_time
from headwater.planning.text_values import micros_up, value_of_text
from headwater.testing import rounds

FORMS = [
    CSVFormat(),
    CSVFormat(decimal=","),
    CSVFormat(decimal=",", thousands="."),
    CSVFormat(thousands=","),
    CSVFormat(timestamp_format="%d.%m.%Y %H:%M", date_format="%d.%m.%y"),
    CSVFormat(timestamp_format="%m/%d/%Y %I:%M:%S.%f %p%z", date_format="%d %b %Y"),
    CSVFormat(timestamp_format="%j-%Y", date_format="%B %d, %Y %H:%M"),
    CSVFormat(timestamp_format="%a, %d %b %y %T %z"),
]
DTYPES = [hw.Int32, hw.Int64, hw.Float32, hw.Float64, hw.Bool, hw.Bytes, hw.Timestamp, hw.Date, "time"]
NUMBERS = (
    st.text("0123456789+-.,eE ", max_size=8)
    | st.integers(-(2**70), 2**70).map(str)
    | st.sampled_from([2**24, 2**53]).flatmap(lambda n: st.integers(n - 3, n + 3)).map(str)
    | st.sampled_from(
        [str(-(2**53)), str(-(2**53) - 1), "16777217.0", "+9007199254740993", "9007199254740993.", f"{10**60}"]
    )
    | st.from_regex(r"(0[xX]|\\{1,2}x)?[0-9a-fA-F]{0,5}g?", fullmatch=True)
    | st.floats().map(str)
    | st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.sampled_from(["nan", "-Infinity", "1e39", "3.4028236e38", "2147483648", "1,234.5", "1.234,5", "12,34", "Yes"])
)


def written(at: datetime) -> st.SearchStrategy[str]:
    """An instant in many forms."""
    noon = f"{at.month}/{at.day}/{at.year:04d} {at.hour % 12 or 12}:{at.minute:02d}:{at.second:02d}.{at.microsecond}"
    return st.sampled_from(
        [
            at.isoformat(),
            at.isoformat(" ") + "Z",
            at.isoformat() + "+05:30",
            at.isoformat() + " -1145",
            at.isoformat() + "789",
            at.strftime("%d.%m.%Y %H:%M"),
            f"{noon} {'am' if at.hour < 12 else 'PM'}Z",
            at.strftime("%j-%Y"),
            at.strftime("%a, %d %b %y %H:%M:%S +0200"),
            at.strftime("%d.%m.%y"),
            at.strftime("%d %b %Y"),
            at.strftime("%B %d, %Y 00:00"),
            at.strftime("%Y-%m-%d"),
            at.strftime("%Y-%m-%d 24:00"),
            "2026-02-30",
            "366-2025",
        ]
    )


TIMES = st.datetimes().flatmap(written) | st.text("0123456789-: TZ+", max_size=20)


def expected(text: str, dtype: Any, form: CSVFormat) -> Any:
    try:
        value = micros_up(text, form.times) if dtype == "time" else value_of_text(text, dtype, form)
    except ValueError:
        return None
    return to_micros(value) if dtype == hw.Timestamp else value


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


@settings(max_examples=rounds(20), deadline=None)
@given(st.lists(NUMBERS | TIMES, min_size=20, max_size=20), st.sampled_from(FORMS), st.sampled_from(DTYPES))
def test_texts_become_the_same_values(texts: list[str], form: CSVFormat, dtype: Any) -> None:
    sql = cast_time("x", form) if dtype == "time" else cast_text("x", dtype, form)
    if dtype in ("time", hw.Timestamp):
        sql = f"epoch_us({sql})"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(f"SELECT {sql} FROM (SELECT unnest(?) AS x)", [texts]).fetchall()
    for text, (got,) in zip(texts, rows, strict=True):
        assert equal(expected(text, dtype, form), got), (text, dtype, form.meaning)
