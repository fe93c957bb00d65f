"""Many stored rows read at once, and each by itself, against the row decoded whole."""

import math
import random
import struct
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.aggregation import Aggregation
from headwater.online.powers import UNREAD
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows import decoded as decoded_module
from headwater.online.rows.windows.codec import KEYED, decode_row, encode_row
from headwater.online.rows.windows.decoded import DecodedWindowRows
from headwater.online.rows.windows.form import WindowForm, window_form
from headwater.online.rows.windows.packing import Bytes
from headwater.online.rows.windows.reading import LEFT_OUT, NOT_FILLED, OVERFLOWS, FeatureValue, holds_from, read_row
from headwater.online.rows.windows.record import FillRecord, SourceThrough, encode_record
from headwater.online.rows.windows.row import WindowRow, add_statements, blank_row
from headwater.online.rows.windows.state_bytes import _pack_bins, piece_state
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import WindowLayout, window_layout
from headwater.planning.windows.quantile_bins import GREATEST_BIN, INFINITE_BIN, NAN_BIN, bin_of, is_bin
from headwater.planning.windows.states.bins import QuantileBins
from headwater.planning.windows.values import result_value
from headwater.testing import rounds
from headwater.testing.oracle import value_order
from headwater.types import Bool, Date, Float32, Float64, Int32, Int64, Status, Timestamp, leaf_dtype
from tests.unit.online.rows.windows.drawn import event_of, is_right, layout_of, layouts, right_values, statements
from tests.unit.online.rows.windows.test_rows import TOLERANCE, at, put

FILL = 7
RECORD = encode_record(FillRecord(FILL, FILL, 0, 3, SourceThrough(1, 2)))
ANY = [1, 40]
"""Below and above so many rows they are read by different ways."""


def form_of(layout: WindowLayout) -> WindowForm:
    return WindowForm(layout, [f.name for f in layout.features], batch=False)


def named(layout: WindowLayout) -> WindowLayout:
    """The layout with a name of its own for each feature."""
    features = tuple(
        feature.__class__(**{**{n: getattr(feature, n) for n in feature.__struct_fields__}, "name": f"f{i}"})
        for i, feature in enumerate(layout.features)
    )
    return WindowLayout(features, layout.lists, layout.hops, layout.ids)


def stored(layout: WindowLayout, row: WindowRow, key: bytes | None = None) -> bytes:
    row.fill = FILL
    return encode_row(layout, row, key=key)


def status_of(rows: DecodedWindowRows, slot: int, place: int) -> Status:
    if place in rows.absent:
        return Status.NOT_FOUND
    if place in rows.damaged or place in rows.left_out.get(slot, ()):
        return Status.UNAVAILABLE
    if place in rows.not_known:
        return Status.NOT_KNOWN
    nulls = rows.null_statuses(slot)
    return Status.NULL if nulls is not None and nulls[place] else Status.PRESENT


def plain(value: Any) -> Any:
    """A value as results have it in its stored form again, for the dtypes that are drawn."""
    return tuple(map(plain, value)) if isinstance(value, list) else value


def truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


def check_row(layout: WindowLayout, rows: DecodedWindowRows, place: int, row: WindowRow, now: int) -> None:
    columns = rows.columns()
    for slot, right in enumerate(read_row(layout, row, now)):
        assert status_of(rows, slot, place) is right.status, (slot, place)
        assert rows.left_out.get(slot, {}).get(place, "") == right.problem
        value, wanted = plain(columns[slot][place]), right.value
        if leaf_dtype(layout.features[slot].dtype).name == "bool":
            # a damaged byte may be another number than 0 and 1
            wanted = tuple(map(truth, wanted)) if isinstance(wanted, tuple) else truth(wanted)
        assert value_order(value) == value_order(wanted), (slot, place, value, right)
        if right.value is not None:
            assert type(value) is (bool if layout.features[slot].dtype.name == "bool" else type(right.value))


