"""A suffix list of least or greatest values, changed as it is stored: few records, in Python's lists."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import gt, lt
from typing import Any

from headwater.online.rows.windows.list_bytes import LIST_HEAD, MOST_NARROW, MOST_RECORDS
from headwater.online.rows.windows.selectable import Ends, unselectable
from headwater.planning.windows.kinds import MIN
from headwater.planning.windows.layout import ListLayout

_CODES = {"<i4": "i", "<i8": "q", "<f4": "f", "<f8": "d", "|u1": "B"}


class StoredExtremes:
    """How such a list is changed.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        assert layout.dtype is not None and layout.dtype.numpy is not None
        self._step = step
        self._lifetime, self._bounded = layout.lifetime, bool(layout.bounded)
        self._code, self._wide = _CODES[layout.dtype.numpy.str], layout.dtype.numpy.itemsize == 8
        least = layout.kind == MIN
        self._further: Callable[[Any, Any], bool] = lt if least else gt
        if layout.dtype.numpy.kind == "f":
            self._further = _less if least else _greater
        self._forms: dict[tuple[int, int], struct.Struct] = {}

    def changed(self, data: bytes, entries: Sequence[tuple[int, Any]], ends: Ends) -> bytes | None:
        """The list with events merged, without what no window can select and what equals the next.

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
        total = count + 1 if flags else count
        found = self._form(count, total).unpack_from(data)
        at, first = (3, found[2] // self._step) if count else (2, 0)
        cut = at + (total if self._wide else count)
        values, steps = (list(found[at:cut]), list(found[cut:]))
        if not self._wide:
            values, steps = steps, values
        inserted: list[int] = []
        altered = False
        further = self._further
        for boundary, value in entries:
            if flags and further(value, values[-1]):
                values[-1] = value
                altered = True
            if not self._bounded:
                continue
            if not steps:
                first = boundary
            target = boundary - first
            if target < 0:
                steps = [each - target for each in steps]
                first, target = boundary, 0
            if max(target, steps[-1] if steps else 0) > MOST_NARROW:
                return None
            place = bisect_left(steps, target)
            index = place
            if place == len(steps) or steps[place] != target:
                values.insert(
                    place, values[place] if place < len(steps) and not further(value, values[place]) else value
                )
                steps.insert(place, target)
                inserted.append(boundary)
                index -= 1
            # records before hold what those behind hold too
            while index >= 0 and further(value, values[index]):
                values[index] = value
                altered = True
                index -= 1
        gone = unselectable(steps, first, ends, inserted)
        if not (gone or inserted or altered):
            return data
        for index in reversed(gone):
            del steps[index], values[index]
        for index in range(len(steps) - 2, -1, -1):
            value, following = values[index], values[index + 1]
            if value == following or (value != value and following != following):
                del steps[index], values[index]
        if steps and steps[0]:
            base = steps[0]
            first += base
            steps = [each - base for each in steps]
        return self._packed(flags, first, values, steps)

    def _packed(self, flags: int, first: int, values: Sequence[Any], steps: Sequence[int]) -> bytes:
        count = len(steps)
        columns = (*values, *steps) if self._wide else (*steps, *values)
        where = (first * self._step,) if count else ()
        return self._form(count, len(values)).pack(flags, count, *where, *columns)

    def _form(self, count: int, total: int) -> struct.Struct:
        form = self._forms.get((count, total))
        if form is None:
            values, steps = f"{total}{self._code}", f"{count}I"
            text = f"<BxHxxxx{'q' if count else ''}{values + steps if self._wide else steps + values}"
            padding = -struct.calcsize(text) % 8
            form = self._forms[count, total] = struct.Struct(f"{text}{padding}x")
        return form


# NaN is the greatest
def _less(value: Any, other: Any) -> bool:
    return bool(value < other) or (other != other and value == value)


def _greater(value: Any, other: Any) -> bool:
    return bool(value > other) or (value != value and other == other)
