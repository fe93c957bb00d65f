"""Looking a piece of the number line up, against bisection."""

from bisect import bisect_right
from zoneinfo import available_timezones

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.clock import FIRST_MICROS, LAST_MICROS
from headwater.offline.engines.duckdb.zones import _PIECES, day_sql, instant_sql, kind_sql
from headwater.planning.local_time import local_times
from headwater.testing import SCALE, rounds

starts = st.lists(st.integers(-(2**55), 2**55), min_size=1, max_size=60, unique=True).map(sorted)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@settings(max_examples=rounds(25))
@given(starts, st.lists(st.integers(-(2**58), 2**58), max_size=20), st.data())
def test_a_piece_is_the_one_that_bisection_finds(connection, starts, numbers, data):
    near = data.draw(st.lists(st.sampled_from(starts).flatmap(lambda s: st.sampled_from([s - 1, s, s + 1]))))
    numbers += near
    rows = ", ".join(f"({number})" for number in [*numbers, 0])
    query = f"SELECT n, {_PIECES.piece('n', starts)} FROM (VALUES {rows}) AS t(n)"
    for number, piece in connection.execute(query).fetchall():
        assert piece == max(1, bisect_right(starts, number))
    assert connection.execute(f"SELECT {_PIECES.piece('CAST(NULL AS BIGINT)', starts)}").fetchone() == (None,)


@example("Europe/Berlin", True)
@example("Africa/Casablanca", True)
@example("Pacific/Apia", True)
@example("+05:30", True)
@example("Asia/Gaza", False)
@settings(max_examples=5 * SCALE)
@given(st.sampled_from(sorted(available_timezones() - {"UTC"})), st.booleans())
def test_instants_and_kinds_are_those_of_python(connection, name, later):
    zone = local_times(name, later=later)
    assert zone is not None
    near = [n for start in zone.starts for n in (start - 1, start, start + 1)]
    numbers = [*near[1:], FIRST_MICROS, LAST_MICROS]
    rows = ", ".join(f"({number})" for number in numbers)
    query = f"SELECT n, {instant_sql('n', zone)}, {kind_sql('n', zone)} FROM (VALUES {rows}) AS t(n)"
    for number, instant, kind in connection.execute(query).fetchall():
        assert (instant, kind) == zone.instant(number)


def test_the_day_of_an_instant_is_its_local_one(connection):
    zone = local_times("America/New_York", later=True)
    found = connection.execute(f"SELECT CAST({day_sql('1700000000000000', zone)} AS VARCHAR)").fetchone()
    assert found == ("2023-11-14",)
