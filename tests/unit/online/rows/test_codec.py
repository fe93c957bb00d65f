import math
import struct
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS
from headwater.online.rows.codec import (
    HEADER_SIZE,
    ORDER,
    TOMBSTONE,
    Header,
    emptied,
    encode_batch,
    header,
    long_key,
    micros_bytes,
    replaced,
    sequence_of,
    with_key,
    without_key,
)
from headwater.online.rows.decoded import MANY, DecodedRows, verified
from headwater.online.rows.few_rows import FEW
from headwater.online.rows.row_format import RowFormat
from headwater.planning.layout import RowLayout
from headwater.planning.shown import short_form, shortest
from headwater.testing import SCALE, rounds
from headwater.testing.online_rows import first_codec
from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)
from tests.unit.online.support import batch, make_view

INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), timezones=st.just(UTC))
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    Int32: st.integers(-(2**31), 2**31 - 1),
    Int64: st.integers(-(2**63), 2**63 - 1),
    Float32: st.floats(width=32),
    Float64: st.floats(),
    Bool: st.booleans(),
    String: st.text(max_size=8),
    Bytes: st.binary(max_size=8),
    Timestamp: INSTANTS,
    Date: st.dates(),
}
SCALARS = st.sampled_from(list(VALUES))
DTYPES = st.one_of(
    SCALARS,
    st.builds(Embedding, st.integers(1, 4)),
    st.recursive(
        st.builds(Array, SCALARS | st.just(Embedding(2))), lambda inner: st.builds(Array, inner), max_leaves=2
    ),
)


def values_of(dtype: DType, *, nullable: bool = True) -> st.SearchStrategy[Any]:
    if dtype.name == "embedding":
        plain: st.SearchStrategy[Any] = st.lists(st.floats(width=32), min_size=dtype.dim, max_size=dtype.dim)
    elif dtype.name == "array":
        assert dtype.element is not None
        plain = st.lists(values_of(dtype.element), max_size=4)
    else:
        plain = VALUES[dtype]
    return st.none() | plain if nullable else plain


@st.composite
def tables(draw: Any) -> tuple[list[DType], list[list[Any]]]:
    dtypes = draw(st.lists(DTYPES, min_size=1, max_size=6))
    rows = draw(st.lists(st.tuples(*(values_of(dtype) for dtype in dtypes)), min_size=1, max_size=4))
    return dtypes, [list(row) for row in rows]


def bits(value: Any, dtype: DType) -> Any:
    """A value in a form that tells -0.0 from 0.0 and finds NaN equal to itself."""
    if value is None:
        return None
    if dtype.name in ("float64", "float32"):
        return "nan" if math.isnan(value) else struct.pack("<f" if dtype.name == "float32" else "<d", value)
    if dtype.name == "embedding":
        return [bits(number, Float32) for number in value]
    if dtype.name == "array":
        assert dtype.element is not None
        return [bits(item, dtype.element) for item in value]
    return value


def rows_and_form(dtypes: list[DType], rows: list[list[Any]]) -> tuple[list[bytes], RowFormat]:
    names = [f"f{i}" for i in range(len(dtypes))]
    view = make_view(dict(zip(names, dtypes, strict=True)))
    table = batch(view, [{"user": str(i), **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)])
    layout = RowLayout.of(view)
    return encode_batch(layout, table), RowFormat(layout, names)


@settings(deadline=None, max_examples=rounds(30))
@given(tables())
@example(
    (
        [Embedding(2), Float64, Date, Timestamp],
        [[[0.0, -0.0], math.nan, date(1, 1, 1), datetime.max.replace(tzinfo=UTC)]],
    )
)
@example(([Array(Array(String)), Array(Embedding(2))], [[[None, [], ["", None]], [[1.0, 2.0], None]]]))
def test_every_value_comes_back_bit_for_bit(table: tuple[list[DType], list[list[Any]]]) -> None:
    dtypes, rows = table
    packed, form = rows_and_form(dtypes, rows)
    for copies in (1, MANY):
        decoded = DecodedRows(form, [*packed, None] * copies)
        columns = decoded.columns()
        assert not decoded.damaged
        assert len(decoded.absent) == copies
        for c, (column, dtype) in enumerate(zip(columns, dtypes, strict=True)):
            for i, value in enumerate(column):
                place = i % (len(rows) + 1)
                if place < len(rows):
                    assert bits(value, dtype) == bits(rows[place][c], dtype)


