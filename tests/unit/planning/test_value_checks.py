"""Values that nothing can read back are found in every column that can hold them, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.clock import FIRST_DAY, FIRST_MICROS, LAST_DAY, LAST_MICROS, YEARS
from headwater.errors import DataError
from headwater.planning.python_arrays import array_of
from headwater.planning.value_checks import (
    beyond_years,
    not_text,
    numpy_micros,
    python_values,
    refuse_unreadable,
    shown,
    unreadable_rows,
)

PIECES = st.none() | st.text(max_size=3).map(str.encode) | st.binary(max_size=4)


def is_utf8(piece: bytes | None) -> bool:
    try:
        return piece is None or piece.decode() is not None
    except UnicodeDecodeError:
        return False


def text_array(pieces: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """Text that nobody checked, as a file's reader gives it."""
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}[kind]
    return pa.array(pieces, pa.binary()).cast(binary).view(kind)


def bad_rows(found: Any, size: int) -> list[int]:
    return [] if found is None else np.flatnonzero(found).tolist()


@given(st.lists(PIECES, max_size=12), st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]), st.data())
def test_text_that_is_not_utf8_is_found_row_by_row(pieces: list[bytes | None], kind: pa.DataType, data: Any) -> None:
    array = text_array(pieces, kind)
    start = data.draw(st.integers(0, len(pieces)))
    assert bad_rows(not_text(array), len(pieces)) == [i for i, piece in enumerate(pieces) if not is_utf8(piece)]
    assert bad_rows(not_text(array.slice(start)), len(pieces)) == [
        i - start for i, piece in enumerate(pieces) if i >= start and not is_utf8(piece)
    ]


@given(st.lists(st.none() | st.lists(PIECES, max_size=3), max_size=8), st.data())
def test_inside_lists_structs_and_dictionaries_too(rows: list[list[bytes | None] | None], data: Any) -> None:
    flat = [piece for row in rows for piece in row or ()]
    values = text_array(flat, pa.string())
    ends = np.cumsum([0, *(len(row or ()) for row in rows)])
    lists = pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), values, mask=pa.array([row is None for row in rows], pa.bool_())
    )
    want = [i for i, row in enumerate(rows) if any(not is_utf8(piece) for piece in row or ())]
    start = data.draw(st.integers(0, len(rows)))
    later = [i - start for i in want if i >= start]
    assert bad_rows(not_text(lists), len(rows)) == want
    assert bad_rows(not_text(lists.slice(start)), len(rows)) == later
    struct = pa.StructArray.from_arrays([pa.array(range(len(rows)), pa.int64()), lists], ["n", "inner"])
    assert bad_rows(not_text(struct.slice(start)), len(rows)) == later
    picks = data.draw(st.lists(st.none() | st.integers(0, len(flat) - 1), max_size=6)) if flat else []
    indices = pa.array(picks, pa.int32())
    coded = pa.DictionaryArray.from_arrays(indices, values)
    assert bad_rows(not_text(coded), len(picks)) == [
        i for i, at in enumerate(picks) if at is not None and not is_utf8(flat[at])
    ]


@given(
    st.sampled_from(["s", "ms", "us", "ns", "day", "date64"]),
    st.lists(st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(2**40), 2**40), max_size=8),
)
def test_times_beyond_what_python_holds_are_found_in_every_unit(unit: str, numbers: list[int | None]) -> None:
    per = {"s": 10**6, "ms": 1_000, "us": 1, "ns": 1 / 1_000, "day": 86_400_000_000, "date64": 1_000}[unit]
    if unit == "day":
        numbers = [None if n is None else n % 2**31 - 2**30 for n in numbers]
        array = pa.array(numbers, pa.int32()).view(pa.date32())
        want = [i for i, n in enumerate(numbers) if n is not None and not FIRST_DAY <= n <= LAST_DAY]
    else:
        kind = pa.date64() if unit == "date64" else pa.timestamp(unit, "UTC")
        array = pa.array(numbers, pa.int64()).view(kind)
        want = [i for i, n in enumerate(numbers) if n is not None and not FIRST_MICROS <= n * per <= LAST_MICROS]
    assert bad_rows(beyond_years(array), len(numbers)) == ([] if unit == "ns" else want)
    for row, value in enumerate(array):
        try:
            value.as_py()
        except Exception:
            assert row in want


def test_the_first_and_last_instant_are_in_range() -> None:
    array = pa.array([FIRST_MICROS, LAST_MICROS, FIRST_MICROS - 1, LAST_MICROS + 1]).view(pa.timestamp("us", "UTC"))
    found = unreadable_rows(pa.chunked_array([array.slice(0, 2), array.slice(2)]))
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([2, 3], YEARS)


def test_the_error_names_column_rows_and_value() -> None:
    column = text_array([b"ok", b"M\xfcller", b"\xff"], pa.string())
    with pytest.raises(DataError, match=r"^column 'note': b'M\\xfcller' in rows 11, 12 is not valid UTF-8 text$"):
        refuse_unreadable([("note", column)], lambda name: f"column {name!r}", DataError, first=10)


def test_every_value_can_be_shown() -> None:
    for value in [*text_array([b"\xff"], pa.string()), *pa.array([2**60]).view(pa.timestamp("us"))]:
        assert shown(value)
    far = pa.array([0, 2**60]).view(pa.timestamp("us"))
    assert python_values(far)[1] == "a time of the year 38,504"


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us"])
def test_instants_of_numpy_never_wrap_around(unit: str) -> None:
    assert numpy_micros(np.datetime64(0, unit)) == (0, True)
    assert numpy_micros(np.datetime64(2**62, unit)) is None
    assert numpy_micros(np.datetime64(-(2**62), unit)) is None


def test_days_of_numpy_never_wrap_around() -> None:
    with pytest.raises(OverflowError):
        array_of(np.array([0, 2**40], "datetime64[D]"))
    assert array_of(np.array([0, "NaT"], "datetime64[D]")).null_count == 1
