"""Stored window rows: what was written is read, what was released stays readable, damage is never a row."""

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.rows.codec import is_newer, is_row, long_key
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import (
    LARGEST_ROW,
    VERSION_BYTE,
    decode_row,
    encode_row,
    next_sequence,
    row_problem,
)
from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.packing import Bytes, put_number, put_signed, put_value
from headwater.online.rows.windows.reading import LEFT_OUT, read_row
from headwater.online.rows.windows.row import MergedId, WindowRow, add_statements, blank_row
from headwater.planning.windows.values import stored_form
from headwater.testing import rounds
from headwater.types import Array, Date, Embedding, Status
from tests.unit.online.rows.windows.drawn import COLUMNS, VALUES, event_of, layout_of, layouts, statements
from tests.unit.online.rows.windows.test_rows import TOLERANCE, at, put

NUMBERS = st.integers(0, 2**55 - 1)
TIMES = st.integers(-(2**63) + 1, 2**63 - 1)


@st.composite
def headers(draw: Any) -> dict[str, Any]:
    applied = draw(NUMBERS)
    ids = st.builds(
        lambda event, later, log, position: MergedId(event, event + later, log, position),
        st.integers(-(2**60), 2**60),
        st.integers(0, 2**60),
        st.booleans(),
        NUMBERS,
    )
    return {
        "sequence": draw(st.integers(0, 2**48 - 1)),
        "fill": draw(NUMBERS),
        "run": draw(NUMBERS),
        "applied_through": applied,
        "listed": frozenset(applied + more for more in draw(st.sets(st.integers(1, 2**30), max_size=4))),
        "known_through": draw(TIMES),
        "rebuild": draw(st.booleans()),
        "newest_event": draw(TIMES),
        "newest_known": draw(TIMES),
        **draw(st.just({}) | st.fixed_dictionaries({"deleted_through": TIMES, "delete_position": NUMBERS})),
        **draw(st.just({}) | st.fixed_dictionaries({"ids": st.dictionaries(NUMBERS, ids), "ids_after": TIMES})),
    }


def content(row: WindowRow) -> Any:
    # NaN does not equal itself, and dicts and sets are in any order
    header = {name: getattr(row, name) for name in row.__struct_fields__ if name not in ("lists", "ids")}
    header |= {"listed": sorted(row.listed), "ids": sorted(row.ids.items())}
    return repr(([_list_content(each) for each in row.lists], sorted(header.items(), key=lambda item: item[0])))


def _list_content(each: RowList) -> Any:
    states = [_plain(state) for state in (*each.states, each.lifetime)]
    return each.boundaries, states, each.left_out, each.lifetime_left_out


def _plain(state: Any) -> Any:
    if isinstance(state, dict):
        return sorted(state.items())
    return (sorted(state.newest.items()), state.dropped) if hasattr(state, "newest") else state


@settings(max_examples=rounds(60))
@given(layouts(), statements(ids=True), st.integers(0, 2**32), headers(), st.none() | st.binary(max_size=40))
def test_what_is_written_is_read(layout, rows, seed, header, key):
    row = put(layout, rows, random.Random(seed))
    for name, value in header.items():
        setattr(row, name, value)
    data = encode_row(layout, row, key=key)
    assert content(decode_row(layout, data)) == content(row)
    assert long_key(data) == key
    assert row_problem(layout, data) == ""


@settings(max_examples=rounds(60))
@given(layouts(), statements(ids=True), st.data())
def test_damaged_bytes_are_damaged_or_another_row(layout, rows, data):
    whole = encode_row(layout, put(layout, rows, random.Random(1)), key=b"key")
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    i = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:i] + bytes([data.draw(st.integers(0, 255))]) + whole[i + 1 :]
    anything = data.draw(st.binary(max_size=99))
    for given_bytes in (cut, changed, anything, whole[:60] + anything):
        try:
            decode_row(layout, given_bytes)
        except Damaged as bad:
            assert str(bad)


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))
@example(2**64 - 1, -(2**63))
def test_numbers_of_few_bytes(number, signed):
    to = bytearray()
    put_number(to, number)
    put_signed(to, signed)
    data = Bytes(bytes(to))
    assert (data.number(), data.signed(), data.at) == (number, signed, len(to))


