"""Rows made of the events of many keys at once, beside rows that take one event after another."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows import lists, merged_rows
from headwater.online.rows.windows.building import pieces
from headwater.online.rows.windows.building.rows import put_events
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.list_bytes import pack_list
from headwater.online.rows.windows.merged_rows import merge_rows
from headwater.online.rows.windows.reading import holds_from, read_row
from headwater.online.rows.windows.row import WindowRow, blank_row
from headwater.planning.windows.columns import Column
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.kinds import SPREAD, TOTAL
from headwater.planning.windows.layout import WindowLayout
from headwater.planning.windows.statements import Statements, without_repeats
from headwater.planning.windows.values import result_array
from headwater.testing.window_oracle import Statement
from headwater.testing.window_rows import build_row
from tests.unit.online.rows.windows.drawn import COLUMNS, event_of, layout_of, layouts, statements

TOLERANCE = 3
TEXTS = [("min", None), ("max", None), ("last", None), ("first_n", 2), ("last_n", 2), ("last_n_distinct", 2)]
WIDTHS = [("20us", "2us"), (None, None)]


def arrays_of(layout: WindowLayout, keys: list[list[WindowEvent]]) -> Statements:
    """The statements of keys as arrays."""
    rows = [(key, event) for key, events in enumerate(keys) for event in events]

    def each(values: Any, form: Any = np.int64) -> Any:
        return np.array(list(values), form)

    columns = {
        name: Column.of(result_array(dtype, [event.values[name] for _, event in rows]), dtype)
        for name, dtype in COLUMNS.items()
    }
    holds = {text: each((text in event.holds for _, event in rows), bool) for text in layout.conditions}
    return Statements(
        each(key for key, _ in rows),
        each(event.event for _, event in rows),
        each(event.created for _, event in rows),
        each((event.from_log for _, event in rows), bool),
        each(event.position for _, event in rows),
        columns,
        holds,
        (each((e.id or 0 for _, e in rows), np.uint64), each((e.id is not None for _, e in rows), bool)),
    )


def built(layout: WindowLayout, keys: list[list[WindowEvent]]) -> list[WindowRow]:
    """The rows of keys, at once."""
    given = arrays_of(layout, keys)
    index, _ = without_repeats(given, np.arange(len(given.key)), given.key)
    rows = [blank_row(layout, fill=7, applied_through=40) for _ in keys]
    put_events(layout, rows, given.take(index), TOLERANCE)
    return rows


def one_by_one(layout: WindowLayout, events: list[WindowEvent]) -> WindowRow:
    row = blank_row(layout, fill=7, applied_through=40)
    build_row(layout, row, events, TOLERANCE)
    return row


def assert_same(layout: WindowLayout, row: WindowRow, other: WindowRow, events: list[WindowEvent]) -> None:
    """Equal to the byte, but for sums and means of floats, which depend on the order: these within the stated error."""
    stored, right = encode_row(layout, row), encode_row(layout, other)
    if stored == right:
        return
    assert len(stored) == len(right)
    # all but the lists
    assert stored[: stored[63]] == right[: right[63]]
    for each, mine, its in zip(layout.lists, row.lists, other.lists, strict=True):
        floats = each.dtype is not None and each.dtype.name.startswith("float")
        if each.kind != SPREAD and not (each.kind == TOTAL and floats):
            assert pack_list(each, mine, layout.step) == pack_list(each, its, layout.step), each
            continue
        assert mine.boundaries == its.boundaries
        total = sum(abs(e.values[each.column] or 0) for e in events if is_finite(e.values[each.column]))
        for a, b in zip([*mine.states, mine.lifetime], [*its.states, its.lifetime], strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a[0] == b[0] and agree(each.kind, a, b, total)), (each, a, b)


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def agree(kind: str, state: Any, other: Any, total: float) -> bool:
    """Whether two states of floats are the same within twice the stated error."""
    count = state[0]
    if math.isinf(total if kind == TOTAL else total * total):
        # not compared: the sum of their sizes is beyond the largest double, or a square
        return True
    if not all(map(math.isfinite, (*state, *other))):
        # the mean of what is not finite is asked of the sum
        return kind == SPREAD or repr(state) == repr(other)
    if abs(state[1] - other[1]) > 2 * count * 2**-53 * total:
        return False
    if kind == TOTAL:
        return True
    squares = other[2]
    if squares == 0:
        return state[2] == 0
    return abs(state[2] - squares) <= 2 * count * 2**-52 * math.sqrt(1 + other[1] ** 2 * count / squares) * squares


@given(st.data(), layouts())
def test_rows_made_at_once_are_those_made_event_by_event(data: st.DataObject, layout: WindowLayout) -> None:
    span = data.draw(st.sampled_from([6, 60, 600]))
    keys = [
        list(map(event_of, rows))
        for rows in data.draw(st.lists(statements(span=span, ids=data.draw(st.booleans())), min_size=1, max_size=4))
    ]
    for row, events in zip(built(layout, keys), keys, strict=True):
        assert_same(layout, row, one_by_one(layout, events), events)


def in_pieces(layout: WindowLayout, events: list[WindowEvent], ends: list[int]) -> WindowRow:
    """The row of a key from rows of the events between some times, the newest first."""
    pieces: dict[int, list[WindowEvent]] = {}
    for event in events:
        pieces.setdefault(bisect_left(ends, event.event), []).append(event)
    row: WindowRow | None = None
    for number in sorted(pieces, reverse=True):
        (own,) = built(layout, [pieces[number]])
        row = own if row is None else merge_rows(layout, (row, own), TOLERANCE)
    assert row is not None
    return row


ENDS = st.lists(st.integers(-300, 300), max_size=6).map(sorted)


@given(st.data(), layouts(), ENDS)
def test_rows_merged_of_pieces_are_those_made_event_by_event(
    data: st.DataObject, layout: WindowLayout, ends: list[int]
) -> None:
    span = data.draw(st.sampled_from([6, 60, 600]))
    events = list(map(event_of, data.draw(statements(span=span, ids=data.draw(st.booleans())))))
    if events:
        row, right = in_pieces(layout, events, ends), one_by_one(layout, events)
        # as they are read back
        assert_same(layout, *(decode_row(layout, encode_row(layout, each)) for each in (row, right)), events)


@given(st.lists(statements(), min_size=1, max_size=3), st.data())
def test_what_exceeds_a_bound_is_left_out_as_event_by_event(rows: list[list[Statement]], data: st.DataObject) -> None:
    made = []
    for width, hop in WIDTHS:
        made += [Aggregation("s", function, width, hop=hop, n=n, name=f"{function} {width}") for function, n in TEXTS]
        made.append(Aggregation("n", "quantile", width, hop=hop, q=0.5, name=f"q {width}"))
        made.append(Aggregation("n", "count_distinct", width, hop=hop, max_distinct=16, name=f"d {width}"))
    layout = layout_of(made)
    long = data.draw(st.sets(st.integers(0, 9)))
    keys = [
        [
            event._replace(values=event.values | {"s": "x" * 1_100} if i in long else event.values)
            for i, event in enumerate(map(event_of, each))
        ]
        for each in rows
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lists, "MOST_BINS", 2)
        patched.setattr(pieces, "MOST_BINS", 2)
        patched.setattr(merged_rows, "MOST_BINS", 2)
        ends = data.draw(ENDS)
        for row, events in zip(built(layout, keys), keys, strict=True):
            right = one_by_one(layout, events)
            assert encode_row(layout, row) == encode_row(layout, right)
            if events:
                merged = in_pieces(layout, events, ends)
                for now in data.draw(st.lists(st.integers(0, 60))):
                    at = holds_from(right) + now
                    assert read_row(layout, merged, at) == read_row(layout, right, at)
