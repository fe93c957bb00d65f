"""Suffix lists of numbers that are changed as they are stored: nothing is decoded but what an event changes.

Equal to what `lists` does to the decoded list; whatever is unusual (wide numbers, events left out, the first event of a
lifetime) is left to that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from headwater.online.rows.windows.counted_columns import LIFETIME_FLAG, CountedColumns
from headwater.online.rows.windows.extreme_columns import ExtremeColumns
from headwater.online.rows.windows.lists import RowList
from headwater.online.rows.windows.passed import Passed, widths_of
from headwater.planning.windows.kinds import COUNT, MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.values import Entry

_HEAD = struct.Struct("<BBHI")

Decode = Callable[[ListLayout, int, bytes], RowList]
"""From a list as it is stored to the decoded one."""


def stored_numbers(layout: ListLayout, step: int, data: bytes, decode: Decode) -> StoredNumbers | None:
    """A list to be kept as it is stored; None where it has anything unusual, or is cut short."""
    if len(data) < _HEAD.size:
        return None
    flags, _, count, _ = _HEAD.unpack_from(data)
    if flags & ~LIFETIME_FLAG:
        return None
    total = count + bool(flags)
    size = _HEAD.size + 8 * bool(count) + 4 * count + state_size(layout) * total
    return StoredNumbers(layout, step, data, decode) if size <= len(data) else None


@lru_cache(maxsize=1_024)
def state_size(layout: ListLayout) -> int:
    """Bytes of a state."""
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None and layout.dtype.numpy is not None
        return layout.dtype.numpy.itemsize
    return {COUNT: 4, TOTAL: 12, SPREAD: 20}[layout.kind]


class StoredNumbers(RowList):
    """A suffix list of numbers as it is stored, until something is asked of it that needs it decoded.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        data: its bytes.
        decode: from these to the decoded list.
    """

    def __init__(self, layout: ListLayout, step: int, data: bytes, decode: Decode) -> None:
        self._layout, self._step, self._decode = layout, step, decode
        self._data: bytes | None = data
        self._columns: CountedColumns | ExtremeColumns | None = None
        self._list: RowList | None = None
        self._inserted: tuple[int, ...] = ()

    # -- as it is stored

    def stored(self) -> bytes | None:
        """Its bytes; None where it was decoded."""
        if self._data is None and self._columns is not None:
            self._data = self._columns.packed()
        return self._data

    def add(self, entry: Entry, boundary: int) -> bool:
        """Merge an event; False: it has to be merged into the decoded list."""
        if self._list is not None:
            return False
        if self._columns is None:
            assert self._data is not None
            made: Any = CountedColumns if self._layout.kind not in (MIN, MAX) else ExtremeColumns
            self._columns = made.opened(self._layout, self._step, self._data)
        columns: Any = self._columns.added(entry, boundary)
        if columns is None:
            return False
        if len(columns.steps) > len(self._columns.steps):
            self._inserted = (*self._inserted, boundary)
        self._columns, self._data = columns, None
        return True

    def pruned(self, passed: Passed) -> bool:
        """Drop what no window can select any more; False: that has to be done to the decoded list."""
        if self._list is not None:
            return False
        if self._columns is None:
            assert self._data is not None
            made: Any = CountedColumns if self._layout.kind not in (MIN, MAX) else ExtremeColumns
            self._columns = made.opened(self._layout, self._step, self._data)
        starts, edges = passed.of(widths_of(self._layout))
        if edges is None:
            return False
        columns: Any = self._columns.pruned(starts, edges, self._inserted)
        if columns is not self._columns:
            self._columns, self._data = columns, None
        self._inserted = ()
        return True

    def copy(self) -> RowList:
        """Another of the same content; columns are never changed."""
        if self._list is not None:
            return self._list.copy()
        made = StoredNumbers.__new__(StoredNumbers)
        made.__dict__.update(self.__dict__)
        return made

    # -- as a decoded list

    def _decoded(self) -> RowList:
        if self._list is None:
            data = self.stored()
            assert data is not None
            self._list = self._decode(self._layout, self._step, data)
            self._data = self._columns = None
        return self._list

    @property
    def boundaries(self) -> list[int]:
        """As of a decoded list."""
        return self._decoded().boundaries

    @boundaries.setter
    def boundaries(self, value: list[int]) -> None:
        self._decoded().boundaries = value

    @property
    def states(self) -> list[Any]:
        """As of a decoded list."""
        return self._decoded().states

    @states.setter
    def states(self, value: list[Any]) -> None:
        self._decoded().states = value

    @property
    def lifetime(self) -> Any:
        """As of a decoded list."""
        return self._decoded().lifetime

    @lifetime.setter
    def lifetime(self, value: Any) -> None:
        self._decoded().lifetime = value

    @property
    def left_out(self) -> int | None:
        """As of a decoded list."""
        return self._decoded().left_out

    @left_out.setter
    def left_out(self, value: int | None) -> None:
        self._decoded().left_out = value

    @property
    def lifetime_left_out(self) -> bool:
        """As of a decoded list."""
        return self._decoded().lifetime_left_out

    @lifetime_left_out.setter
    def lifetime_left_out(self, value: bool) -> None:
        self._decoded().lifetime_left_out = value