@pytest.mark.parametrize("dtype", [*COLUMNS.values(), Embedding(2), Array(Array(Date)), Array(Embedding(1))], ids=str)
@given(data=st.data())
def test_single_values(dtype, data):
    by_dtype = {each: VALUES[name] for name, each in COLUMNS.items()}
    floats = st.lists(st.floats(width=32), min_size=2, max_size=2)
    more = {
        Embedding(2): floats,
        Array(Array(Date)): st.lists(st.none() | st.lists(st.none() | st.dates(), max_size=2), max_size=2),
        Array(Embedding(1)): st.lists(st.none() | st.lists(st.floats(width=32), min_size=1, max_size=1), max_size=2),
    }
    value = data.draw(by_dtype.get(dtype, more.get(dtype)))
    if value is not None:
        to = bytearray()
        put_value(to, dtype, stored_form(dtype, value))
        assert repr(Bytes(bytes(to)).value(dtype)) == repr(stored_form(dtype, value))


def test_rows_of_one_kind_are_never_taken_for_the_other():
    layout = layout_of([Aggregation("x", "sum", "1h")])
    data = encode_row(layout, blank_row(layout))
    assert not is_row(data) and not is_newer(data)
    assert row_problem(layout, b"\xa2" + bytes(60)).startswith("not a window row")
    assert row_problem(layout, bytes([VERSION_BYTE + 1]) + data[1:]) == "written by a newer headwater"
    assert row_problem(layout, data[:1] + b"\x80" + data[2:]) == "written by a newer headwater"
    other = layout_of([Aggregation("x", "sum", "2h", hop="1h"), Aggregation("x", "max", "1h")])
    assert row_problem(other, data).startswith("of another layout")
    assert "cut short" in row_problem(layout, data[:30])


def test_a_sequence_is_never_given_twice():
    made, sequence = set(), 2**48 - 1
    for _ in range(1_000):
        sequence = next_sequence(sequence)
        made.add(sequence)
        assert 0 < sequence < 2**48
    assert len(made) == 1_000


def test_over_the_limit_the_largest_list_gives_way_first():
    layout = layout_of([Aggregation("s", "last_n", "1h", n=100, name="texts"), Aggregation("x", "sum", "1h")])
    row = blank_row(layout)
    add_statements(layout, row, [event_of(at(i, "t" * 500, "s", i + 1)) for i in range(100)], TOLERANCE)
    add_statements(layout, row, [event_of(at(99, 2.5, "x", 200))], TOLERANCE)
    assert len(encode_row(layout, row)) > 50_000
    data = encode_row(layout, row, limit=20_000)
    assert len(data) < 1_000
    texts, total = read_row(layout, decode_row(layout, data), 100_000_000)
    assert (texts.status, texts.problem, total.value) == (Status.UNAVAILABLE, LEFT_OUT, 2.5)
    assert row.newest_event == 99_000_000
    texts, _ = read_row(layout, decode_row(layout, data), 4_200_000_000)
    assert (texts.status, texts.value) == (Status.PRESENT, ())


def test_a_row_that_is_all_header_is_stored_all_the_same():
    layout = layout_of([Aggregation("x", "sum", "1h")])
    assert encode_row(layout, blank_row(layout), limit=10)


FIVE = ("count", "sum", "mean", "min", "max")


@pytest.mark.parametrize(("events_a_day", "limit"), [(1, 800), (100, 3_800), (2_000, 4_000)])
def test_the_bytes_of_an_entity_are_bounded(events_a_day, limit):
    layout = layout_of([Aggregation("x", function, w) for function in FIVE for w in ("1h", "1d", "7d", "30d")])
    row, r = blank_row(layout), random.Random(3)
    days = 40 if events_a_day < 2_000 else 31
    for day in range(days):
        times = sorted(r.randrange(86_400) for _ in range(events_a_day))
        events = [event_of(at(day * 86_400 + time, r.gauss(0, 1))) for time in times]
        for start in range(0, len(events), 50):
            add_statements(layout, row, events[start : start + 50], 5_000_000)
    assert len(encode_row(layout, row)) <= limit < LARGEST_ROW


