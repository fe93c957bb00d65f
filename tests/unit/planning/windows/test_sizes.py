"""Sizes that `plan` shows of a window view's rows, beside rows that are really stored."""

import random

import pytest
from hypothesis import given, settings

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows.codec import LARGEST_ROW, encode_row
from headwater.online.rows.windows.row import add_statements, blank_row
from headwater.planning.windows import sizes
from headwater.planning.windows.events import WindowEvent, event_digest
from headwater.planning.windows.layout import window_layout
from headwater.planning.windows.sizes import row_sizes, shown_bytes, too_large
from headwater.testing.window_rows import build_row
from headwater.types import Array, Float64, Int64, String
from tests.unit.online.rows.windows.drawn import event_of, layouts, statements

COLUMNS = {"x": Float64, "n": Int64, "s": String, "a": Array(Int64)}
DAY = 86_400_000_000
NOW = 1_700_000_123_456_789
TOLERANCE = 5_000_000
NUMBERS = [
    Aggregation(column, function, window)
    for window in ("1h", "1d", "7d", "30d")
    for column, function in ((None, "count"), ("x", "sum"), ("x", "mean"), ("x", "min"), ("x", "max"))
]
VIEWS = {
    "numbers": NUMBERS,
    "a count": [Aggregation(None, "count", "7d")],
    "lifetime": [Aggregation("n", "sum", None), Aggregation("x", "var_pop", None)],
    "spread": [Aggregation("x", "stddev_samp", "7d"), Aggregation("x", "mean", "1h", offset="1d")],
    "quantiles": [Aggregation("x", "quantile", "7d", q=0.5)],
    "lists": [Aggregation("s", "last_n", "7d", n=5), Aggregation("n", "last_n_distinct", "30d", n=10)],
    "first": [Aggregation("n", "first", "1d"), Aggregation("s", "min", "1d")],
    "distinct": [Aggregation("s", "count_distinct", "7d", max_distinct=100)],
}


def stored(layout, a_day, days=33, seed=0, ids=False):
    """How many bytes a row of evenly spread events takes."""
    r = random.Random(seed)
    events = []
    for number in range(int(a_day * days)):
        event = NOW - round(number * DAY / a_day)
        values = {"x": r.gauss(0, 100), "n": r.randrange(10**6), "s": f"value {r.randrange(1000)}", "a": (1, 2)}
        name = event_digest(number, event) if ids else None
        events.append(WindowEvent(event, event, True, number + 1, values, frozenset(), name))
    row = blank_row(layout)
    if ids:
        build_row(layout, row, events, TOLERANCE)
        return len(encode_row(layout, row))
    # the newest first: an older event changes few records
    for i in range(0, len(events), 50):
        add_statements(layout, row, events[i : i + 50], TOLERANCE)
    return len(encode_row(layout, row))


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("a_day", [1, 100])
def test_a_typical_row_is_about_as_long(name, a_day):
    layout = window_layout(VIEWS[name], COLUMNS)
    said = row_sizes(layout, events_a_day=a_day)
    real = stored(layout, a_day)
    assert 0.6 * real - 40 <= said.typical <= 1.6 * real + 40, (said, real)
    assert max(real, said.typical) <= said.largest


@pytest.mark.parametrize("name", ["numbers", "spread", "quantiles", "distinct"])
def test_many_events_make_no_longer_rows_than_said(name):
    layout = window_layout(VIEWS[name], COLUMNS)
    days = 33 if name == "numbers" else 9
    assert stored(layout, 300, days) <= row_sizes(layout).largest


def test_event_ids_are_counted():
    layout = window_layout(VIEWS["a count"], COLUMNS)
    real = stored(layout, 100, ids=True)
    said = row_sizes(layout, event_ids=True)
    assert 0.7 * real <= said.typical <= 1.6 * real
    assert real <= said.largest


@settings(deadline=None)
@given(layouts(), statements(ids=True))
def test_no_row_is_longer_than_said(layout, rows):
    row = blank_row(layout)
    build_row(layout, row, map(event_of, rows), TOLERANCE)
    assert len(encode_row(layout, row)) <= row_sizes(layout, event_ids=True).largest


def test_a_row_is_bounded():
    layout = window_layout([Aggregation("s", "first_n", "30d", hop="1h", n=1000)], COLUMNS)
    assert row_sizes(layout).largest == LARGEST_ROW == sizes.LARGEST_ROW
    layout = window_layout([Aggregation("a", "last_n", "1d", n=1)], {"a": Array(String)})
    assert row_sizes(layout).largest == LARGEST_ROW
    layout = window_layout([Aggregation("x", "sum", "1ms", hop="1us")], COLUMNS)
    assert row_sizes(layout).largest == LARGEST_ROW


def test_bytes_for_people():
    assert [shown_bytes(size) for size in (0, 598, 3_405, 262_144)] == ["0 B", "598 B", "3.4 KB", "262.1 KB"]


def test_lists_that_no_row_can_hold_when_they_are_full_are_named():
    made = [
        Aggregation("x", "count_distinct", "7d", max_distinct=100_000),
        Aggregation("x", "count_distinct", "1d"),
        Aggregation("x", "last_n", "1d", n=30_000, name="newest"),
        Aggregation("x", "last_n", "1d", n=100, name="few"),
    ]
    found = too_large(window_layout(made, {"x": Float64}))
    # two features of one column share a list
    assert set(found) == {"x_count_distinct_7d", "newest", "few"}
    assert "from about 21,844 values on it is UNAVAILABLE online" in found["x_count_distinct_7d"]
