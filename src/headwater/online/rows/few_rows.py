"""A few rows of fixed width, read without NumPy: each of its calls costs more than a row does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from headwater.online.rows.codec import HEADER_SIZE
from headwater.planning.layout import RowLayout, Slot

FEW = 8
"""Fewer rows than this are read so."""
_CODES = {"float64": "d", "float32": "f", "int64": "q", "int32": "i"}


class FewRows:
    """How rows of a layout are read one by one.

    Args:
        layout: the rows'; nothing in it varies in width.
        slots: of the features asked for.
        mark: what a sound row begins with.
        end: bytes of a row.
    """

    __slots__ = ("_end", "_head", "_mark", "_no_nulls", "_order", "_values")

    def __init__(self, layout: RowLayout, slots: Sequence[Slot], mark: bytes, end: int) -> None:
        self._mark, self._end = mark, end
        self._no_nulls = bytes(layout.bitmap_size)
        # mark, write sequence, event and created time, log position, null bitmap
        self._head = struct.Struct(f">6s6xQQ7x{layout.bitmap_size}s")
        self._values, self._order = _reader(slots, HEADER_SIZE + layout.bitmap_size)

    def heads(self, rows: Sequence[bytes | None]) -> tuple[list[tuple[int, int]], bool] | None:
        """Event and created time of each row, as they stand in its header, and whether a value is NULL.

        Args:
            rows: as they are stored.

        Returns:
            None where one is absent, or not a sound row of this layout without a tombstone.
        """
        times, has_nulls = [], False
        for row in rows:
            if row is None or len(row) != self._end:
                return None
            mark, event, created, nulls = self._head.unpack_from(row)
            if mark != self._mark:
                return None
            times.append((event, created))
            has_nulls |= nulls != self._no_nulls
        return times, has_nulls

    def columns(self, rows: Sequence[bytes]) -> list[list[Any]] | None:
        """Python values of each column asked for; None where they have to be read otherwise."""
        if self._values is None or not rows:
            return None
        read, order = self._values.unpack_from, self._order
        if len(rows) == 1:
            values = read(rows[0])
            return [[value] for value in (values if order is None else order(values))]
        columns = list(map(list, zip(*map(read, rows), strict=True)))
        return columns if order is None else list(order(columns))


def _reader(slots: Sequence[Slot], start: int) -> tuple[struct.Struct | None, itemgetter[Any] | None]:
    """What reads the values of slots from a row as they stand there, and what puts them into the order of the slots.

    Args:
        slots: of the features asked for.
        start: where the values begin in a row.
    """
    codes, at = [], 0
    stored = sorted(range(len(slots)), key=lambda i: slots[i].offset or 0)
    for i in stored:
        code, offset = _CODES.get(slots[i].dtype.name), slots[i].offset
        if code is None or offset is None or offset < at:
            return None, None
        codes.append(f"{offset - at}x{code}")
        at = offset + struct.calcsize(code)
    places = [stored.index(i) for i in range(len(slots))]
    reader = struct.Struct(f"<{start}x{''.join(codes)}")
    return reader, None if places == list(range(len(slots))) else itemgetter(*places)
