from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.rows.codec import with_key
from headwater.online.rows.keys import LONGEST, META_PREFIX, KeySpace, digested, namespace
from headwater.types import Bool, Bytes, Date, DType, Int32, Int64, String, Timestamp

PREFIX = namespace("p", "v", "1.0.0")
POOL: dict[DType, st.SearchStrategy[Any]] = {
    Int64: st.integers(-(2**63), 2**63 - 1),
    Int32: st.integers(-(2**31), 2**31 - 1),
    String: st.text(st.sampled_from("a\0|:\x01\x12é\U0001f600"), max_size=4) | st.text(max_size=3),
    Bytes: st.binary(max_size=4),
    Bool: st.booleans(),
    Timestamp: st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC)),
    Date: st.dates(),
}


@st.composite
def key_tables(draw: Any) -> tuple[list[DType], list[tuple[Any, ...]]]:
    dtypes = draw(st.lists(st.sampled_from(list(POOL)), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*(POOL[d] for d in dtypes)), min_size=1, max_size=60, unique=True))
    return dtypes, rows


@settings(deadline=None)
@given(key_tables())
def test_keys_never_collide_and_read_back(table: tuple[list[DType], list[tuple[Any, ...]]]) -> None:
    dtypes, rows = table
    space = KeySpace(PREFIX, dtypes)
    columns = [list(column) for column in zip(*rows, strict=True)]
    keys = space.encode(columns, len(rows))
    assert len(set(keys)) == len(rows)
    assert [space.decode(key) for key in keys if key is not None] == rows
    arrow = space.encode_arrow([pa.array(c, d.arrow) for c, d in zip(columns, dtypes, strict=True)])
    assert arrow == keys
    assert all(key is not None and key.startswith(PREFIX) for key in keys)


@settings(deadline=None)
@given(key_tables(), st.data())
def test_a_null_in_any_join_key_has_no_key(table: Any, data: st.DataObject) -> None:
    dtypes, rows = table
    space = KeySpace(PREFIX, dtypes)
    columns = [[None if data.draw(st.booleans()) else value for value in column] for column in zip(*rows, strict=True)]
    keys = space.encode(columns, len(rows))
    assert [key is None for key in keys] == [None in row for row in zip(*columns, strict=True)]
    assert space.encode_arrow([pa.array(c, d.arrow) for c, d in zip(columns, dtypes, strict=True)]) == keys


def test_integers_of_any_width_are_one_key() -> None:
    narrow = KeySpace(PREFIX, [Int32]).encode_arrow([pa.array([1, -1], pa.int32())])
    wide = KeySpace(PREFIX, [Int64]).encode_arrow([pa.array([1, -1], pa.int64())])
    assert narrow == wide == KeySpace(PREFIX, [Int64]).encode([[1, -1]], 2)


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("wide", [2**63, -(2**63) - 1])
def test_an_integer_no_key_can_be_is_refused(rows: int, wide: int) -> None:
    space = KeySpace(PREFIX, [Int64])
    with pytest.raises(OverflowError):
        space.encode([[wide, None, *range(rows)]], rows + 2)
    keys = space.encode([[None, *range(rows)]], rows + 1)
    assert keys[0] is None and None not in keys[1:]


def test_types_views_versions_and_projects_never_share_a_key() -> None:
    values = {Int64: 1, String: "\0\0\0\0\0\0\0\x01", Bytes: b"\0\0\0\0\0\0\0\x01", Bool: True, Date: date(1970, 1, 2)}
    keys = [KeySpace(PREFIX, [dtype]).encode([[value]], 1)[0] for dtype, value in values.items()]
    assert len(set(keys)) == len(keys)
    names = [("p", "v", "1.0.0"), ("p", "v1", ".0.0"), ("pv", "", "1.0.0"), ("p", "v", "1.0.1"), ("q", "v", "1.0.0")]
    assert len({namespace(*name) for name in names}) == len(names)
    assert not any(namespace("p", f"v{i}", "1.0.0")[0] == META_PREFIX[0] for i in range(3_000))


def test_long_keys_become_a_digest_and_read_back_from_their_row() -> None:
    space = KeySpace(PREFIX, [String, String])
    long, other = "x" * 600, "x" * 599 + "y"
    whole = space.encode([[long, other], ["a", "a"]], 2)
    stored = [digested(key) for key in whole if key is not None]
    assert len(set(stored)) == 2
    assert all(len(key) <= LONGEST and key.startswith(PREFIX) for key in stored)
    row = with_key(bytes((0xA1, 0)) + bytes(45), whole[0] or b"")
    assert space.decode(stored[0], row) == (long, "a")
    with pytest.raises(FormatError):
        space.decode(stored[0], None)
    short = KeySpace(PREFIX, [String]).encode([["x" * (LONGEST - 9), "x" * (LONGEST - 8)]], 2)
    assert [digested(key) == key for key in short if key is not None] == [True, False]


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_bytes_that_are_no_key_are_refused(noise: bytes) -> None:
    for dtypes in ([Int64], [String], [String, Int64], [Date], [Timestamp, Bool]):
        space = KeySpace(PREFIX, dtypes)
        try:
            values = space.decode(PREFIX + noise)
        except FormatError:
            continue
        assert space.encode([[value] for value in values], 1) == [PREFIX + noise]


def test_a_global_view_has_one_key() -> None:
    space = KeySpace(PREFIX, [])
    assert space.encode([], 3) == [space.global_key()] * 3
    assert space.decode(space.global_key()) == ()
    assert space.encode_arrow([]) == []


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        KeySpace(PREFIX, [String]).encode([["\ud800"]], 1)
