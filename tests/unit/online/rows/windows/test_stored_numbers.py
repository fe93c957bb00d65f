"""Lists of numbers changed as they are stored, against the same changes of the decoded lists."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.windows import codec
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.passed import Passed, widths_of
from headwater.online.rows.windows.row import WindowRow, add_statements, blank_row
from headwater.online.rows.windows.stored_numbers import StoredNumbers
from headwater.planning.windows.layout import WindowLayout, window_layout
from headwater.planning.windows.rule import floor_to
from headwater.testing import SCALE
from headwater.types import Bool, Date, Float32, Float64, Int32, Int64, Timestamp
from tests.unit.online.rows.windows.drawn import COLUMNS, aggregations, event_of, statements
from tests.unit.online.rows.windows.test_codec import content
from tests.unit.online.rows.windows.test_rows import TOLERANCE, at

MORE = COLUMNS | {"f": Float32, "i": Int32, "t": Timestamp, "d": Date}
NUMBERS = ("count", "rate", "sum", "mean", "min", "max", "var_pop", "stddev_samp")


@st.composite
def numbers(draw: Any) -> WindowLayout:
    """The layout of aggregations over numbers, and sometimes others."""
    made = draw(st.lists(aggregations(offsets=False).filter(lambda a: a.function in NUMBERS), min_size=1, max_size=5))
    return window_layout([*made, *draw(st.lists(aggregations(), max_size=1))], MORE)


def decoded(layout: WindowLayout, data: bytes) -> WindowRow:
    """The row with every list decoded."""
    row = decode_row(layout, data)
    for each in row.lists:
        assert each.boundaries is not None
    return row


@settings(max_examples=100 * SCALE)
@given(numbers(), statements(span=200), st.integers(0, 2**32))
def test_changed_as_it_is_stored_it_is_the_decoded_list_changed(layout, rows, seed):
    r = random.Random(seed)
    if r.random() < 0.7:
        rows = sorted(rows, key=lambda row: row.event)
    kept = encode_row(layout, blank_row(layout))
    while rows:
        size = r.choice([1, 1, 1, 2, 4])
        events, rows = [event_of(row) for row in rows[:size]], rows[size:]
        one, other = decode_row(layout, kept), decoded(layout, kept)
        copy = one.copy()
        add_statements(layout, one, events, TOLERANCE)
        add_statements(layout, other, events, TOLERANCE)
        assert encode_row(layout, one) == encode_row(layout, other)
        assert encode_row(layout, copy) == kept
        kept = encode_row(layout, one)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (Float64, [1.5, float("nan"), -1.0, 0.0, float("inf"), float("-inf")]),
        (Float32, [1.5, 0.25, -3.0]),
        (Int64, [2**62, 2**62, -(2**63), 2**63 - 1, 5]),
        (Int32, [-5, 7, 7]),
        (Bool, [1, 0, 1]),
        (Timestamp, [5, -5, 7]),
        (Date, [3, 1, 2]),
    ],
    ids=str,
)
def test_every_dtype(dtype, values):
    functions = NUMBERS if dtype.name not in ("timestamp", "date") else ("count", "min", "max")
    layout = window_layout(
        [Aggregation("v", f, w, name=f"{f}{w}") for f in functions for w in ("1h", "3h", None) if w or f != "rate"],
        {"v": dtype},
    )
    one, other = (blank_row(layout) for _ in range(2))
    for i, value in enumerate(values * 8):
        event = event_of(at(i * 700, 0.0, "x", i + 1))._replace(values={"v": value})
        one, other = decode_row(layout, encode_row(layout, one)), decoded(layout, encode_row(layout, other))
        for row in (one, other):
            add_statements(layout, row, [event], TOLERANCE)
        # the sign of a NaN is nobody's
        assert content(decoded(layout, encode_row(layout, one))) == content(other), i


def test_an_ordinary_update_decodes_no_list(monkeypatch):
    functions = ("count", "sum", "mean", "min", "max", "var_pop")
    layout = window_layout([Aggregation("x", f, w) for f in functions for w in ("1h", "1d", "30d", None)], COLUMNS)
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(i * 400, i % 7, "x", i)) for i in range(400)], TOLERANCE)
    data = encode_row(layout, row)
    monkeypatch.setattr(codec, "unpack_list", None)
    for i in range(400, 420):
        row = decode_row(layout, data)
        add_statements(layout, row, [event_of(at(i * 400 - 900 * (i % 2), i % 5, "x", i))], TOLERANCE)
        assert all(isinstance(each, StoredNumbers) for each in row.lists)
        data = encode_row(layout, row)


def test_a_list_that_is_asked_for_its_records_is_decoded_for_good():
    layout = window_layout([Aggregation("x", "sum", "1h")], COLUMNS)
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(5, 2.0))], TOLERANCE)
    (kept,) = decode_row(layout, encode_row(layout, row)).lists
    assert isinstance(kept, StoredNumbers) and kept.stored() is not None
    assert kept.states == [(1, 2.0)] and kept.lifetime is None and not kept.lifetime_left_out
    kept.states, kept.left_out = [], 3
    assert kept.stored() is None and kept.copy().left_out == 3 and not kept.copy().states
    assert not kept.pruned(Passed(0, 0, 0))


@given(st.integers(-200, 200), st.integers(0, 200), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50))))
def test_the_edges_that_windows_passed(before, more, windows):
    after, widths = before + more, tuple({hop: hop + width for hop, width in windows}.items())
    starts, edges = Passed(before, after, TOLERANCE).of(widths)
    assert starts == [(hop, floor_to(after - hop - TOLERANCE - width, hop)) for hop, width in widths]
    right = [
        edge
        for (hop, start), (_, width) in zip(starts, widths, strict=True)
        for edge in range(floor_to(before - hop - TOLERANCE - width, hop), start, hop)
    ]
    assert edges == right if len(right) <= 48 else edges is None
    assert widths_of(window_layout([Aggregation("x", "sum", "1h")], COLUMNS).lists[0])
