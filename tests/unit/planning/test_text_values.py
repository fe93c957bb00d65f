"""The value that a text stands for."""

from datetime import UTC, date, datetime

import pytest

import headwater as hw
from headwater.definitions.csv_format import CSVFormat
from headwater.errors import UsageError
from headwater.planning.text_values import micros_up, value_of_text

PLAIN = CSVFormat()
GERMAN = CSVFormat(decimal=",", thousands=".", date_format="%d.%m.%Y", timestamp_format="%d.%m.%Y %H:%M")
AMERICAN = CSVFormat(thousands=",", date_format="%m/%d/%y", timestamp_format="%b %d, %Y %I:%M %p")


@pytest.mark.parametrize(
    ("text", "dtype", "form", "value"),
    [
        ("007", hw.Int64, PLAIN, 7),
        (" 7.00 ", hw.Int32, PLAIN, 7),
        ("9223372036854775807", hw.Int64, PLAIN, 2**63 - 1),
        ("1.234.567", hw.Int64, GERMAN, 1234567),
        ("1234567", hw.Int64, GERMAN, 1234567),
        ("1.234,5", hw.Float64, GERMAN, 1234.5),
        ("-1,234.5e3", hw.Float64, AMERICAN, -1234500.0),
        (".5", hw.Float64, PLAIN, 0.5),
        ("0.1", hw.Float32, PLAIN, 0.10000000149011612),
        ("Yes", hw.Bool, PLAIN, True),
        ("f", hw.Bool, PLAIN, False),
        ("2026-06-01", hw.Date, PLAIN, date(2026, 6, 1)),
        ("1.6.2026", hw.Date, GERMAN, date(2026, 6, 1)),
        ("6/1/26", hw.Date, AMERICAN, date(2026, 6, 1)),
        ("2026-06-01T12:00+02:00", hw.Timestamp, PLAIN, datetime(2026, 6, 1, 10, tzinfo=UTC)),
        ("2026-06-01 12:00:00.5 UTC", hw.Timestamp, PLAIN, datetime(2026, 6, 1, 12, 0, 0, 500_000, UTC)),
        ("01.06.2026 12:30", hw.Timestamp, GERMAN, datetime(2026, 6, 1, 12, 30, tzinfo=UTC)),
        ("JUN 1, 2026 12:05 am", hw.Timestamp, AMERICAN, datetime(2026, 6, 1, 0, 5, tzinfo=UTC)),
        ("[1, 2.0, null]", hw.Array(hw.Int64), PLAIN, [1, 2, None]),
        ('["a", "2026-06-01"]', hw.Array(hw.String), PLAIN, ["a", "2026-06-01"]),
        ('["2026-06-01"]', hw.Array(hw.Date), PLAIN, [date(2026, 6, 1)]),
        ("[0.5, 1]", hw.Embedding(2), PLAIN, [0.5, 1.0]),
        ("é", hw.Bytes, PLAIN, "é".encode()),
        ("0xFF00", hw.Bytes, PLAIN, b"\xff\x00"),
        ("\\xdead", hw.Bytes, PLAIN, b"\xde\xad"),
        ("\\\\xdead", hw.Bytes, PLAIN, b"\xde\xad"),
        ("0x", hw.Bytes, PLAIN, b""),
        ('["0x00", "a", null]', hw.Array(hw.Bytes), PLAIN, [b"\x00", b"a", None]),
        ("9007199254740992", hw.Float64, PLAIN, 2.0**53),
        ("9007199254740993.0", hw.Float64, PLAIN, 2.0**53),
        ("9.007199254740993e15", hw.Float64, PLAIN, 2.0**53),
        ("16777217.0", hw.Float32, PLAIN, 2.0**24),
    ],
)
def test_a_text_is_a_value(text, dtype, form, value):
    assert value_of_text(text, dtype, form) == value


@pytest.mark.parametrize(
    ("text", "dtype", "form"),
    [
        ("1.5", hw.Int64, PLAIN),
        ("1e3", hw.Int64, PLAIN),
        ("2147483648", hw.Int32, PLAIN),
        ("9223372036854775808", hw.Int64, PLAIN),
        ("1,234", hw.Int64, PLAIN),
        ("12.34", hw.Int64, GERMAN),
        ("1e999", hw.Float64, PLAIN),
        ("9007199254740993", hw.Float64, PLAIN),
        ("-9.007.199.254.740.993", hw.Float64, GERMAN),
        ("16777217", hw.Float32, PLAIN),
        ("0xabc", hw.Bytes, PLAIN),
        (r"\x0g", hw.Bytes, PLAIN),
        ("1e39", hw.Float32, PLAIN),
        ("1_000", hw.Float64, PLAIN),
        ("1.5", hw.Float64, CSVFormat(decimal=",")),
        ("2", hw.Bool, PLAIN),
        ("06/01/2026", hw.Date, PLAIN),
        ("2026-06-01T12:00", hw.Date, PLAIN),
        ("2026-02-30", hw.Timestamp, PLAIN),
        ("2026-06-01 24:00", hw.Timestamp, PLAIN),
        ("2026-06-01 12:00:00.0000001", hw.Timestamp, PLAIN),
        ("infinity", hw.Timestamp, PLAIN),
        ("[1.5]", hw.Array(hw.Int64), PLAIN),
        ("[99999999999]", hw.Array(hw.Int32), PLAIN),
        ("[300, yes]", hw.Array(hw.Bool), PLAIN),
        ("[1e400]", hw.Array(hw.Float64), PLAIN),
        ("null", hw.Array(hw.Int64), PLAIN),
        ("[1]", hw.Embedding(2), PLAIN),
        ("[1, null]", hw.Embedding(2), PLAIN),
    ],
)
def test_a_text_is_no_such_value(text, dtype, form):
    with pytest.raises(ValueError, match=r"."):
        value_of_text(text, dtype, form)


def test_a_time_finer_than_microseconds_is_rounded_up():
    assert micros_up("1970-01-01 00:00:00.0000001", PLAIN.times) == 1
    assert micros_up("1970-01-01 00:00:00.0000010", PLAIN.times) == 1


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("%d.%m.", "does not determine the day"),
        ("%Y-%m-%d %Q", "%Q is not known"),
        ("%Y-%m-%d %I:%M", "hours are %H, or %I with %p"),
        ("%Y-%m-%d %d", "%d is given twice"),
    ],
)
def test_a_format_that_cannot_be_read(form, said):
    with pytest.raises(UsageError, match=said):
        CSVFormat(timestamp_format=form).times  # noqa: B018
