from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.base import PutOutcome
from headwater.online.guard import deleted_row, merge
from headwater.online.rows.codec import encode_batch, header
from headwater.planning.layout import RowLayout
from headwater.testing.online_rows import first_codec
from headwater.types import Int64
from tests.unit.online.support import batch, make_view

VIEW = make_view({"x": Int64})
LAYOUT = RowLayout.of(VIEW)
SMALL = st.integers(-2, 3)
ORDERS = st.one_of(
    st.tuples(SMALL, SMALL, st.just(0), st.just(0)), st.tuples(SMALL, SMALL, st.just(1), st.integers(0, 3))
)


def row(order: tuple[int, ...], value: int = 0) -> bytes:
    event, created, origin, position = order
    fields: dict[str, Any] = {
        "user": "u",
        "x": value,
        "event": event,
        "created": created,
        "origin": origin,
        "position": position,
    }
    return encode_batch(LAYOUT, batch(VIEW, [fields]))[0]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), ORDERS, st.integers(0, 1)),
            st.tuples(st.just("delete"), st.integers(-3, 4), st.integers(0, 3)),
        ),
        max_size=12,
    )
)
def test_the_guard_is_the_greatest_order_that_no_delete_hides(steps: list[Any]) -> None:
    stored: bytes | None = None
    kept: tuple[int, ...] | None = None
    value, through, position = None, -(2**63), 0
    for what, first, second in steps:
        if what == "delete":
            new = deleted_row(stored, first, second)
            assert (new is None) == (stored is not None and through >= first and position >= second)
            stored = new if new is not None else stored
            through, position = max(through, first), max(position, second)
            if kept is not None and gone(kept, through, position):
                kept = value = None
        else:
            merged = merge(stored, row(first, second))
            if gone(first, through, position) or (kept is not None and first < kept):
                assert merged is PutOutcome.SUPERSEDED
            elif kept == first and first[2] == 0:
                assert merged is (PutOutcome.APPLIED if value == second else PutOutcome.TIE)
            else:
                assert isinstance(merged, bytes)
                stored, kept, value = merged, first, second
        told = header(stored)
        if told is not None:
            assert (told.through, told.deleted_position) == (through, position)
            assert told.emptied == (kept is None)
            if kept is not None:
                assert (told.event, told.created, told.origin, told.position) == kept


def gone(order: tuple[int, ...], through: int, position: int) -> bool:
    return max(order[:2]) <= through or 0 < order[3] <= position


def test_a_log_row_is_put_again() -> None:
    first, second = row((1, 1, 1, 5), 1), row((1, 1, 1, 5), 2)
    assert merge(first, second) == second
    assert merge(row((1, 1, 1, 0), 1), row((1, 1, 1, 0), 2)) is not PutOutcome.TIE


def test_bytes_that_no_codec_wrote_are_overwritten_but_a_newer_codecs_are_not() -> None:
    new = row((1, 1, 0, 0))
    assert merge(b"", new) == new
    assert merge(b"hello", new) == new
    assert merge(new[:20], new) == new
    assert merge(first_codec(new)[:40], new) == new
    with pytest.raises(FormatError, match="newer headwater"):
        merge(bytes((0xA3,)) + new[1:], new)
