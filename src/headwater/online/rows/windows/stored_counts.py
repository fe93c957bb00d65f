"""A suffix list of counts, with sums or with means and squares, changed as it is stored."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.online.rows.windows.list_bytes import LIST_HEAD, MOST_NARROW, MOST_RECORDS, PADDING, TIME
from headwater.online.rows.windows.selectable import Ends, unselectable
from headwater.planning.windows.kinds import MAX_INT64, MIN_INT64, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout

_U32, _F64, _I64 = np.dtype("=u4"), np.dtype("=f8"), np.dtype("=i8")
_HEAD = LIST_HEAD.size


class StoredCounts:
    """How such a list is changed.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        self._step = step
        self._lifetime, self._bounded = layout.lifetime, bool(layout.bounded)
        self._whole = layout.dtype is not None and not layout.dtype.name.startswith("float")
        self._codes = {TOTAL: "q" if self._whole else "d", SPREAD: "dd"}.get(layout.kind, "")
        self._add = {TOTAL: self._add_total, SPREAD: self._add_spread}.get(layout.kind, self._add_count)

    def changed(self, data: bytes, entries: Sequence[tuple[int, Any]], ends: Ends) -> bytes | None:
        """The list with events merged, without what no window can select.

        Args:
            data: the list as it is stored, a usual one.
            entries: boundary, in steps, and value of each event.
            ends: of the list's windows.

        Returns:
            None: something is unusual, and the list has to be decoded.
        """
        flags, count = LIST_HEAD.unpack_from(data)
        if count + len(entries) > MOST_RECORDS or (entries and self._lifetime and not flags):
            return None
        life = 1 if flags else 0
        total, at, first = count + life, _HEAD, 0
        if count:
            first = TIME.unpack_from(data, at)[0] // self._step
            at += 8
        begin = at + 8 * total * len(self._codes)
        rest = begin + 4 * count
        steps = array("I", data[begin:rest])
        gone: list[int] | None = None
        if not entries and not (gone := unselectable(steps, first, ends, ())):
            return data
        counts = array("I", data[rest : rest + 4 * total])
        if total and counts[-1 if life else 0] + len(entries) > MOST_NARROW:
            return None
        columns = [
            array(code, data[at + 8 * total * i : at + 8 * total * (i + 1)]) for i, code in enumerate(self._codes)
        ]
        inserted = []
        upto = 0
        for boundary, value in entries:
            if self._bounded:
                if not steps:
                    first = boundary
                target = boundary - first
                if target < 0:
                    if steps[-1] - target > MOST_NARROW:
                        return None
                    shifted(steps, -target)
                    first, target = boundary, 0
                place = bisect_left(steps, target)
                if place == len(steps) or steps[place] != target:
                    if target > MOST_NARROW:
                        return None
                    behind = place < len(steps)
                    for column in (counts, *columns):
                        column.insert(place, column[place] if behind else 0)
                    steps.insert(place, target)
                    inserted.append(boundary)
                upto = place + 1
            if not self._add(value, upto, life, counts, columns):
                return None
        for index in reversed(unselectable(steps, first, ends, inserted) if gone is None else gone):
            for column in (steps, counts, *columns):
                del column[index]
        if steps and steps[0]:
            first += steps[0]
            shifted(steps, -steps[0])
        head = LIST_HEAD.pack(flags, len(steps))
        where = TIME.pack(first * self._step) if steps else b""
        return b"".join((head, where, *columns, steps, counts, PADDING[len(steps) + len(counts) & 1]))

    def _add_count(self, value: Any, upto: int, life: int, counts: array[int], columns: Sequence[array[Any]]) -> bool:
        numbers = np.frombuffer(counts, _U32)
        if upto + life == len(numbers):
            numbers += 1
        else:
            numbers[:upto] += 1
            if life:
                numbers[-1] += 1
        return True

    def _add_total(self, value: Any, upto: int, life: int, counts: array[int], columns: Sequence[array[Any]]) -> bool:
        sums = np.frombuffer(columns[0], _I64 if self._whole else _F64)
        if self._whole and not MIN_INT64 <= int(sums.min()) + value <= int(sums.max()) + value <= MAX_INT64:
            return False
        if upto + life == len(sums):
            sums += value
        else:
            sums[:upto] += value
            if life:
                sums[-1] += value
        return self._add_count(value, upto, life, counts, columns)

    def _add_spread(self, value: Any, upto: int, life: int, counts: array[int], columns: Sequence[array[Any]]) -> bool:
        """Welford's rule, as `states.spread` has it; of no events mean and squares are 0."""
        number = float(value)
        before = np.frombuffer(counts, _U32)
        means, squares = (np.frombuffer(column, _F64) for column in columns)
        parts = [slice(0, upto)]
        if life:
            parts = [slice(0, None)] if upto + 1 == len(means) else [*parts, slice(-1, None)]
        for part in parts:
            distance = number - means[part]
            means[part] += distance / (before[part].astype(np.int64) + 1)
            squares[part] += distance * (number - means[part])
        del before
        return self._add_count(value, upto, life, counts, columns)


def shifted(steps: array[int], by: int) -> None:
    """Move distances by a number of steps."""
    numbers = np.frombuffer(steps, _U32)
    if by < 0:
        numbers -= np.uint32(-by)
    else:
        numbers += np.uint32(by)