@settings(max_examples=rounds(50))
@given(layouts().map(named), st.lists(statements(ids=True), min_size=1, max_size=3), st.data())
@pytest.mark.parametrize("many", ANY)
def test_what_is_read_is_what_the_rows_say(many, layout, histories, data):
    r = random.Random(data.draw(st.integers(0, 2**32)))
    made = [put(layout, history, r) for history in histories]
    for row in made:
        row.listed = frozenset(row.applied_through + n for n in r.sample(range(1, 300), r.choice([0, 0, 3])))
        if row.newest_known > 0 and r.random() < 0.2:
            row.deleted_through, row.delete_position = row.newest_known - 1, 1
    newest = max(map(holds_from, made))
    now = data.draw(st.integers(max(newest, -1_000), max(newest, -1_000) + 90))
    order = [r.choice([None, *range(len(made))]) for _ in range(many)]
    given_rows = [None if i is None else stored(layout, made[i]) for i in order]
    rows = DecodedWindowRows(form_of(layout), given_rows, RECORD, now)
    assert not rows.damaged and not rows.gone
    for place, i in enumerate(order):
        row = blank_row(layout) if i is None else made[i]
        check_row(layout, rows, place, row, now)
        assert rows.events()[place] == row.newest_event
        assert rows.created()[place] == row.newest_known
        if i is not None and not row.rebuild:
            for slot, right in enumerate(right_values(layout, histories[i], (), now)):
                found = FeatureValue(plain(rows.columns()[slot][place]), status_of(rows, slot, place))
                assert is_right(right, found) or layout.features[slot].dtype.name == "bool"


@settings(max_examples=rounds(40))
@given(layouts().map(named), statements(ids=True), st.data())
@pytest.mark.parametrize("many", ANY)
def test_damaged_rows_are_named_and_the_others_are_right(many, layout, history, data):
    row = put(layout, history, random.Random(1))
    whole = stored(layout, row)
    now = max(holds_from(row), -1_000) + 5
    bad: list[bytes] = []
    for _ in range(3):
        i = data.draw(st.integers(0, len(whole) - 1))
        bad += [
            whole[: data.draw(st.integers(0, len(whole) - 1))],
            whole[:i] + bytes([data.draw(st.integers(0, 255))]) + whole[i + 1 :],
            whole[:64] + data.draw(st.binary(max_size=99)),
            bytes([whole[0] + 1]) + whole[1:],
            UNREAD,
        ]
    rows = DecodedWindowRows(form_of(layout), [whole, None, *bad] * many, RECORD, now, ahead=10**9)
    columns = rows.columns()
    assert all(len(column) == rows.size for column in columns)
    for place, given_row in enumerate([whole, None, *bad]):
        if place < 2:
            check_row(layout, rows, place, row if place == 0 else blank_row(layout), now)
            continue
        try:
            right = decode_row(layout, given_row)
            assert len(list(right.lists)) == len(layout.lists)
        except Damaged:
            # what is wrong outside of what was read is not seen
            continue
        # of a row that says that it carries a key, that is another's
        if right.fill >= FILL and max(holds_from(right), now) == now and not given_row[1] & KEYED:
            check_row(layout, rows, place, right, now)
    for slot in range(len(layout.features)):
        assert rows.nulls(slot) is None or len(rows.nulls(slot)) == rows.size


CODES = st.one_of(
    st.integers(-5, 5), st.sampled_from([GREATEST_BIN, INFINITE_BIN, NAN_BIN]), st.integers(-(2**40), 2**40)
)


@given(st.dictionaries(CODES, st.integers(0, 2**63), max_size=3), st.floats(0, 1))
def test_bins_that_no_number_is_in_are_damaged_and_of_others_there_is_a_quantile(bins, q):
    (quantiles,) = layout_of([Aggregation("x", "quantile", None, q=0.5, name="q")]).lists
    every = [bin_of(math.ldexp(1.0, exponent)) for exponent in (-1074, 0, 1023)] + [bin_of(sys.float_info.max)]
    assert all(is_bin(code) and is_bin(-code) for code in every) and not is_bin(GREATEST_BIN + 1)
    try:
        state = piece_state(quantiles, 0, Bytes(_pack_bins(bins)))
    except Damaged:
        assert not bins or not all(map(is_bin, bins)) or 0 in bins.values()
        return
    assert state == bins and isinstance(QuantileBins().quantile(state, q), float)


@pytest.mark.parametrize("many", ANY)
@pytest.mark.parametrize("function", ["mean", "var_pop", "stddev_samp", "sum"])
def test_numbers_that_only_damage_makes_are_read_without_a_warning(many, function):
    layout = layout_of([Aggregation("x", function, None, name="f")])
    data = stored(layout, row_with(layout, at(5, 1.5), at(6, 1.5)))
    sums = struct.pack("<d", 3.0 if function in ("mean", "sum") else 0.0)
    begin = data.rindex(sums)
    signalling = bytes.fromhex("010000000000f07f")
    damaged = data[:begin] + signalling + data[begin + 8 :]
    rows = DecodedWindowRows(form_of(layout), [data, damaged] * many, RECORD, 10**9)
    values = rows.columns()[0]
    assert values[0] == {"mean": 1.5, "sum": 3.0}.get(function, 0.0) and math.isnan(values[1])


