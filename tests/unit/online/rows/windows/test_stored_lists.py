"""Lists of numbers changed as they are stored, against the same changes of the decoded lists."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows import stored_events, stored_lists
from headwater.online.rows.windows.codec import decode_row, encode_row
from headwater.online.rows.windows.codec_of_many import decode_rows
from headwater.online.rows.windows.reading import read_row
from headwater.online.rows.windows.row import WindowRow, add_statements, add_to_each, blank_row, empty
from headwater.online.rows.windows.selectable import ends_of
from headwater.planning.windows.layout import WindowLayout, window_layout
from headwater.planning.windows.rule import floor_to
from headwater.testing import rounds
from headwater.types import Bool, Date, Float32, Float64, Int32, Int64, Timestamp
from tests.unit.online.rows.windows.drawn import COLUMNS, aggregations, event_of, events_of_rows, statements
from tests.unit.online.rows.windows.drawn import NUMBERS as SPECIAL_COLUMNS
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
    assert len(list(row.lists)) == len(layout.lists)
    return row


def is_same(layout: WindowLayout, one: bytes, other: bytes) -> bool:
    """Whether two rows are the same bytes, but for the signs of NaN, which are nobody's."""
    if one == other:
        return True
    return len(one) == len(other) and content(decoded(layout, one)) == content(decoded(layout, other))


@settings(max_examples=rounds(100))
@given(numbers(), statements(span=200), st.integers(0, 2**32))
def test_changed_as_it_is_stored_it_is_the_decoded_list_changed(layout, rows, seed):
    r = random.Random(seed)
    if r.random() < 0.7:
        rows = sorted(rows, key=lambda row: row.event)
    kept, goes_on = encode_row(layout, blank_row(layout)), False
    while rows:
        size = r.choice([1, 1, 1, 2, 4])
        events, rows = [event_of(row) for row in rows[:size]], rows[size:]
        if not goes_on:
            one, other = decode_row(layout, kept), decoded(layout, kept)
        goes_on = r.random() < 0.2
        copy = one.copy()
        add_statements(layout, one, events, TOLERANCE)
        add_statements(layout, other, events, TOLERANCE)
        assert is_same(layout, encode_row(layout, one), encode_row(layout, other))
        assert encode_row(layout, copy) == kept
        kept = encode_row(layout, one)


@settings(max_examples=rounds(100))
@given(numbers(), st.lists(statements(span=200), min_size=1, max_size=4), st.integers(0, 2**32))
def test_many_rows_changed_at_once_are_each_changed(layout, given_rows, seed):
    r = random.Random(seed)
    given_rows = [sorted(rows, key=lambda row: row.event + r.choice([0, 0, 50])) for rows in given_rows]
    events = [[event_of(row) for row in rows] for rows in given_rows]
    kept = [encode_row(layout, blank_row(layout)) for _ in events]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_events, "MANY", 1)
        for step in range(max(map(len, events))):
            due = [(i, some[step : step + 1]) for i, some in enumerate(events) if step < len(some)]
            together = [(decode_row(layout, kept[i]), some) for i, some in due]
            add_to_each(layout, together, TOLERANCE)
            for (i, some), (row, _) in zip(due, together, strict=True):
                right = decoded(layout, kept[i])
                add_statements(layout, right, some, TOLERANCE)
                kept[i] = encode_row(layout, row)
                assert is_same(layout, kept[i], encode_row(layout, right))


@st.composite
def number_layouts(draw: Any) -> WindowLayout:
    """Lists of every kind over columns of every dtype of numbers, some of whose windows begin alike."""
    functions = draw(st.lists(st.sampled_from(NUMBERS_OF), min_size=1, max_size=6, unique=True))
    windows = draw(
        st.lists(st.sampled_from([(1, 7), (5, 40), (7, 50), (10, 10), None]), min_size=1, max_size=3, unique=True)
    )
    made = []
    for function, column in functions:
        for window in windows:
            options = {} if window is None else {"hop": timedelta(microseconds=window[0])}
            width = None if window is None else timedelta(microseconds=window[1])
            made.append(Aggregation(column, function, width, name=f"f{len(made)}", **options))
    return window_layout(made, SPECIAL_COLUMNS)


