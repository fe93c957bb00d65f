"""Suffix lists of least or greatest values of many rows: an event merged into each as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.records_of_many import Changes, Records, span
from headwater.planning.windows.kinds import MIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.rows.windows.edits_of_many import Edits
    from headwater.planning.windows.layout import ListLayout

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_U32, _I64 = np.dtype("=u4"), np.dtype("=i8")


class ExtremesOfMany:
    """How such lists are changed: few records, so that each list is made whole.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.

    Attributes:
        wide: bytes of a state that stand before the boundaries.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        assert layout.dtype is not None and layout.dtype.numpy is not None
        self._step, self._lifetime = step, layout.lifetime
        self._least, self._form = layout.kind == MIN, layout.dtype.numpy
        self.wide = 8 if self._form.itemsize == 8 else 0

    def change(
        self, edits: Edits, index: int, records: Records, changes: Changes, has: Bools, values: Sequence[Any]
    ) -> Bools:
        """Merge an event into the list of each row, without what no window can select and what equals the next.

        Args:
            edits: of the rows.
            index: of the list.
            records: of the list of each row, usual ones.
            changes: what becomes of them.
            has: which have the event.
            values: of the events; None: the list does not have it.

        Returns:
            Those that are as they were, and have to be changed by themselves.
        """
        size, count, form = records.size, records.count, self._form
        is_number = np.fromiter([value == value for value in values], np.bool_, size)
        # NaN is the greatest, and left to lists by themselves
        odd = changes.odd | ~is_number
        if self._lifetime:
            odd |= has & (records.life == 0)
        given = np.array([0 if value is None else value for value in values], form)
        begins = records.columns if self.wide else records.rest
        value, rows = records.numbers(begins, form), np.repeat(np.arange(size), count)
        places = np.arange(len(rows)) - (np.cumsum(count) - count)[rows]
        merged, events = places < (changes.upto - changes.inserted)[rows], given[rows]
        value = np.where(merged & self._further(events, value), events, value)
        lifetimes = records.lifetimes(begins, form)
        lifetimes = np.where(has & self._further(given, lifetimes), given, lifetimes)
        following = records.following(begins, form, changes.place)
        own = (changes.place >= count) | self._further(given, following)
        source, sizes = changes.left(records)
        value = np.concatenate((value, np.where(own, given, following)))[source]
        steps = np.concatenate((records.numbers(records.steps, _U32), changes.target))[source]
        rows = np.repeat(np.arange(size), sizes)
        apart = np.ones(len(rows), np.bool_)
        equal = value[:-1] == value[1:]
        if form.kind == "f":
            equal |= (value[:-1] != value[:-1]) & (value[1:] != value[1:])
        apart[:-1] = ~(equal & (rows[:-1] == rows[1:]))
        written = (has | (np.bincount(changes.gone_rows, minlength=size) > 0)) & ~odd
        apart &= written[rows]
        self._write(edits, index, records, np.flatnonzero(written), rows[apart], value[apart], steps[apart], lifetimes)
        return odd

    def _further(self, value: NDArray[Any], other: NDArray[Any]) -> Bools:
        """Whether values that are numbers come before others, which may be NaN."""
        further: Bools = ~(value >= other) if self._least else value > other
        return further

    def _write(
        self,
        edits: Edits,
        index: int,
        records: Records,
        written: Ints,
        rows: Ints,
        value: NDArray[Any],
        steps: Ints,
        lifetimes: NDArray[Any],
    ) -> None:
        """Put whole lists in place of those of some rows.

        Args:
            edits: of the rows.
            index: of the list.
            records: as they were.
            written: the rows whose lists are put.
            rows: of the records, ascending.
            value: of each.
            steps: the distance of each from what was the first boundary.
            lifetimes: of each row.
        """
        if not len(written):
            return
        size = self._form.itemsize
        count, life = np.bincount(rows, minlength=records.size)[written], records.life[written]
        before, begin = np.cumsum(count) - count, 8 + 8 * (count > 0)
        base = np.where(count > 0, steps.take(before, mode="clip"), 0) if len(steps) else 0 * count
        total = begin + size * (count + life) + 4 * count + 7 & ~7
        at = np.cumsum(total) - total
        values_at = at + begin + (0 if self.wide else 4 * count)
        steps_at = at + begin + (8 * (count + life) if self.wide else 0)
        data = np.zeros(int(total.sum()), np.uint8)
        data.view(_U32)[at >> 2] = records.flags[written] | count << 16
        some = count > 0
        data.view(_I64)[(at[some] >> 3) + 1] = ((records.first[written] + base) * self._step)[some]
        of, place = span(values_at // size, count)
        data.view(self._form)[place] = value
        alive = life > 0
        data.view(self._form)[(values_at // size + count)[alive]] = lifetimes[written][alive]
        data.view(_U32)[span(steps_at >> 2, count)[1]] = steps - base[of]
        edits.replace(index, written, data, total)
