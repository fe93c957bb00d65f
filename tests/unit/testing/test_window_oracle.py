"""The reference of windows itself, against cases worked out by hand from the contract."""

import math
from fractions import Fraction

import pytest

from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow
from headwater.testing.window_oracle import Statement, WindowRequest, agrees, events_at, statements, window_answer
from headwater.types import Bool, Float64, Int64, Status, String

K = ("k",)


def said(event, x=1, created=None, position=1, event_id=None, key=K):
    created = event if created is None else created
    return Statement(key, {"x": x}, event, created, position > 0, position, event_id)


def count(width=10, hop=5, offset=0, **options):
    return WindowRequest("count", None, None, width, hop, offset, **options)


def value(request, rows, at, deletes=(), **options):
    return window_answer(request, rows, deletes, K, at, **options).value


def test_the_newest_end_is_exact_and_the_oldest_a_whole_hop():
    # at 23 the window begins at floor(13, 5) = 10
    rows = [said(time) for time in (9, 10, 23, 24)]
    assert value(count(), rows, 23) == 2
    # before 1970 the floor goes down: floor(-1 - 10, 5) = -15
    assert value(count(), [said(time) for time in (-16, -15, -1, 0)], -1) == 2


def test_an_offset_window_ends_before_a_whole_hop():
    # at 23, 3 before: from floor(10, 5) = 10 to before floor(20, 5) = 20
    assert value(count(offset=3), [said(time) for time in (9, 10, 19, 20)], 23) == 2


def test_a_late_event_counts_from_when_it_was_known():
    rows = [said(20, created=30)]
    assert value(count(), rows, 29) == 0
    assert value(count(), rows, 30) == 1
    assert value(count(), rows, 29, as_known=False) == 1


def test_what_a_delete_hides_is_no_event_from_its_time_on():
    rows = [said(1, position=1), said(8, position=2), said(9, position=4)]
    deletes = [Delete(K, 8, 3)]
    assert value(count(None), rows, 7, deletes) == 1
    assert value(count(None), rows, 9, deletes) == 1
    # dated ahead, said before the delete
    assert value(count(None), [said(50, position=2), said(51, position=5)], 60, deletes) == 1
    assert value(count(None), [said(50, position=0)], 60, deletes) == 1
    assert value(count(None), [said(7, position=5)], 60, deletes) == 0


def test_of_the_statements_of_one_event_the_least_counts():
    rows = [said(5, 1, created=9, position=2, event_id="a"), said(5, 2, created=7, position=3, event_id="a")]
    total = WindowRequest("sum", "x", Int64, None)
    assert [value(total, rows, at) for at in (6, 7, 9)] == [None, 2, 2]
    # the source before the log, another event time is another event
    rows.append(said(5, 4, created=7, position=0, event_id="a"))
    rows.append(said(6, 8, position=4, event_id="a"))
    assert value(total, rows, 9) == 12
    # one that a delete hides takes no part
    assert value(total, rows, 9, [Delete(K, 7, 2)]) == 1
    assert [event.values["x"] for event in events_at(rows, [], K, 9)] == [4, 8]


def test_an_id_is_looked_at_before_where_and_nulls():
    rows = [said(5, None, position=1, event_id="a"), said(5, 3, created=6, position=2, event_id="a")]
    assert value(WindowRequest("count", "x", Int64, None), rows, 9) == 0
    assert value(count(None, where=lambda values: values["x"] is not None), rows, 9) == 0
    assert value(count(None), rows, 9) == 1
    assert value(count(None, where=lambda values: None), rows, 9) == 0


@pytest.mark.parametrize(
    ("function", "right"),
    [
        ("count", 3),
        ("sum", 7.0),
        ("min", 1.0),
        ("max", 4.0),
        ("first", 4.0),
        ("last", 1.0),
        ("first_n", (4.0, 2.0)),
        ("last_n", (1.0, 2.0)),
        ("last_n_distinct", (1.0, 2.0)),
        ("count_distinct", 3),
        ("rate", 0.3),
        ("quantile", 2.015625),
    ],
)
def test_functions(function, right):
    rows = [said(1, 4.0, position=1), said(2, 2.0, position=2), said(3, 1.0, position=3), said(4, None, position=4)]
    request = WindowRequest(function, "x", Float64, 10_000_000, 1, n=2, q=0.5)
    assert value(request, rows, 5) == right
    assert window_answer(request, rows, [], K, 5).event_time == 4