@settings(deadline=None, max_examples=rounds(30))
@given(tables(), st.data())
def test_truncated_and_foreign_bytes_never_raise_and_leave_the_rest(table: Any, data: st.DataObject) -> None:
    dtypes, rows = table
    packed, form = rows_and_form(dtypes, rows)
    row = packed[0]
    cut = row[: data.draw(st.integers(0, len(row) - 1))]
    noise = data.draw(st.binary(max_size=120))
    place = data.draw(st.integers(0, len(row) - 1))
    flipped = row[:place] + bytes((row[place] ^ data.draw(st.integers(1, 255)),)) + row[place + 1 :]
    for copies in (1, MANY):
        sound = [row] * copies
        decoded = DecodedRows(form, [*sound, cut, noise, flipped])
        whole = DecodedRows(form, sound).columns()
        columns = decoded.columns()
        assert copies in decoded.damaged
        assert copies + 1 in decoded.damaged
        assert not set(range(copies)) & set(decoded.damaged)
        assert [repr(column[:copies]) for column in columns] == [repr(column) for column in whole]
        for c, dtype in enumerate(dtypes):
            decoded.nulls(c)
            if dtype.width is not None:
                decoded.numbers(c)


FIXED = st.sampled_from([Float64, Float32, Int64, Int32, Bool, Date])


@settings(deadline=None, max_examples=rounds(60))
@given(st.lists(FIXED, min_size=1, max_size=9), st.data())
def test_a_few_rows_are_read_as_many_are(dtypes: list[DType], data: st.DataObject) -> None:
    values = st.tuples(*(values_of(dtype, nullable=data.draw(st.booleans())) for dtype in dtypes))
    rows = [list(row) for row in data.draw(st.lists(values, min_size=1, max_size=4))]
    packed, form = rows_and_form(dtypes, rows)
    names = data.draw(st.permutations([slot.name for slot in form.slots]))[: data.draw(st.integers(1, len(dtypes)))]
    kinds = [*packed, packed[0][:-1], replaced(emptied(packed[0], 5, 7), packed[0]), b"", None]
    stored = data.draw(st.lists(st.sampled_from(packed if data.draw(st.booleans()) else kinds), max_size=FEW))
    now, ttl = data.draw(st.sampled_from([-(2**62), -1, 0, 5, 2**62])), data.draw(st.none() | st.integers(0, 10))
    ahead = data.draw(st.sampled_from([0, 10**9, 2**62]))

    def read(few: bool) -> tuple[Any, ...]:
        form = RowFormat(row_layout, names)
        assert form.few is not None
        if not few:
            form.few = None
        found = DecodedRows(form, stored, now, ttl, ahead)
        columns = found.columns()
        others = (found.absent, found.damaged, found.deleted, found.not_known, found.expired, found.missing)
        more = (found.has_nulls, found.least, found.latest, repr(found.at), found.events().tolist())
        older = (found.created().tolist(), found.older_places(3).tolist(), found.gone, found.timeless)
        nulls = [None if (mask := found.nulls(c)) is None else mask.tolist() for c in range(len(names))]
        return repr(columns), others, more, older, nulls, repr([found.numbers(c).tolist() for c in range(len(names))])

    row_layout = form.layout
    assert read(True) == read(False)


def test_a_damaged_row_says_what_is_wrong() -> None:
    (row, *_), form = rows_and_form([Float64, String], [[1.5, "x"]])
    others, _ = rows_and_form([Float64, Int64], [[1.5, 2]])
    newer = bytes((0xA3,)) + row[1:]
    for copies in (1, MANY):
        damaged = DecodedRows(form, [row] * copies + [b"", b"hello", row[:20], row[:-1], others[0], newer]).damaged
        told = [damaged[copies + i] for i in range(6)]
        assert told[0] == "no bytes"
        assert "not a headwater row" in told[1]
        assert "cut short" in told[2]
        assert "do not add up" in told[3]
        assert "another layout" in told[4]
        assert "newer headwater" in told[5]


