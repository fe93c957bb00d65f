"""Lists of a stored row, read where they stand: only the records that are asked for are decoded."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, overload

from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.list_bytes import (
    LEFT_OUT,
    LIFETIME,
    LIFETIME_LEFT_OUT,
    WIDE_BOUNDARIES,
)
from headwater.online.rows.windows.packing import Bytes
from headwater.online.rows.windows.state_bytes import WIDE_COUNTS, WIDE_SUMS, piece_state, wide_size
from headwater.planning.windows.kinds import COUNT, SPREAD, TOTAL
from headwater.planning.windows.layout import WHOLE, ListLayout

HEAD = struct.Struct("<BxHxxxx")
TIME = struct.Struct("<q")
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
DOUBLE = struct.Struct("<d")
NUMBERED = frozenset({COUNT, TOTAL, SPREAD})
"""Kinds whose states have a count."""


class StoredList(Sequence[Any]):
    """One list of a stored row, as `reading.read_feature` takes it; as a sequence, its states but the lifetime's.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        data: the row.
        at: where the list begins.
        end: where it ends.

    Raises:
        Damaged: the bytes are too few for what they say.
    """

    def __init__(self, layout: ListLayout, step: int, data: bytes, at: int, end: int) -> None:
        if end - at < HEAD.size:
            raise Damaged("a window row cut short")
        self._layout, self._step, self._data, self._end = layout, step, data, end
        flags, count = HEAD.unpack_from(data, at)
        self._flags: int = flags
        self._count: int = count
        at += HEAD.size
        self.left_out: int | None = None
        if flags & LEFT_OUT:
            (self.left_out,) = TIME.unpack(Bytes(data, at, end).take(8))
            at += 8
        bounded = count if layout.shape != WHOLE else 0
        self._first = 0
        if bounded:
            (self._first,) = TIME.unpack(Bytes(data, at, end).take(8))
            at += 8
        self._total = count + bool(flags & LIFETIME)
        self._columns = at
        at += wide_size(layout, flags) * self._total
        steps = bounded * (8 if flags & WIDE_BOUNDARIES else 4)
        self._rest = at + steps
        if self._rest > end:
            raise Damaged("a window row cut short")
        self._steps = memoryview(data)[at : self._rest].cast("Q" if flags & WIDE_BOUNDARIES else "I")

    @property
    def lifetime_left_out(self) -> bool:
        """Whether the lifetime lacks an event."""
        return bool(self._flags & LIFETIME_LEFT_OUT)

    @property
    def lifetime(self) -> Any:
        """The state of all events; None: there is none."""
        return self._state(self._total - 1) if self._flags & LIFETIME else None

    @property
    def states(self) -> Sequence[Any]:
        """The states of its records, each decoded where it is taken."""
        return self

    def first_from(self, time: int) -> int:
        """The first record with a boundary at or after a time."""
        # a time that a window begins or ends at is a whole number of steps from every boundary
        return bisect_left(self._steps, -((self._first - time) // self._step))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self._state(i) for i in range(*place.indices(self._count))]
        if not 0 <= place < self._count:
            raise IndexError(place)
        return self._state(place)

    def _state(self, place: int) -> Any:
        kind = self._layout.kind
        if kind in NUMBERED:
            wide = bool(self._flags & WIDE_COUNTS)
            count = self._number(U64 if wide else U32, self._rest + (8 if wide else 4) * place)
            if kind == COUNT:
                return count
            if kind == SPREAD:
                mean = self._number(DOUBLE, self._columns + 8 * place)
                return count, mean, self._number(DOUBLE, self._columns + 8 * (self._total + place))
            return count, self._sum(place)
        if self._layout.numbers:
            form = number_form(self._layout)
            start = self._columns if form.size == 8 else self._rest
            return self._number(form, start + form.size * place)
        return piece_state(self._layout, self._step, self._piece(place))

    def _number(self, form: struct.Struct, at: int) -> Any:
        if at + form.size > self._end:
            raise Damaged("a window row cut short")
        return form.unpack_from(self._data, at)[0]

    def _sum(self, place: int) -> Any:
        dtype = self._layout.dtype
        if dtype is not None and dtype.name in ("float32", "float64"):
            return self._number(DOUBLE, self._columns + 8 * place)
        size = 16 if self._flags & WIDE_SUMS else 8
        at = self._columns + size * place
        return int.from_bytes(Bytes(self._data, at, self._end).take(size), "little", signed=True)

    def _piece(self, place: int) -> Bytes:
        ends = Bytes(self._data, self._rest, self._end).take(4 * self._total)
        start = self._rest + 4 * self._total
        before = U32.unpack_from(ends, 4 * place - 4)[0] if place else 0
        (end,) = U32.unpack_from(ends, 4 * place)
        if before > end or start + end > self._end:
            raise Damaged("a window row cut short")
        return Bytes(self._data, start + before, start + end)


_FORMS = {"<i4": "<i", "<i8": "<q", "<f4": "<f", "<f8": "<d", "|u1": "<B"}


def number_form(layout: ListLayout) -> struct.Struct:
    """How the least or greatest value of a list is stored, where its states are numbers."""
    assert layout.dtype is not None and layout.dtype.numpy is not None
    return struct.Struct(_FORMS[layout.dtype.numpy.str])