NUMBERS_OF = [
    (function, column)
    for column, dtype in SPECIAL_COLUMNS.items()
    for function in ("count", "sum", "mean", "min", "max", "var_pop")
    if dtype.name not in ("timestamp", "date") or function in ("count", "min", "max")
]


@settings(max_examples=rounds(30))
@given(number_layouts(), st.integers(1, 5), st.integers(0, 2**32))
def test_special_values_in_many_rows_at_once(layout, rounds, seed):
    kept = [encode_row(layout, blank_row(layout))] * 40
    plain = kept
    for events in events_of_rows(random.Random(seed), 40, rounds, 100):
        due = [(i, event) for i, event in enumerate(events) if event is not None]
        together = list(zip(decode_rows(layout, [kept[i] for i, _ in due]), [[e] for _, e in due], strict=True))
        add_to_each(layout, together, TOLERANCE)
        kept, plain = kept.copy(), plain.copy()
        for (i, event), (row, _) in zip(due, together, strict=True):
            right = decoded(layout, plain[i])
            add_statements(layout, right, [event], TOLERANCE)
            kept[i], plain[i] = encode_row(layout, row), encode_row(layout, right)
            assert is_same(layout, kept[i], plain[i])


@settings(max_examples=rounds(20))
@given(number_layouts(), st.integers(1, 4), st.integers(0, 2**32))
def test_several_events_of_many_rows_at_once(layout, size, seed):
    rounds = events_of_rows(random.Random(seed), 40, 4, 100)
    kept = [encode_row(layout, blank_row(layout))] * 40
    for start in range(0, len(rounds), size):
        some = [[e for e in events if e is not None] for events in zip(*rounds[start : start + size], strict=True)]
        rows, right = decode_rows(layout, kept), [decoded(layout, data) for data in kept]
        add_to_each(layout, list(zip(rows, some, strict=True)), TOLERANCE)
        kept = [encode_row(layout, row) for row in rows]
        for data, row, events in zip(kept, right, some, strict=True):
            add_statements(layout, row, events, TOLERANCE)
            # of two equal records one or the other stays, as events come one by one or together
            for now in (row.newest_known + more for more in (0, 1, 4, 30, 1_000)):
                assert repr(read_row(layout, decode_row(layout, data), now)) == repr(read_row(layout, row, now))


@settings(max_examples=rounds(60))
@given(numbers(), statements(span=200, ids=True), st.integers(0, 2**32))
def test_many_rows_decoded_at_once_are_each_decoded(layout, rows, seed):
    r = random.Random(seed)
    stored = []
    for number in range(20):
        row = blank_row(layout, fill=number, applied_through=r.randrange(3), known_through=r.randrange(-5, 5))
        if r.random() < 0.3:
            empty(row, r.randrange(-9, 9), r.randrange(9))
        add_statements(layout, row, [event_of(each) for each in rows[: r.randrange(len(rows) + 1)]], TOLERANCE)
        row.sequence, row.run, row.rebuild = r.randrange(1, 1 << 48), number % 3, r.random() < 0.2
        row.listed = frozenset(range(4, 4 + r.choice([0, 0, 2])))
        data = bytearray(encode_row(layout, row, key=b"a long key" if r.random() < 0.1 else None))
        if r.random() < 0.3:
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        if r.random() < 0.1:
            del data[r.randrange(len(data)) :]
        stored.append(bytes(data))
    if r.random() < 0.5:
        stored = [data for data in stored if len(data) % 8 == 0 and len(data) >= 64]
    for data, made in zip(stored, decode_rows(layout, stored), strict=True):
        try:
            right = decode_row(layout, data)
        except Damaged as bad:
            assert isinstance(made, Damaged) and str(made) == str(bad)
        else:
            assert isinstance(made, WindowRow)
            assert made.lists.split() == right.lists.split()
            assert _content_or_damage(made) == _content_or_damage(right)


