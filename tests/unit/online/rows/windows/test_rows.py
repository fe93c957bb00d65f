"""A row after any order of events against the reference, at any instant from which its reads hold."""

import random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows import lists
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.lists import selectable_of, selectable_of_many
from headwater.online.rows.windows.reading import LEFT_OUT, OVERFLOWS, read_row
from headwater.online.rows.windows.row import WindowRow, add_statements, blank_row, empty
from headwater.planning.windows.layout import WindowLayout
from headwater.planning.windows.states.sums import Totals
from headwater.testing import rounds
from headwater.testing.oracle import Delete
from headwater.testing.window_oracle import Statement
from headwater.testing.window_rows import build_row
from headwater.types import Status
from tests.unit.online.rows.windows.drawn import KEY, event_of, is_right, layout_of, layouts, right_values, statements

TOLERANCE = 3


def put(layout: WindowLayout, rows: list[Statement], r: random.Random, row: WindowRow | None = None) -> WindowRow:
    """A row after statements in a random order, some of them together."""
    row = blank_row(layout) if row is None else row
    order = r.sample(rows, len(rows))
    while order:
        size = r.choice([1, 1, 2, 5])
        add_statements(layout, row, [event_of(each) for each in order[:size]], TOLERANCE)
        order = order[size:]
        if r.random() < 0.3:
            row = decode_row(layout, encode_row(layout, row))
    return row


def check(layout: WindowLayout, row: WindowRow, rows: list[Statement], deletes: Any = ()) -> None:
    newest = max((each.known_at for each in rows), default=-100)
    for now in [*range(newest, newest + 12), *range(newest + 12, newest + 90, 7), newest + 10**9]:
        values = read_row(layout, row, now)
        for right, value in zip(right_values(layout, rows, deletes, now), values, strict=True):
            assert is_right(right, value), (now, right, value)


@settings(max_examples=rounds(100))
@given(layouts(), statements(), st.integers(0, 2**32))
def test_a_row_after_any_order_of_events_is_the_reference(layout, rows, seed):
    check(layout, put(layout, rows, random.Random(seed)), rows)


@settings(max_examples=rounds(60))
@given(layouts(3), statements(), statements(), st.integers(0, 2**32))
def test_a_row_goes_on_after_it_was_read_for_a_while(layout, first, second, seed):
    r = random.Random(seed)
    row = put(layout, first, r)
    check(layout, row, first)
    later = [Statement(KEY, s.values, s.event, s.created, s.from_log, s.position + 100 * s.from_log) for s in second]
    check(layout, put(layout, later, r, row), first + later)


@settings(max_examples=rounds(60))
@given(layouts(3), statements(ids=True), st.integers(0, 2**32))
def test_an_event_that_is_said_twice_counts_once(layout, rows, seed):
    r = random.Random(seed)
    row = blank_row(layout)
    # in the order in which they are known, as a log that is never late has them
    for each in sorted(rows, key=lambda s: (s.rank[:3], r.random())):
        add_statements(layout, row, [event_of(each)], TOLERANCE)
    together = blank_row(layout)
    add_statements(layout, together, [event_of(each) for each in r.sample(rows, len(rows))], TOLERANCE)
    for made in (row, together):
        assert not made.rebuild
        ties = {(s.event_id, s.event, s.rank[:3]) for s in rows if s.event_id is not None and not s.from_log}
        if len(ties) == sum(s.event_id is not None and not s.from_log for s in rows):
            check(layout, made, rows)


def test_a_lesser_statement_of_an_event_asks_for_a_rebuild():
    layout = layout_of([Aggregation("x", "sum", None)])
    rows = [Statement(KEY, dict.fromkeys("xnsba", None), 5, created, True, 9, "id") for created in (7, 6)]
    row = blank_row(layout)
    for each in rows:
        add_statements(layout, row, [event_of(each)], TOLERANCE)
    assert row.rebuild


def test_an_id_that_the_row_no_longer_has_asks_for_a_rebuild():
    layout = layout_of([Aggregation(None, "count", None)])
    values = dict.fromkeys("xnsba", None)
    row = blank_row(layout)
    for i in range(130):
        add_statements(layout, row, [event_of(Statement(KEY, values, i, i, True, i + 1, f"id{i}"))], TOLERANCE)
    assert len(row.ids) == 128 and row.ids_after == 1 and not row.rebuild
    add_statements(layout, row, [event_of(Statement(KEY, values, 2, 2, True, 200, "id2"))], TOLERANCE)
    assert not row.rebuild
    add_statements(layout, row, [event_of(Statement(KEY, values, 1, 1, True, 201, "another"))], TOLERANCE)
    assert row.rebuild and read_row(layout, row, 500)[0].value == 130