@settings(deadline=None)
@given(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 1), st.integers(0, 2**55 - 1)
    ),
    st.tuples(
        st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 1), st.integers(0, 2**55 - 1)
    ),
)
def test_the_order_of_headers_is_the_order_of_their_bytes(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    view = make_view({"x": Float64})
    names = ("event", "created", "origin", "position")
    packed = encode_batch(
        RowLayout.of(view), batch(view, [{"user": "u", **dict(zip(names, o, strict=True))} for o in (a, b)])
    )
    assert (packed[0][ORDER] < packed[1][ORDER]) == (a < b)
    told = header(packed[0])
    assert told is not None
    assert (told.event, told.created, told.origin, told.position) == a
    assert told.sequence > 0
    assert (told.through, told.deleted_position, told.emptied) == (MIN_MICROS, 0, False)


def test_emptied_keeps_the_greater_tombstone_and_takes_a_new_sequence() -> None:
    (row, *_), form = rows_and_form([Float64], [[1.5]])
    once = emptied(row, 100, 7)
    told = header(once)
    assert told is not None
    assert told == Header(MIN_MICROS, MIN_MICROS, 0, 0, told.sequence, 100, 7, True, row[2:6])
    assert told.sequence != sequence_of(row)
    assert len(once) == TOMBSTONE.stop
    twice = header(emptied(once, 50, 9))
    assert twice is not None
    assert (twice.through, twice.deleted_position) == (100, 9)
    assert twice.sequence != told.sequence
    bare = header(emptied(None, 7))
    assert bare is not None
    assert (bare.through, bare.deleted_position, bare.emptied) == (7, 0, True)
    assert len(emptied(row, MIN_MICROS)) == HEADER_SIZE
    for copies in (1, MANY):
        decoded = DecodedRows(form, [once] * copies)
        assert decoded.absent == list(range(copies))
        assert decoded.deleted == dict.fromkeys(range(copies), 100)
        assert not decoded.damaged


def test_replaced_carries_the_tombstone_over() -> None:
    (row, *_), form = rows_and_form([Float64], [[1.5]])
    new = replaced(emptied(row, 100, 7), row)
    told = header(new)
    assert told is not None
    assert (told.through, told.deleted_position, told.emptied) == (100, 7, False)
    assert told.sequence != sequence_of(row)
    assert sequence_of(replaced(None, row)) > 0
    assert sequence_of(replaced(b"foreign", row)) > 0
    for copies in (1, MANY):
        decoded = DecodedRows(form, [row, new] * copies)
        assert decoded.columns() == [[1.5] * 2 * copies]
        assert decoded.deleted == dict.fromkeys(range(1, 2 * copies, 2), 100)
        assert not decoded.damaged


@settings(deadline=None, max_examples=15 * SCALE)
@given(tables(), st.integers(-(2**62), 2**62) | st.none(), st.booleans())
def test_rows_of_the_first_codec_are_read(table: Any, through: int | None, keyed: bool) -> None:
    dtypes, rows = table
    packed, form = rows_and_form(dtypes, rows)
    old = [first_codec(with_key(row, b"k" * 600) if keyed else row, through) for row in packed]
    keys = dict.fromkeys(range(len(old) + 1), b"k" * 600) if keyed else {}
    decoded = DecodedRows(form, verified([*old, None], keys))
    assert repr(decoded.columns()) == repr(DecodedRows(form, [*packed, None]).columns())
    assert decoded.deleted == ({} if through is None else dict.fromkeys(range(len(old)), through))
    assert not decoded.damaged
    for row, first in zip(packed, old, strict=True):
        new, told = header(row), header(first)
        assert new is not None and told is not None
        assert (told.event, told.created, told.origin, told.position) == (
            new.event,
            new.created,
            new.origin,
            new.position,
        )
        assert long_key(first) == (b"k" * 600 if keyed else None)


def test_a_long_key_rides_in_its_row_and_outlives_a_delete() -> None:
    (row, *_), form = rows_and_form([Float64, String], [[1.5, "x"]])
    keyed = with_key(row, b"k" * 600)
    assert long_key(keyed) == b"k" * 600
    assert without_key(keyed) == row
    assert long_key(row) is None
    assert long_key(emptied(keyed, 5)) == b"k" * 600
    assert long_key(emptied(keyed, 5, keep_key=False)) is None
    for copies in (1, MANY):
        rows = [row] * copies + [keyed, keyed, keyed, row, emptied(keyed, 5), emptied(keyed, 5, keep_key=False)]
        keys = {
            copies: b"k" * 600,
            copies + 1: b"other",
            copies + 3: b"k" * 600,
            copies + 4: b"k" * 600,
            copies + 5: b"k" * 600,
        }
        decoded = DecodedRows(form, verified(rows, keys))
        assert decoded.absent == [copies + 1, copies + 4, copies + 5]
        assert sorted(decoded.damaged) == [copies + 2, copies + 3]
        assert decoded.columns()[0][: copies + 1] == [1.5] * (copies + 1)


def test_a_subset_of_features_in_any_order() -> None:
    view = make_view({"a": Float64, "b": Int64, "c": String, "d": Float64, "e": Float32, "f": Bool, "g": Array(Int64)})
    rows = [{"user": "u", "a": 1.0, "b": 2, "c": "c", "d": 4.0, "e": 0.5, "f": True, "g": [1, None]}]
    layout = RowLayout.of(view)
    packed = encode_batch(layout, batch(view, rows))
    for names in (["d", "a"], ["g", "f"], ["c"], ["b", "e", "d"]):
        for copies in (1, MANY):
            columns = DecodedRows(RowFormat(layout, names), packed * copies).columns()
            assert columns == [[rows[0][name]] * copies for name in names]


def test_a_time_that_python_cannot_hold_makes_the_row_unavailable() -> None:
    view = make_view({"t": Timestamp})
    good = batch(view, [{"user": "u", "t": datetime(2024, 1, 1, tzinfo=UTC)}])
    bad = good.set_column(good.schema.get_field_index("t"), "t", pa.array([2**62]).cast(pa.timestamp("us", tz="UTC")))
    layout = RowLayout.of(view)
    rows = encode_batch(layout, good) + encode_batch(layout, bad)
    for copies in (1, MANY):
        decoded = DecodedRows(RowFormat(layout, ["t"]), rows * copies)
        assert sorted(decoded.damaged) == list(range(1, 2 * copies, 2))
        assert decoded.columns()[0][0] == datetime(2024, 1, 1, tzinfo=UTC)


def test_slices_of_a_batch_encode_alike() -> None:
    view = make_view({"a": Float64, "s": String, "v": Array(String), "n": Array(Int64), "e": Embedding(2), "b": Bool})
    rows = [
        {
            "user": str(i),
            "a": float(i),
            "s": "x" * i,
            "v": [None, str(i)],
            "n": [i, None],
            "e": [i, -i],
            "b": bool(i % 2),
        }
        if i % 3
        else {"user": str(i)}
        for i in range(10)
    ]
    whole, layout = batch(view, rows), RowLayout.of(view)
    part, all_ = encode_batch(layout, whole.slice(4, 3)), encode_batch(layout, whole)[4:7]
    assert [row[12:] for row in part] == [row[12:] for row in all_]
    assert encode_batch(layout, whole.slice(4, 0)) == []


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
@example(1.1109999418258667)
@example(16777216.0)
@example(1.401298464324817e-45)
@example(3.4028234663852886e38)
@example(0.30000001192092896)
def test_float32_prints_in_its_shortest_form(number: float) -> None:
    expected = float(str(np.float32(number)))
    for found in (short_form([number], pa.list_(pa.float32(), 1))[0], shortest(number)):
        assert struct.pack("<d", found) == struct.pack("<d", expected)
        assert np.float32(found) == np.float32(number)


@pytest.mark.parametrize("micros", [MIN_MICROS, -1, 0, 1, 2**63 - 1])
def test_times_in_headers_keep_their_order(micros: int) -> None:
    assert int.from_bytes(micros_bytes(micros), "big") == micros + 2**63
