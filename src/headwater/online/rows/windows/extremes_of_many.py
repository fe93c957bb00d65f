"""Suffix lists of least or greatest values of many rows: an event merged into each as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.records_of_many import Merge, Records, span
from headwater.online.rows.windows.state_bytes import wide_columns
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
        rule: equal for lists that can be changed together.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        assert layout.dtype is not None and layout.dtype.numpy is not None
        self._step, self._form = step, layout.dtype.numpy
        self.wide = 8 * wide_columns(layout)
        self.rule = MIN, self._form.str

    def change(self, edits: Edits, merge: Merge) -> Bools:
        """Merge an event into each list, without what no window can select and what equals the next.

        Args:
            edits: of the rows.
            merge: what is merged into which lists.

        Returns:
            Those that are as they were, and have to be changed by themselves.
        """
        records, changes, has, least = merge.records, merge.changes, merge.has, merge.least
        size, count, form = records.size, records.count, self._form
        given = merge.given(form)
        # NaN is the greatest, and left to lists by themselves
        odd: Bools = changes.odd | (given != given) | merge.begun
        begins = records.columns if self.wide else records.rest
        value, upto = records.numbers(begins, form), changes.upto - changes.inserted
        merged = np.arange(len(value)) < np.repeat(count.cumsum() - count + upto, count)
        events = np.repeat(given, count)
        value = np.where(merged & _further(events, value, np.repeat(least, count)), events, value)
        lifetimes = records.lifetimes(begins, form)
        lifetimes = np.where(has & _further(given, lifetimes, least), given, lifetimes)
        following = records.following(begins, form, changes.place)
        own = (changes.place >= count) | _further(given, following, least)
        source, sizes = changes.left(records)
        value = np.concatenate((value, np.where(own, given, following)))[source]
        steps = np.concatenate((records.numbers(records.steps, _U32), changes.target))[source]
        rows = np.repeat(np.arange(size), sizes)
        same = value[:-1] == value[1:]
        if form.kind == "f":
            same |= (value[:-1] != value[:-1]) & (value[1:] != value[1:])
        same &= rows[:-1] == rows[1:]
        written = (has | (np.bincount(changes.gone_rows, minlength=size) > 0)) & ~odd
        apart = written[rows]
        apart[:-1] &= ~same
        self._write(edits, records, written, rows[apart], value[apart], steps[apart], lifetimes, merge.which)
        return odd

    def _write(
        self,
        edits: Edits,
        records: Records,
        written: Bools,
        rows: Ints,
        value: NDArray[Any],
        steps: Ints,
        lifetimes: NDArray[Any],
        which: Ints,
    ) -> None:
        """Put whole lists in place of some.

        Args:
            edits: of the rows.
            records: as they were.
            written: the lists that are put.
            rows: of the records, ascending.
            value: of each.
            steps: the distance of each from what was the first boundary.
            lifetimes: of each list.
            which: of the lists of the rows each is.
        """
        size, own = self._form.itemsize, np.flatnonzero(written)
        count, life = np.bincount(rows, minlength=records.size)[own], records.life[own]
        before, some = count.cumsum() - count, count > 0
        base = np.where(some, steps.take(before, mode="clip"), 0) if len(steps) else before
        begin = 8 + 8 * some
        total = begin + size * (count + life) + 4 * count + 7 & ~7
        at = total.cumsum() - total
        values_at = (at + begin + (0 if self.wide else 4 * count)) // size
        steps_at = at + begin + (8 * (count + life) if self.wide else 0)
        data = np.zeros(int(total.sum()), np.uint8)
        words, numbers = data.view(_U32), data.view(self._form)
        words[at >> 2] = records.flags[own] | count << 16
        data.view(_I64)[(at[some] >> 3) + 1] = ((records.first[own] + base) * self._step)[some]
        numbers[span(values_at, count)] = value
        alive = life > 0
        numbers[(values_at + count)[alive]] = lifetimes[own][alive]
        words[span(steps_at >> 2, count)] = steps - np.repeat(base, count)
        edits.replace(which[own], data, total)


def _further(value: NDArray[Any], other: NDArray[Any], least: Bools) -> Bools:
    """Whether values that are numbers come before others, which may be NaN."""
    further: Bools = np.where(least, ~(value >= other), value > other)
    return further
