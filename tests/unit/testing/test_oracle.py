"""The oracle itself, against cases worked out by hand from the contract of history."""

import math
from datetime import UTC, datetime

import pytest

from headwater.testing.oracle import (
    Delete,
    LogRow,
    OracleView,
    SourceRow,
    answer,
    counts,
    facts,
    known_entities,
    last_change,
    online_answer,
    value_order,
)
from headwater.types import Status

JFK = ("JFK",)


def ns(micros):
    return micros * 1000


def row(event, value, created=None, key=JFK):
    return SourceRow(key, {"x": value}, None if event is None else ns(event), None if created is None else ns(created))


def ask(view, source=(), at=100, log=(), deletes=(), key=JFK, as_known=True):
    given = answer(view, facts(view, source, log), deletes, key, at, as_known=as_known)
    return given.values["x"], given.statuses["x"]


PLAIN = OracleView({"x": None})
CREATED = OracleView({"x": None}, created_time=True)


def test_the_latest_row_not_after_the_instant_is_the_answer():
    rows = [row(100, 1), row(50, 2), row(101, 3)]
    assert ask(PLAIN, rows) == (1, Status.PRESENT)
    assert ask(PLAIN, rows, at=99) == (2, Status.PRESENT)


def test_ttl_counts_its_edge_and_zero_is_none():
    assert ask(OracleView({"x": None}, ttl=10), [row(90, 1)]) == (1, Status.PRESENT)
    assert ask(OracleView({"x": None}, ttl=10), [row(89, 1)]) == (None, Status.EXPIRED)
    assert ask(OracleView({"x": None}, ttl=0), [row(-(10**15), 1)]) == (1, Status.PRESENT)


def test_a_row_learnt_late_counts_only_once_known():
    rows = [row(90, 1, created=110), row(50, 2, created=50)]
    assert ask(CREATED, rows) == (2, Status.PRESENT)
    assert ask(CREATED, rows, as_known=False) == (1, Status.PRESENT)
    assert ask(CREATED, rows, at=110) == (1, Status.PRESENT)


def test_event_time_goes_before_created_time():
    assert ask(CREATED, [row(90, 1, created=90), row(80, 2, created=99)]) == (1, Status.PRESENT)
    assert ask(CREATED, [row(90, 1, created=90), row(90, 2, created=99)]) == (2, Status.PRESENT)


def test_delay_is_when_a_source_row_is_known():
    late = OracleView({"x": None}, delay=10)
    assert ask(late, [row(91, 1)]) == (None, Status.NOT_KNOWN)
    assert ask(late, [row(90, 1)]) == (1, Status.PRESENT)


@pytest.mark.parametrize(
    "ascending",
    [
        [None, -math.inf, -1.5, 0.0, 2, math.inf, math.nan],
        [None, "", "a", "aa", "b", "é", "\U0001f600"],
        [None, b"", b"\x00", b"\xff"],
        [None, [], [None], [None, 1.0], [1.0], [1.0, None], [math.nan]],
        [None, False, True],
        [None, datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)],
    ],
)
def test_values_are_ordered_null_first_and_nan_last(ascending):
    assert max(ascending, key=value_order) is ascending[-1]
    assert sorted(ascending, key=value_order, reverse=True) == list(reversed(ascending))
    assert value_order(0.0) == value_order(-0.0)


def test_text_is_ordered_by_utf8_and_not_by_utf16():
    assert value_order("\uffff") < value_order("\U00010000")


def test_exact_ties_of_the_source_are_broken_by_content_in_order_of_name():
    view = OracleView({"b": None, "a": None})
    rows = [
        SourceRow(JFK, {"a": 1, "b": 9}, 0),
        SourceRow(JFK, {"a": 2, "b": None}, 0),
        SourceRow(JFK, {"a": None, "b": 10}, 0),
    ]
    assert answer(view, facts(view, rows), [], JFK, 0).values == {"a": 2, "b": None}


def test_the_log_beats_the_source_and_later_positions_earlier_ones():
    log = [LogRow(JFK, {"x": 2}, ns(90), 95, 1, ns(90)), LogRow(JFK, {"x": 1}, ns(90), 95, 2, ns(90))]
    assert ask(PLAIN, [row(90, 5)], log=log) == (1, Status.PRESENT)
    assert ask(CREATED, [row(90, 5, created=91)], log=log) == (5, Status.PRESENT)


def test_a_log_row_is_known_at_its_arrival_unless_it_carries_a_created_time():
    log = [LogRow(JFK, {"x": 1}, ns(50), 120, 1)]
    assert ask(OracleView({"x": None}, delay=1000), log=log) == (None, Status.NOT_KNOWN)
    assert ask(PLAIN, log=log, at=120) == (1, Status.PRESENT)
    assert ask(PLAIN, log=[LogRow(JFK, {"x": 1}, ns(50), 120, 1, ns(60))]) == (1, Status.PRESENT)


def test_a_version_skips_log_rows_that_lack_its_features():
    log = [LogRow(JFK, {"y": 1}, ns(99), 99, 2), LogRow(JFK, {"x": 7, "y": 1}, ns(50), 50, 1)]
    assert ask(PLAIN, log=log) == (7, Status.PRESENT)


def test_finer_times_round_up_in_rows():
    assert ask(PLAIN, [SourceRow(JFK, {"x": 1}, 100_001)]) == (None, Status.NOT_KNOWN)
    assert ask(PLAIN, [SourceRow(JFK, {"x": 1}, 99_001)]) == (1, Status.PRESENT)
    assert ask(CREATED, [SourceRow(JFK, {"x": 1}, 0, 100_001)]) == (None, Status.NOT_KNOWN)


