"""Suffix lists of least or greatest values of many rows: an event merged into each as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.records_of_many import Changes, Column, Records, edited, packed
from headwater.planning.windows.kinds import MIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.planning.windows.layout import ListLayout

_U32 = np.dtype("=u4")


class ExtremesOfMany:
    """How such lists are changed.

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

    def changed(
        self, parts: Sequence[bytes], records: Records, changes: Changes, has: NDArray[np.bool_], values: Sequence[Any]
    ) -> list[bytes | None]:
        """The lists with an event merged into each, without what no window can select and what equals the next.

        Args:
            parts: the list of each row as it is stored, usual ones.
            records: the same.
            changes: what becomes of them.
            has: which have the event.
            values: of the events; None: the list does not have it.

        Returns:
            None for a list that has to be changed by itself.
        """
        size, count, form = records.size, records.count, self._form
        is_number = np.fromiter([value == value for value in values], np.bool_, size)
        # NaN is the greatest, and left to lists by themselves
        odd = changes.odd | ~is_number
        if self._lifetime:
            odd |= has & (records.life == 0)
        given = np.array([0 if value is None else value for value in values], form)
        begins = records.columns if self.wide else records.rest
        value, events = records.numbers(begins, form), np.repeat(given, count)
        upto = changes.upto - changes.inserted
        merged = np.repeat(np.tile([True, False], size), np.stack((upto, count - upto), 1).ravel())
        value = np.where(merged & self._further(events, value), events, value)
        lifetimes = records.lifetimes(begins, form)
        lifetimes = np.where(has & self._further(given, lifetimes), given, lifetimes)
        following = records.following(begins, form, changes.place)
        own = (changes.place >= count) | self._further(given, following)
        made = edited(records, changes)
        value = np.concatenate((value, np.where(own, given, following))).take(made.source)
        steps = np.concatenate((records.numbers(records.steps, _U32), changes.target)).take(made.source)
        rows = np.repeat(np.arange(size), made.sizes)
        apart = np.ones(len(rows), np.bool_)
        equal = value[:-1] == value[1:]
        if form.kind == "f":
            equal |= (value[:-1] != value[:-1]) & (value[1:] != value[1:])
        apart[:-1] = ~(equal & (rows[:-1] == rows[1:]))
        written = (has | (np.bincount(changes.gone_rows, minlength=size) > 0)) & ~odd
        sizes = np.bincount(rows[apart], minlength=size)
        pack = packed(parts, records, self._step, sizes, steps[apart], written)
        column = Column(form.itemsize, value[apart].tobytes(), lifetimes.tobytes())
        lists = pack([column], []) if self.wide else pack([], [column])
        return [None if is_odd else each for is_odd, each in zip(odd.tolist(), lists, strict=True)]

    def _further(self, value: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether values that are numbers come before others, which may be NaN."""
        further: NDArray[np.bool_] = ~(value >= other) if self._least else value > other
        return further
