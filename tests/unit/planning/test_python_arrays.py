"""Python values as arrays: each by its own kind, in whatever order they are."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.local_time import NaiveTimes, local_times
from headwater.planning.python_arrays import array_of, array_of_values, refuse_mixed
from headwater.planning.tables import as_table

NAMED = "America/New_York"
ZONE = ZoneInfo(NAMED)
NOON = datetime(2026, 1, 1, 12)
EAST = timezone(timedelta(hours=2))

SPAN = (datetime(2000, 1, 1), datetime(2040, 1, 1))
DAYS = st.dates(SPAN[0].date(), SPAN[1].date())
NAIVE = st.datetimes(*SPAN)
AWARE = st.datetimes(*SPAN, timezones=st.sampled_from([UTC, EAST, ZONE]))
PANDAS = st.one_of(NAIVE, AWARE).map(pd.Timestamp)
FINE = st.integers(0, 2**61).map(lambda nanos: pd.Timestamp(nanos, unit="ns"))
NUMPY = NAIVE.map(np.datetime64)
TIMES = st.one_of(DAYS, NAIVE, AWARE, PANDAS, FINE, NUMPY)
GAPS = st.sampled_from([None, pd.NaT])
OTHERS = st.sampled_from([True, 5, 2.5, float("nan"), Decimal("1.5"), "x", b"x", time(1), timedelta(1), [1]])


def nanos(value: Any) -> int | None:
    """The instant of a time whose zone, if it has none, is New York's; of an hour that is there twice, the later."""
    if value is None or value is pd.NaT:
        return None
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    fine = getattr(value, "nanosecond", 0)
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime(warn=False)
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        zone = local_times(NAMED, later=True)
        assert zone is not None
        return zone.instant((value - datetime(1970, 1, 1)) // timedelta(microseconds=1))[0] * 1000 + fine
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 + fine


def instants(column: pa.Array) -> list[int | None]:
    """The instants of a column, its naive times and dates being New York's."""
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if pa.types.is_date(column.type):
        return [nanos(value) for value in column.to_pylist()]
    found = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()).to_pylist()
    if column.type.tz is not None:
        return found
    return [None if value is None else nanos(pd.Timestamp(value, unit="ns")) for value in found]


def in_new_york(_: str) -> NaiveTimes:
    return NaiveTimes(local_times(NAMED, later=True))


@given(st.lists(TIMES | GAPS, max_size=5).flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_a_time_is_the_same_instant_in_any_order(orders: tuple[list[Any], list[Any]]) -> None:
    for values in orders:
        want = [nanos(value) for value in values]
        rows = [{"t": value} for value in values]
        assert instants(array_of_values(values, in_new_york)) == want
        assert instants(as_table({"t": values}, "rows", in_new_york).column("t").combine_chunks()) == want
        assert instants(as_table({"t": tuple(values)}, "rows", in_new_york).column("t").combine_chunks()) == want
        frame = pd.DataFrame({"k": range(len(values)), "t": pd.Series(values, dtype=object), "z": "z"})
        found = as_table(frame, "rows", in_new_york)
        assert found.column_names == ["k", "t", "z"]
        assert instants(found.column("t").combine_chunks()) == want
        if rows:
            assert instants(as_table(rows, "rows", in_new_york).column("t").combine_chunks()) == want
        lists = array_of_values([values, None, values], in_new_york)
        assert lists.is_valid().to_pylist() == [True, False, True]
        assert instants(lists.flatten()) == want * 2


ANY = st.lists(TIMES | OTHERS | GAPS, max_size=4)


@given(ANY.flatmap(lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))))
def test_what_is_refused_is_refused_in_any_order(case: tuple[list[Any], list[int]]) -> None:
    values, order = case

    def read(given: list[Any], *, from_pandas: bool) -> list[Any] | None:
        try:
            found = array_of_values(given, from_pandas=from_pandas).to_pylist()
            return [v.astimezone(UTC) if isinstance(v, datetime) and v.tzinfo is not None else v for v in found]
        except Exception:
            return None

    for from_pandas in (False, True):
        found = read(values, from_pandas=from_pandas)
        moved = read([values[i] for i in order], from_pandas=from_pandas)
        assert repr(moved) == repr(None if found is None else [found[i] for i in order])


CLOCKS = [NOON, date(2026, 1, 1), pd.Timestamp(NOON), np.datetime64(NOON), time(1), timedelta(1)]


@pytest.mark.parametrize("value", CLOCKS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("number", [5, 2.5, np.int64(5), Decimal(5)])
def test_a_number_is_no_time(value: Any, number: Any) -> None:
    for given_values in ([value, number], [number, value]):
        with pytest.raises((ValueError, pa.ArrowException)):
            array_of_values(given_values)


def test_a_missing_time_is_null_and_no_first_day_of_the_calendar() -> None:
    assert array_of_values([date(2026, 1, 1), pd.NaT]).to_pylist() == [date(2026, 1, 1), None]
    assert array_of_values([NOON, np.datetime64("NaT")]).to_pylist() == [NOON, None]
    assert array_of_values([pd.NaT, pd.NaT]).null_count == 2


def test_kinds_that_are_one_keep_their_type() -> None:
    assert array_of_values([NOON, NOON]).type == pa.timestamp("us")
    assert array_of_values([date(2026, 1, 1)]).type == pa.date32()
    assert array_of_values([date(2026, 1, 1), NOON]).type == pa.timestamp("us")
    assert array_of_values([NOON, NOON.replace(tzinfo=EAST)]).type == pa.timestamp("us", "UTC")
    for numbers in ([np.float32(0.5), np.int64(2**24 + 1)], [np.int64(2**24 + 1), np.float32(0.5)]):
        assert array_of_values(numbers).to_pylist() == numbers


def test_clock_changes_of_settled_times_are_counted() -> None:
    times = in_new_york("t")
    values = [datetime(2026, 11, 1, 1, 30), datetime(2026, 3, 8, 2, 30), NOON.replace(tzinfo=UTC)]
    assert array_of_values(values, lambda _: times).to_pylist() == [
        datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        NOON.replace(tzinfo=UTC),
    ]
    assert (times.repeated, times.skipped) == (1, 1)


def test_a_column_is_refused_where_nobody_knows_the_zone() -> None:
    for values in ([NOON, NOON.replace(tzinfo=UTC)], [date(2026, 1, 1), NOON]):
        with pytest.raises(ValueError, match="mixes kinds of times"):
            array_of(values)
        with pytest.raises(ValueError, match="mixes kinds of times"):
            array_of_values(values, refuse_mixed, "t")