def test_null_times_and_null_keys_are_left_out():
    assert ask(PLAIN, [row(None, 1)]) == (None, Status.NOT_FOUND)
    assert ask(CREATED, [row(1, 1)], as_known=False) == (None, Status.NOT_FOUND)
    assert ask(PLAIN, [row(1, 1, key=(None,))], key=(None,)) == (None, Status.NOT_FOUND)


def test_defaults_fill_what_is_absent_and_not_what_is_null():
    view = OracleView({"x": 7}, ttl=10)
    assert ask(view, [row(95, None)]) == (None, Status.NULL)
    assert ask(view, [row(50, 1)]) == (7, Status.EXPIRED)
    assert ask(view, [], key=(None,)) == (7, Status.NOT_FOUND)


def test_why_a_row_is_missing():
    view = OracleView({"x": None}, ttl=10, created_time=True)
    unknown, expired = row(95, 1, created=200), row(50, 2, created=50)
    assert ask(view, [unknown, expired])[1] is Status.NOT_KNOWN
    assert ask(view, [expired])[1] is Status.EXPIRED
    assert ask(view, [row(50, 2, created=200)])[1] is Status.NOT_KNOWN
    assert ask(view, [row(101, 1, created=101), expired])[1] is Status.EXPIRED
    assert ask(view, [])[1] is Status.NOT_FOUND


def test_a_delete_hides_what_was_known_by_it_from_reads_at_or_after_it():
    rows, deleted = [row(50, 1)], [Delete(JFK, 80)]
    assert ask(PLAIN, rows, at=79, deletes=deleted) == (1, Status.PRESENT)
    assert ask(PLAIN, rows, at=80, deletes=deleted) == (None, Status.NOT_FOUND)
    assert ask(PLAIN, rows, deletes=deleted, as_known=False) == (None, Status.NOT_FOUND)
    assert ask(PLAIN, [*rows, row(81, 2)], deletes=deleted) == (2, Status.PRESENT)
    assert ask(CREATED, [row(50, 1, created=81)], deletes=deleted) == (1, Status.PRESENT)
    assert ask(PLAIN, rows, at=85, deletes=[*deleted, Delete(JFK, 90)]) == (None, Status.NOT_FOUND)


def test_a_dimension_row_is_valid_always():
    view = OracleView({"x": None}, event_time=False)
    assert ask(view, [SourceRow(JFK, {"x": 1})], at=-(10**15)) == (1, Status.PRESENT)
    log = [LogRow(JFK, {"x": 2}, None, 50, 1)]
    assert ask(view, [SourceRow(JFK, {"x": 1})], log=log) == (2, Status.PRESENT)
    assert ask(view, [SourceRow(JFK, {"x": 1})], at=49, log=log) == (1, Status.PRESENT)


def test_a_global_view_answers_every_row():
    assert ask(PLAIN, [row(50, 1, key=())], key=()) == (1, Status.PRESENT)


def test_counts_add_up():
    view = OracleView({"x": None}, ttl=10, created_time=True)
    found = facts(view, [row(95, 1, created=95), row(110, 1, created=115)])
    instants = [95, 105, 110, 114, 90, 200]
    given = [answer(view, found, [], JFK, at) for at in instants] + [answer(view, found, [], ("EWR",), 95)]
    assert counts(given, [*instants, 95]) == {
        "matched": 2,
        "no_row": 1,
        "expired": 1,
        "not_known": 3,
        "same_instant": 1,
        "ties": 0,
        "never_valid": 0,
    }


def test_known_entities_are_those_with_a_known_row_an_expired_one_too():
    view = OracleView({"x": None}, ttl=1)
    found = facts(view, [row(1, 1), row(2, 1, key=("EWR",)), row(200, 1, key=("LGA",)), row(1, 1, key=(None,))])
    assert known_entities(found, [Delete(("EWR",), 50)], 100) == {JFK}
    assert known_entities(found, [Delete(("EWR",), 50)], 49) == {JFK, ("EWR",)}


def test_online_what_was_known_before_the_row_is_not_known_and_an_old_row_is_stale():
    view = OracleView({"x": None, "y": None}, ttl=50, slas={"x": 10, "y": 20})
    rows = [SourceRow(JFK, {"x": 1, "y": None}, ns(100)), SourceRow(JFK, {"x": 2, "y": 2}, ns(300))]
    both, found = facts(view, rows), facts(view, rows[:1])
    assert [online_answer(view, both, [], JFK, at).status for at in (110, 299, 300)] == [
        Status.NOT_KNOWN,
        Status.NOT_KNOWN,
        Status.PRESENT,
    ]
    assert online_answer(view, found, [], JFK, 99).status is Status.NOT_KNOWN
    assert online_answer(view, found, [], JFK, 99).values == {"x": None, "y": None}
    assert online_answer(view, [], [], JFK, 99).status is Status.NOT_FOUND
    assert online_answer(view, found, [], JFK, 110).statuses == {"x": Status.PRESENT, "y": Status.NULL}
    assert online_answer(view, found, [], JFK, 111).statuses == {"x": Status.STALE, "y": Status.NULL}
    assert online_answer(view, found, [], JFK, 151).status is Status.EXPIRED
    assert online_answer(view, found, [Delete(JFK, 105)], JFK, 110).status is Status.NOT_FOUND
    assert online_answer(view, found, [Delete(JFK, 105)], JFK, 104).status is Status.NOT_KNOWN
    assert (last_change(found, [], JFK), last_change(found, [Delete(JFK, 105)], JFK)) == (100, 105)
