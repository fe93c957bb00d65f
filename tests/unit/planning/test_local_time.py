"""Naive times of a zone, held to what zoneinfo says of each."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.clock import EPOCH, MICROSECOND
from headwater.errors import UsageError
from headwater.planning.local_time import REPEATED, SKIPPED, LocalTimes, aware, days_of, instant_in, local_times

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
ZONES += ["Pacific/Apia", "America/Sao_Paulo", "Asia/Kolkata"]
YEARS = st.datetimes(datetime(1900, 1, 1), datetime(2090, 1, 1))


def micros(when: datetime) -> int:
    return (when.replace(tzinfo=when.tzinfo or UTC) - EPOCH) // MICROSECOND


def expected(local: datetime, name: str, *, later: bool) -> tuple[int, int]:
    """By trying both folds: a time that does not come back is skipped."""
    zone = ZoneInfo(name)
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) != local:
        # the change is where the offset before ends: between the two readings
        low, high = sorted((first, second))
        before = low.astimezone(zone).utcoffset()
        while high - low > MICROSECOND:
            middle = low + (high - low) / 2
            low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
        return micros(high), SKIPPED
    if first != second:
        return micros(max(first, second) if later else min(first, second)), REPEATED
    return micros(first), 0


def zone_of(name: str, *, later: bool = True) -> LocalTimes:
    zone = local_times(name, later=later)
    assert zone is not None
    return zone


def around(name: str) -> st.SearchStrategy[datetime]:
    """Times beside the changes of a zone."""
    starts = st.sampled_from(zone_of(name).starts[1:])
    near = st.timedeltas(timedelta(hours=-2), timedelta(hours=2))
    return st.builds(lambda start, apart: (EPOCH + start * MICROSECOND + apart).replace(tzinfo=None), starts, near)


@settings(deadline=None)
@given(st.data(), st.sampled_from(ZONES), st.booleans())
def test_an_instant_is_zoneinfo_s(data: st.DataObject, name: str, later: bool) -> None:
    local = data.draw(YEARS | around(name).filter(lambda at: datetime(1900, 1, 1) < at < datetime(2090, 1, 1)))
    zone = zone_of(name, later=later)
    assert zone.instant(micros(local)) == expected(local, name, later=later)
    instants, kinds = zone.convert(np.array([micros(local)], np.int64))
    assert (int(instants[0]), int(kinds[0])) == zone.instant(micros(local))


def test_an_hour_that_is_repeated_or_skipped() -> None:
    twice, never = datetime(2026, 10, 25, 2, 30), datetime(2026, 3, 29, 2, 30)
    assert EPOCH + zone_of("Europe/Berlin").instant(micros(twice))[0] * MICROSECOND == datetime(
        2026, 10, 25, 1, 30, tzinfo=UTC
    )
    earlier = zone_of("Europe/Berlin", later=False).instant(micros(twice))[0]
    assert EPOCH + earlier * MICROSECOND == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for later in (True, False):
        change = zone_of("Europe/Berlin", later=later).instant(micros(never))
        assert change == (micros(datetime(2026, 3, 29, 1, tzinfo=UTC)), SKIPPED)


@pytest.mark.parametrize("name", ["UTC", "+02:00", "-05:30"])
def test_offsets_are_zones(name: str) -> None:
    zone = local_times(name, later=True)
    noon = micros(datetime(2026, 6, 1, 12))
    found = noon if zone is None else zone.instant(noon)[0]
    assert found - noon == {"UTC": 0, "+02:00": -7_200_000_000, "-05:30": 19_800_000_000}[name]


def test_a_zone_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"'Europe/Berlim' is not a time zone.*did you mean 'Europe/Berlin'"):
        local_times("Europe/Berlim", later=True)


def test_columns_become_aware() -> None:
    zone = zone_of("Europe/Berlin")
    noon, right = datetime(2026, 6, 1, 12), datetime(2026, 6, 1, 10, tzinfo=UTC)
    for unit in ("s", "ms", "us", "ns"):
        column = pa.chunked_array([pa.array([noon, None], pa.timestamp(unit))])
        made = aware(column, zone, dates=True)
        assert isinstance(made, pa.ChunkedArray) and made.type.tz == "UTC"
        assert made.cast(pa.timestamp("us", "UTC")).to_pylist() == [right, None]
    fine = aware(pa.chunked_array([pa.array([1_780_315_200_000_000_123], pa.timestamp("ns"))]), zone, dates=True)
    assert isinstance(fine, pa.ChunkedArray)
    assert fine.cast(pa.int64()).to_pylist() == [1_780_308_000_000_000_123]
    given_values = [noon, right, None, date(2026, 6, 1), "x"]
    midnight = datetime(2026, 5, 31, 22, tzinfo=UTC)
    assert aware(given_values, zone, dates=True) == [right, right, None, midnight, "x"]
    assert aware(given_values, zone, dates=False) == [right, right, None, date(2026, 6, 1), "x"]


def test_one_instant_in_a_zone() -> None:
    assert instant_in("2026-10-25T02:30", "Europe/Berlin") == micros(datetime(2026, 10, 25, 0, 30))
    assert instant_in("2026-10-25T02:30Z", "Europe/Berlin") == micros(datetime(2026, 10, 25, 2, 30))
    assert instant_in(date(2026, 6, 1), "Europe/Berlin") == micros(datetime(2026, 5, 31, 22))
    assert instant_in("2026-10-25T02:30", None) == micros(datetime(2026, 10, 25, 2, 30))


@settings(deadline=None)
@given(st.data(), st.sampled_from(ZONES))
def test_the_local_time_of_an_instant_is_zoneinfo_s(data: st.DataObject, name: str) -> None:
    local = data.draw(YEARS | around(name).filter(lambda at: datetime(1900, 1, 1) < at < datetime(2090, 1, 1)))
    instant = local.replace(tzinfo=UTC)
    right = instant.astimezone(ZoneInfo(name)).replace(tzinfo=None)
    assert zone_of(name).local(np.array([micros(instant)]))[0] == micros(right)
    # a date that exists is itself again
    day = right.date()
    midnight = zone_of(name).convert(np.array([micros(datetime(day.year, day.month, day.day))]))[0]
    instants = pa.array(midnight, pa.timestamp("us", tz="UTC"))
    assert days_of(instants, zone_of(name)).to_pylist() == [day]