@pytest.fixture
def layout():
    return layout_of([Aggregation("x", "sum", "1h", name="total"), Aggregation("n", "sum", None, name="whole")])


def row_with(layout: WindowLayout, *events: Any) -> WindowRow:
    row = blank_row(layout)
    add_statements(layout, row, [event_of(each) for each in events], TOLERANCE)
    return row


@pytest.mark.parametrize("many", ANY)
def test_without_a_completed_fill_all_is_unavailable_but_null_keys(layout, many):
    data = stored(layout, row_with(layout, at(5, 2.0)))
    for record, problem in [
        (None, NOT_FILLED),
        (encode_record(FillRecord(0, 9)), NOT_FILLED),
        (UNREAD, "not read in time"),
        (b"\x02", "newer headwater"),
        (b"\x01", "fill record of 1 bytes"),
    ]:
        rows = DecodedWindowRows(form_of(layout), [data, None] * many, record, 10**9, null=True)
        assert set(rows.damaged) == set(range(2 * many - 1)) and all(problem in said for said in rows.damaged.values())
        assert rows.absent == rows.missing == [2 * many - 1]
        assert len(rows.columns()[0]) == 2 * many


@pytest.mark.parametrize("many", ANY)
def test_rows_of_an_older_fill_count_as_missing_and_of_a_newer_one_not(layout, many):
    older, newer = row_with(layout, at(5, 2.0)), row_with(layout, at(5, 3.0))
    older.fill, newer.fill = FILL - 1, FILL + 1
    given_rows = [encode_row(layout, older), encode_row(layout, newer), None] * many
    rows = DecodedWindowRows(form_of(layout), given_rows, RECORD, 10**9)
    assert rows.columns()[0][:3] == [None, 3.0, None]
    assert rows.null_statuses(0)[:3].tolist() == [True, False, True]
    assert rows.events()[1] == 5_000_000 and rows.timeless >= {0, 2} and not rows.gone


@pytest.mark.parametrize("many", ANY)
def test_a_row_known_later_is_not_known_or_read_as_of_then(layout, many):
    late = row_with(layout, at(100, 2.0))
    deleted = row_with(layout, at(1, 1.0))
    deleted.deleted_through, deleted.delete_position = 200_000_000, 4
    given_rows = [stored(layout, late), stored(layout, deleted), None] * many
    exact = DecodedWindowRows(form_of(layout), given_rows, RECORD, 50_000_000)
    assert exact.not_known[:2] == [0, 1] and exact.columns()[0][2] is None
    ahead = DecodedWindowRows(form_of(layout), given_rows, RECORD, 50_000_000, ahead=60_000_000)
    assert set(ahead.not_known) == {3 * i + 1 for i in range(many)}
    assert isinstance(ahead.at, np.ndarray) and ahead.at[:3].tolist() == [100_000_000, 50_000_000, 50_000_000]
    assert ahead.columns()[0][0] == 2.0 and ahead.latest == 100_000_000


@pytest.mark.parametrize("many", ANY)
def test_a_row_under_a_digest_is_that_of_the_key_it_carries(layout, many):
    data = stored(layout, row_with(layout, at(5, 2.0)), key=b"long")
    keys = {4 * i + j: key for i in range(many) for j, key in enumerate([b"long", b"other"])}
    keys |= {4 * i + 3: b"long" for i in range(many)}
    bare = stored(layout, row_with(layout, at(5, 2.0)))
    rows = DecodedWindowRows(form_of(layout), [data, data, data, bare] * many, RECORD, 10**9, long_keys=keys)
    assert rows.columns()[0][:2] == [2.0, None]
    assert "a key" in rows.damaged[2] and "whose" in rows.damaged[3] and not {0, 1} & set(rows.damaged)


@pytest.mark.parametrize("many", ANY)
def test_sums_that_overflow(many):
    layout = layout_of(
        [
            Aggregation("n", "sum", "1h", name="raises", default=5),
            Aggregation("n", "sum", "1h", name="null", errors="null", default=5),
            Aggregation("n", "mean", "1h", name="mean"),
        ]
    )
    over = stored(layout, row_with(layout, at(5, 2**62, "n"), at(6, 2**62, "n", 2)))
    large = stored(layout, row_with(layout, at(5, 2**62, "n")))
    rows = DecodedWindowRows(form_of(layout), [over, large, None] * many, RECORD, 10**8)
    assert [column[:3] for column in rows.columns()] == [
        [None, 2**62, 5],
        [None, 2**62, 5],
        [2.0**62, 2.0**62, None],
    ]
    assert rows.left_out[0][0] == OVERFLOWS and 1 not in rows.left_out
    assert rows.null_statuses(1)[:3].tolist() == [True, False, True]
    assert rows.nulls(1)[:3].tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("many", ANY)