@settings(max_examples=rounds(60))
@given(layouts(3), statements(), st.integers(-40, 70), st.integers(0, 2**32))
def test_a_delete_empties_the_row_and_the_rest_is_merged_again(layout, rows, through, seed):
    r = random.Random(seed)
    row = put(layout, rows, r)
    empty(row, through, 13)
    rest = [each for each in rows if not row.hides(event_of(each))]
    row = put(layout, rest, r, row)
    newest = max([each.known_at for each in rest] + [through])
    for now in range(newest, newest + 60, 5):
        values = read_row(layout, row, now)
        for right, value in zip(right_values(layout, rows, [Delete(KEY, through, 13)], now), values, strict=True):
            assert is_right(right, value), (now, right, value)


@settings(max_examples=rounds(60))
@given(layouts(), statements(), st.integers(0, 2**32), st.integers(150, 400))
def test_what_is_left_out_is_unavailable_and_the_rest_is_right(layout, rows, seed, limit):
    r = random.Random(seed)
    row, left_out = blank_row(layout), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "LONGEST_TEXT", 1)
        patch.setattr(lists, "MOST_BINS", 3)
        for each in r.sample(rows, len(rows)):
            add_statements(layout, row, [event_of(each)], TOLERANCE)
            if r.random() < 0.2:
                row = decode_row(layout, encode_row(layout, row, limit=limit))
    newest = max((each.known_at for each in rows), default=-100)
    for now in range(newest, newest + 80, 6):
        for right, value in zip(right_values(layout, rows, (), now), read_row(layout, row, now), strict=True):
            window = right.feature.window
            if value.problem == LEFT_OUT:
                left_out += 1
            else:
                assert is_right(right, value), (now, right, value)
            held = row.lists[right.feature.list]
            nothing = held.left_out is None and not held.lifetime_left_out
            if nothing or (window.width is not None and window.start(now) > (held.left_out or now)):
                assert value.problem != LEFT_OUT
    event(f"left out: {left_out > 0}")


@given(
    st.sets(st.integers(-60, 60) | st.integers(-(2**62), 2**62)).map(sorted),
    st.lists(st.tuples(st.integers(1, 12), st.integers(-70, 70)), max_size=3),
)
def test_many_records_are_looked_at_as_few_are(boundaries, starts):
    assert selectable_of_many(boundaries, starts) == selectable_of(boundaries, starts)


def at(seconds_after: float, value: Any, name: str = "x", position: int = 1) -> Statement:
    micros = round(seconds_after * 1_000_000)
    return Statement(KEY, {**dict.fromkeys("xnsba", None), name: value}, micros, micros, True, position)


@pytest.mark.parametrize("events", [1, 30])
def test_a_row_does_not_grow_with_its_events(events):
    layout = layout_of(
        [Aggregation("x", function, f"{w}d") for function in ("sum", "max", "var_pop") for w in (1, 7, 30)]
    )
    row = blank_row(layout)
    for day in range(100):
        for i in range(events):
            add_statements(layout, row, [event_of(at(86_400 * day + i * 2_000, float(i)))], TOLERANCE)
    assert max(len(each.boundaries) for each in row.lists) <= 24 * 8 + 31


def test_tiles_of_a_long_window_are_not_kept_in_the_steps_of_a_short_one():
    layout = layout_of([Aggregation("x", "quantile", "30d", q=0.5), Aggregation("x", "sum", "1h")])
    row = blank_row(layout)
    for i in range(2_000):
        add_statements(layout, row, [event_of(at(i * 600, 1.0))], TOLERANCE)
    tiles = next(each for each, plan in zip(row.lists, layout.lists, strict=True) if plan.kind == "bins")
    assert len(tiles.boundaries) <= 16