GOLDEN = {
    "numbers": (
        "b105d5f15e0b0001deadbeef00060a24181e400000060a24181e400100000000000000077ffffffffffffffb8000000023c3"
        "46008000000023c346000000004802028703000000002800000098000000080100000000000008000100000000000046c323"
        "0000000003000000000000400300000000000040000000000000000008000300000000000000000000000000000000000000"
        "d043000000000000d043000000000000d043000000000000d043000000000000000000000000000000000000000000000000"
        "000000000000000000000000010000000200000004000000020000000100000004000000000000000a000300000000000000"
        "0000000000000600000000000000010000000000000005000000000000800000000000000000030000000000004000000000"
        "0000000006000000000000000100000000000000000000000100000002000000040000000200000001000000040000000000"
        "0000"
    ),
    "lists": (
        "b10aed56461c00000000000100000000000000000000000000000000000000000000000000000000000000008000000023c3"
        "46008000000023c34600000000a87ffffffffffffff9000000000000000300000000000000000515d548f926c92a8b000002"
        "01ce6bcdaa545d982980ade204000001bcd36091e39c5eb180dbfbb9010002018eedb74c67cb458b8088debe01000201d0a4"
        "4e4fedbd67e28088debe01000201000000003800000080000000a0000000c0000000f0000000100100000000010000000000"
        "2800000003000099e9d85137db46ef9b9ff31aa12a4578786fb4b8df57d71702000000010000000000000000000000000000"
        "030000000000000000000000000000000000010000000200000007000000110000001a0000000100000302c3a9018090bcfd"
        "02000701620180989abc040009000000000000000000010000000000120000000280989abc04000900ff87debe0100070162"
        "00000000010000000000120000000280989abc04000900ff87debe0100070162000000000300000000000000000000000000"
        "0000000001000000020000000100000002000000020000006262000000000000000001000000000000000000000000000000"
        "00000500000001a1b30801000000"
    ),
}
"""What this version stores; a later one must read it."""


def golden_row(name: str) -> tuple[Any, WindowRow]:
    if name == "numbers":
        pairs = [(f, w) for f in ("count", "sum", "max", "var_pop") for w in ("1h", None)]
        layout = layout_of([Aggregation("n", f, w, name=f"{f}{w}") for f, w in pairs])
        row = blank_row(layout, fill=1_700_000_000_000_000, applied_through=7, known_through=-5)
        row.sequence, row.run = 0x0001DEADBEEF, 1_700_000_000_000_001
        row.listed, row.rebuild = frozenset({9, 400}), True
        rows = [at(i * 200, 2**62 + i, "n", i + 1) for i in range(4)]
    else:
        functions = [("last_n", {"n": 2}), ("first", {}), ("last_n_distinct", {"n": 2}), ("count_distinct", {})]
        layout = layout_of(
            [Aggregation("s", f, "1h", **options) for f, options in functions]
            + [Aggregation("x", "quantile", "1h", q=0.5), Aggregation("s", "min", "1h", offset="2h")]
        )
        row = blank_row(layout)
        row.sequence, row.deleted_through, row.delete_position = 1, -7, 3
        rows = [at(i * 200, text, "s", i + 1) for i, text in enumerate(["é", "b", "b", ""])]
        rows = [each.__class__(**{**vars(each), "event_id": f"id{i}"}) for i, each in enumerate([*rows, at(5, -2.5)])]
    add_statements(layout, row, [event_of(each) for each in rows], TOLERANCE)
    return layout, row


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_stored_stays_readable(name):
    layout, row = golden_row(name)
    assert encode_row(layout, row).hex() == GOLDEN[name]
    assert content(decode_row(layout, bytes.fromhex(GOLDEN[name]))) == content(row)