def test_what_was_left_out_is_unavailable(many):
    layout = layout_of([Aggregation("s", "last", "1h", name="l"), Aggregation("s", "count", "1h", name="c")])
    data = stored(layout, row_with(layout, at(5, "x" * 2_000, "s")))
    rows = DecodedWindowRows(form_of(layout), [data, None] * many, RECORD, 10**8)
    assert rows.left_out[0][0] == LEFT_OUT and rows.columns()[0][:2] == [None, None]
    assert rows.columns()[1][:2] == [1, 0] and rows.nulls(1) is None


def test_ages_count_from_what_is_complete(layout):
    data = stored(layout, row_with(layout, at(5, 2.0)))
    record = encode_record(FillRecord(FILL, FILL, 0, 30_000_000, SourceThrough(1, 20_000_000)))
    for batch, since in [(False, 30_000_000), (True, 20_000_000)]:
        form = WindowForm(layout, ["total"], batch=batch)
        rows = DecodedWindowRows(form, [data, None], record, 50_000_000)
        assert rows.since == since and rows.least - 2**63 == since
        assert rows.older_places(50_000_000 - since).tolist() == []
        assert rows.older_places(50_000_000 - since - 1).tolist() == [0, 1]


def test_the_numbers_of_columns(layout):
    form = window_form(layout, ("whole", "total"), False)
    assert form.__reduce__() == (window_form, (layout, ("whole", "total"), False))
    data = stored(layout, row_with(layout, at(5, 2, "n")))
    for many in ANY:
        rows = DecodedWindowRows(form, [data, None] * many, RECORD, 50_000_000)
        assert rows.numbers(0).dtype == np.int64 and rows.numbers(0)[0] == 2
        assert rows.matrix((0, 1), "f8")[0, 0] == 2.0 and rows.nulls(0)[:2].tolist() == [False, True]


def test_both_ways_are_tried():
    assert ANY[0] < decoded_module.MANY < ANY[1]


NUMBERS = {"x": Float64, "n": Int64, "f": Float32, "i": Int32, "d": Date, "t": Timestamp, "b": Bool}


@pytest.mark.parametrize("many", ANY)
@pytest.mark.parametrize("lifetime", [False, True])
def test_numbers_of_every_width_are_read_where_they_stand(many, lifetime):
    windows = ["1h", "2h", None] if lifetime else ["1h", "2h"]
    functions = [(name, function) for name in NUMBERS for function in ("min", "max", "count")]
    functions += [("x", f) for f in ("sum", "mean", "var_pop", "stddev_samp")] + [("n", f) for f in ("sum", "mean")]
    # each twice: the second of a function and window has a slot of its own
    asked = [(name, function, window) for name, function in functions for window in windows] * 2
    given = [Aggregation(n, f, w, name=f"f{i}") for i, (n, f, w) in enumerate(asked)]
    given.append(Aggregation("f", "rate", "2h", name="rate"))
    given += [Aggregation("x", "sum", "1h", name=f"default{i}", default=float(i)) for i in range(2)]
    layout = window_layout(given, NUMBERS)
    assert all(each.columns for each in layout.lists)
    r = random.Random(lifetime)
    rows = []
    for count in (0, 1, 40):
        row = blank_row(layout, fill=FILL)
        for position in range(1, count + 1):
            time = r.randrange(3 * 3_600_000_000)
            values: dict[str, Any] = {"x": r.random(), "n": r.randrange(-9, 9), "f": r.randrange(-9, 9) / 2}
            values |= {"i": r.randrange(-9, 9), "d": r.randrange(-9, 9), "t": r.randrange(10**15), "b": r.randrange(2)}
            values = {name: None if r.random() < 0.2 else value for name, value in values.items()}
            add_statements(layout, row, [WindowEvent(time, time, True, position, values)], TOLERANCE)
        rows.append(row)
    for later in (0, 3_000_000_000, 7_000_000_000, 10**13):
        now = max(map(holds_from, rows)) + later
        found = DecodedWindowRows(form_of(layout), [encode_row(layout, row) for row in rows] * many, RECORD, now)
        columns = found.columns()
        assert not found.damaged and not found.left_out
        for place, row in enumerate(rows * many):
            for slot, right in enumerate(read_row(layout, row, now)):
                wanted = None if right.value is None else result_value(layout.features[slot].dtype, right.value)
                value = columns[slot][place]
                assert value == wanted and type(value) is type(wanted), (layout.features[slot], place, value, wanted)
                assert status_of(found, slot, place) is right.status