def test_functions_of_no_events():
    for function in ("sum", "mean", "min", "last", "quantile", "var_pop"):
        answer = window_answer(WindowRequest(function, "x", Float64, 10, 1, default=-1.0), [], [], K, 5)
        assert (answer.status, answer.value, answer.event_time) == (Status.NULL, -1.0, None)
    for function, empty in (("count", 0), ("count_distinct", 0), ("rate", 0.0), ("last_n", ()), ("first_n", ())):
        answer = window_answer(WindowRequest(function, "x", Float64, 10, 1, n=2), [], [], K, 5)
        assert (answer.status, answer.value) == (Status.PRESENT, empty)
    assert window_answer(count(), [], [], (None,), 5).status is Status.NOT_FOUND


def test_order_goes_by_created_time_origin_position_and_value():
    last = WindowRequest("last", "x", Int64, None)
    assert value(last, [said(1, 1, created=3), said(1, 9, created=2)], 5) == 1
    assert value(last, [said(1, 1, position=1), said(1, 9, position=0)], 5) == 1
    assert value(last, [said(1, 1, position=2), said(1, 9, position=1)], 5) == 1
    assert value(last, [said(1, 1, position=0), said(1, 9, position=0)], 5) == 9
    assert value(WindowRequest("first", "x", Int64, None), [said(1, 1, position=0), said(1, 9, position=0)], 5) == 1


def test_nan_is_the_greatest_and_there_is_no_negative_zero():
    rows = [said(1, math.nan), said(2, -0.0)]
    assert math.isnan(value(WindowRequest("max", "x", Float64, None), rows, 5))
    least = value(WindowRequest("min", "x", Float64, None), rows, 5)
    assert least == 0 and math.copysign(1, least) == 1
    assert all(math.isnan(value(WindowRequest(f, "x", Float64, None), rows, 5)) for f in ("sum", "mean", "var_pop"))


def test_an_overflow_is_of_the_windows_own_total():
    rows = [said(1, 2**62), said(2, 2**62), said(3, -1)]
    total = WindowRequest("sum", "x", Int64, 1, 1, default=5)
    assert value(total, rows, 3) == 2**62 - 1
    answer = window_answer(total, rows, [], K, 2)
    assert (answer.overflow, answer.value) == (True, None)
    assert value(WindowRequest("sum", "x", Bool, None), [said(1, True), said(2, True)], 3) == 2


def test_bounds():
    rows = [said(1, 1e9), said(2, 1e9 + 1), said(3, 1e9 + 2)]
    spread = window_answer(WindowRequest("var_pop", "x", Float64, None), rows, [], K, 5)
    assert spread.exact == Fraction(2, 3)
    # 3 · 2^-52 · sqrt(1 + mean²/variance), relative
    assert float(spread.bound / spread.exact) == pytest.approx(3 * 2**-52 * (1e9 + 1) / math.sqrt(2 / 3))
    assert agrees(spread, 2 / 3) and not agrees(spread, 0.6667)
    total = window_answer(WindowRequest("sum", "x", Float64, None), rows, [], K, 5)
    assert agrees(total, 3e9 + 3) and not agrees(total, 3e9 + 3.1)
    huge = window_answer(WindowRequest("sum", "x", Float64, None), [said(1, 1.7e308), said(2, 1.7e308)], [], K, 5)
    assert huge.bound is None and agrees(huge, math.inf)
    assert not agrees(window_answer(count(), rows, [], K, 3), 3.0)


def test_distinct_counts_beyond_the_exact_ones_go_by_digests():
    rows = [said(i, i) for i in range(1_000)]
    request = WindowRequest("count_distinct", "x", Int64, None, max_distinct=100)
    estimate = value(request, rows, 2_000)
    assert estimate % 16 == 0 and abs(estimate - 1_000) < 300
    assert value(WindowRequest("count_distinct", "x", Int64, None, max_distinct=1_000), rows, 2_000) == 1_000


def test_statements_are_made_of_the_rows_of_source_and_log():
    view = OracleView({"x": None, "id": None}, created_time=True)
    source = [SourceRow(K, {"x": 1, "id": "a"}, 1_500, 3_000, "a"), SourceRow(K, {"x": 1, "id": None}, None, 3_000)]
    log = [LogRow(K, {"x": 2, "id": "b"}, 4_000, 7, 5), LogRow(K, {"x": 3}, 4_000, 8, 6)]
    made = statements(view, source, log, "id")
    assert [(s.event, s.created, s.from_log, s.position, s.event_id) for s in made] == [
        (2, 3, False, 0, "a"),
        (4, 7, True, 5, "b"),
    ]
    assert [s.known_at for s in made] == [3, 7]
    assert value(WindowRequest("last_n", "id", String, None, n=3), made, 9) == ("b", "a")