def _content_or_damage(row: WindowRow) -> str:
    # a list that is kept as it is stored may only be found damaged when it is decoded
    try:
        return content(row)
    except Damaged as bad:
        return f"damaged: {bad}"


@settings(max_examples=rounds(60))
@given(numbers(), statements(span=200), st.integers(0, 2**32))
def test_damage_is_found_by_whoever_decodes_or_changes_a_row(layout, rows, seed):
    r = random.Random(seed)
    row = blank_row(layout)
    add_statements(layout, row, [event_of(each) for each in rows[1:]], TOLERANCE)
    data = bytearray(encode_row(layout, row))
    for _ in range(r.choice([1, 1, 2, 8])):
        i = r.randrange(64, len(data))
        data[i : i + 1] = bytes([r.choice([0, 255, data[i] ^ 1 << r.randrange(8)])])
    for given_event in [event_of(each) for each in rows[:1]]:
        try:
            row = decode_row(layout, bytes(data))
            add_statements(layout, row, [given_event], TOLERANCE)
            made = decode_row(layout, encode_row(layout, row))
            assert len(list(made.lists)) == len(layout.lists)
            encode_row(layout, made)
        except Damaged as bad:
            assert str(bad)


@pytest.mark.parametrize("many", [False, True])
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
def test_every_dtype(dtype, values, many, monkeypatch):
    monkeypatch.setattr(stored_events, "MANY", 1 if many else 32)
    functions = NUMBERS if dtype.name not in ("timestamp", "date") else ("count", "min", "max")
    layout = window_layout(
        [Aggregation("v", f, w, name=f"{f}{w}") for f in functions for w in ("1h", "3h", None) if w or f != "rate"],
        {"v": dtype},
    )
    one, other = (blank_row(layout) for _ in range(2))
    for i, value in enumerate(values * 8):
        # every third is late: records after it are not its own
        event = event_of(at(i * 700 - 2_100 * (i % 3 == 2), 0.0, "x", i + 1))._replace(values={"v": value})
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
    monkeypatch.setattr(stored_lists, "unpack_list", None)
    for i in range(400, 420):
        row = decode_row(layout, data)
        add_statements(layout, row, [event_of(at(i * 400 - 900 * (i % 2), i % 5, "x", i))], TOLERANCE)
        data = encode_row(layout, row)


def test_a_list_that_is_asked_for_its_records_is_decoded_for_good():
    layout = window_layout([Aggregation("x", "sum", "1h")], COLUMNS)
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(5, 2.0))], TOLERANCE)
    row = decode_row(layout, encode_row(layout, row))
    (kept,) = row.lists
    assert kept.states == [(1, 2.0)] and kept.lifetime is None and not kept.lifetime_left_out
    kept.states, kept.left_out = [], 3
    assert row.lists[0] is kept
    assert row.copy().lists[0].left_out == 3 and decode_row(layout, encode_row(layout, row)).lists[0].left_out == 3


@given(st.integers(-200, 200), st.integers(0, 200), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50))))
def test_the_ends_that_windows_passed(before, more, windows):
    after = before + more
    given_windows = {hop: (hop, hop, hop + width) for hop, width in windows}
    ends = ends_of(tuple(given_windows.values()), before, after, TOLERANCE)
    least = [
        (hop, *(floor_to(t - back - TOLERANCE, hop) for t in (before, after)))
        for _, hop, back in given_windows.values()
    ]
    assert list(ends.starts) == [(hop, now) for hop, _, now in least]
    assert list(ends.moved) == [(hop, old, now) for hop, old, now in least if old != now]