def test_long_text_is_left_out_of_its_list_until_no_window_reaches_it():
    layout = layout_of([Aggregation("s", f, w, hop=None) for f in ("max", "last") for w in ("1h", None)])
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(10, "a", "s", 1)), event_of(at(600, "b" * 1_025, "s", 2))], TOLERANCE)
    add_statements(layout, row, [event_of(at(1_200, "c", "s", 3)), event_of(at(1_300, "d" * 1_024, "s", 4))], TOLERANCE)
    for now, status in ((1_300, Status.UNAVAILABLE), (3_900, Status.UNAVAILABLE), (4_800, Status.PRESENT)):
        short, lifetime, short_last, lifetime_last = read_row(layout, row, now * 1_000_000)
        assert (short.status, short_last.status) == (status, status)
        assert lifetime.status is lifetime_last.status is Status.UNAVAILABLE and lifetime.problem == LEFT_OUT
    assert short.value == short_last.value == "d" * 1_024
    # the positions stay true: what is left out is of one list alone
    assert row.newest_event == 1_300_000_000


def test_more_bins_than_a_tile_holds_are_left_out():
    layout = layout_of([Aggregation("x", "quantile", "1h", q=0.5), Aggregation("x", "quantile", None, q=0.5)])
    row = blank_row(layout)
    numbers = [2.0 ** (i // 64) * (1 + i % 64 / 64) for i in range(2_049)]
    add_statements(layout, row, [event_of(at(10, number)) for number in numbers[:2_048]], TOLERANCE)
    assert [each.status for each in read_row(layout, row, 20_000_000)] == [Status.PRESENT] * 2
    add_statements(layout, row, [event_of(at(11, numbers[-1]))], TOLERANCE)
    assert [each.status for each in read_row(layout, row, 20_000_000)] == [Status.UNAVAILABLE] * 2
    add_statements(layout, row, [event_of(at(400, 7.0))], TOLERANCE)
    hour, lifetime = read_row(layout, row, 4_000_000_000)
    assert hour.status is Status.PRESENT and lifetime.status is Status.UNAVAILABLE


def test_an_overflow_is_of_the_windows_own_total():
    layout = layout_of(
        [
            Aggregation("n", "sum", "1h"),
            Aggregation("n", "mean", "1h"),
            Aggregation("n", "sum", "1h", errors="null", name="m"),
        ]
    )
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(i, 2**62, "n", i)) for i in (1, 2)], TOLERANCE)
    total, mean, null = read_row(layout, row, 10_000_000)
    assert (total.status, total.problem, mean.value, null.status) == (
        Status.UNAVAILABLE,
        OVERFLOWS,
        2.0**62,
        Status.NULL,
    )
    add_statements(layout, row, [event_of(at(3, -5, "n", 3))], TOLERANCE)
    assert read_row(layout, row, 10_000_000)[0].value == 2**63 - 5


def test_an_entity_that_was_never_seen_is_one_without_events():
    layout = layout_of(
        [
            Aggregation("x", "sum", "1h", default=0.0),
            Aggregation(None, "count", None),
            Aggregation("x", "last_n", "1h", n=2),
        ]
    )
    assert read_row(layout, None, 5) == read_row(layout, blank_row(layout), 5)
    assert [(v.value, v.status) for v in read_row(layout, None, 5)] == [
        (0.0, Status.NULL),
        (0, Status.PRESENT),
        ((), Status.PRESENT),
    ]


@settings(max_examples=rounds(60))
@given(layouts(), statements(span=400), st.integers(0, 2**32))
def test_a_row_that_is_built_at_once_equals_the_reference(layout, rows, seed):
    row = blank_row(layout)
    build_row(layout, row, map(event_of, random.Random(seed).sample(rows, len(rows))), TOLERANCE)
    check(layout, row, rows)
    check(layout, decode_row(layout, encode_row(layout, row)), rows)


def test_a_row_is_built_in_time_that_grows_with_its_events(monkeypatch):
    touched = []
    add_to_each = Totals.add_to_each

    def counted(self, states, entry):
        touched.append(len(states))
        return add_to_each(self, states, entry)

    monkeypatch.setattr(Totals, "add_to_each", counted)
    layout = layout_of([Aggregation("x", "mean", window) for window in ("1h", "7d", None)])
    hour = 3_600_000_000
    values = {**dict.fromkeys("nsba"), "x": 1.5}
    rows = [Statement(KEY, values, i * hour // 7, i * hour // 7, False, 0) for i in range(7 * 24 * 60)]
    row = blank_row(layout)
    build_row(layout, row, [event_of(each) for each in rows], TOLERANCE)
    assert sum(touched) <= len(rows)
    assert len(row.lists[0].boundaries) < 200
    assert [value.value for value in read_row(layout, row, rows[-1].event)] == [1.5, 1.5, 1.5]
    assert row.lists[0].lifetime == (len(rows), 1.5 * len(rows))
