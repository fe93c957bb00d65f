from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.codec import emptied, encode_batch, header
from headwater.online.guard import merge
from headwater.planning.layout import RowLayout
from headwater.types import Int64
from tests.unit.online.support import batch, make_view

VIEW = make_view({"x": Int64})
LAYOUT = RowLayout.of(VIEW)
SMALL = st.integers(-2, 3)
ORDERS = st.tuples(SMALL, SMALL, st.integers(0, 1), st.integers(0, 2))


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
@given(st.lists(st.one_of(ORDERS, st.integers(-3, 4)), max_size=12))
def test_the_guard_is_the_greatest_order_known_after_the_last_delete(steps: list[Any]) -> None:
    stored: bytes | None = None
    kept: tuple[int, ...] | None = None
    value = through = None
    writes = 0
    for step, what in enumerate(steps):
        if isinstance(what, int):
            stored, kept, value = emptied(stored, what), (-(2**63), -(2**63), 0, 0), None
            through, writes = max(what, through if through is not None else what), writes + 1
        else:
            merged = merge(stored, row(what, step))
            fits = (kept is None or what >= kept) and (through is None or max(what[:2]) > through)
            assert (merged is not None) == fits
            if merged is not None:
                stored, kept, value, writes = merged, what, step, writes + 1
        told = header(stored)
        if told is not None:
            assert told.sequence == writes
            assert told.through == (-(2**63) if through is None else through)
            assert (told.event, told.created, told.origin, told.position) == kept
            assert told.emptied == (value is None)


def test_the_later_put_stands_where_all_is_equal() -> None:
    first, second = row((1, 1, 0, 0), 1), row((1, 1, 0, 0), 2)
    merged = merge(first, second)
    assert merged is not None
    assert merged[47:] == second[47:]


def test_the_sequence_counts_on_and_on() -> None:
    stored = row((1, 1, 0, 0))
    for _ in range(1100):
        merged = merge(stored, row((1, 1, 0, 0)))
        assert merged is not None
        stored = merged
    told = header(stored)
    assert told is not None
    assert told.sequence == 1101


def test_bytes_that_no_codec_wrote_are_overwritten_but_a_newer_codecs_are_not() -> None:
    new = row((1, 1, 0, 0))
    assert merge(b"hello", new) == new
    assert merge(new[:20], new) == new
    with pytest.raises(FormatError, match="newer headwater"):
        merge(bytes((0xA2,)) + new[1:], new)
