"""Suffix lists of counts, with sums or with means and squares, of many rows: an event merged into each as stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.list_bytes import MOST_NARROW
from headwater.online.rows.windows.records_of_many import (
    Changes,
    Column,
    Edited,
    Records,
    edited,
    packed,
)
from headwater.planning.windows.kinds import COUNT, MAX_INT64, MIN_INT64, SPREAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.planning.windows.layout import ListLayout

_U32, _F64, _I64 = np.dtype("=u4"), np.dtype("=f8"), np.dtype("=i8")
_ONE = np.uint32(1)


class CountsOfMany:
    """How such lists are changed.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.

    Attributes:
        wide: bytes of a state that stand before the boundaries.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        self._step, self._lifetime = step, layout.lifetime
        self._kind = layout.kind
        self._columns = {COUNT: 0, SPREAD: 2}.get(layout.kind, 1)
        whole = layout.kind != SPREAD and layout.dtype is not None and not layout.dtype.name.startswith("float")
        self.wide = 8 * self._columns
        self._form = _I64 if whole and layout.kind != COUNT else _F64

    def changed(
        self, parts: Sequence[bytes], records: Records, changes: Changes, has: NDArray[np.bool_], values: Sequence[Any]
    ) -> list[bytes | None]:
        """The lists with an event merged into each, without what no window can select.

        Args:
            parts: the list of each row as it is stored, usual ones.
            records: the same.
            changes: what becomes of them.
            has: which have the event.
            values: of the events; None: the list does not have it.

        Returns:
            None for a list that has to be changed by itself.
        """
        count, life, size = records.count, records.life > 0, records.size
        odd = changes.odd
        if self._lifetime:
            odd |= has & ~life
        given = np.zeros(size, self._form)
        if self._columns:
            given[:] = [0 if value is None else value for value in values]
        upto = changes.upto - changes.inserted
        merged = _Merged(np.repeat(np.tile([True, False], size), np.stack((upto, count - upto), 1).ravel()), has)
        begins = [records.columns + 8 * (count + records.life) * i for i in range(self._columns)]
        stored = [_Numbers.of(records, changes, each, self._form) for each in begins]
        counts = _Numbers.of(records, changes, records.rest, _U32)
        odd |= has & (np.where(life, counts.lifetimes, records.following(records.rest, _U32, 0 * count)) >= MOST_NARROW)
        numbers = counts.with_one(merged)
        if self._kind == SPREAD:
            columns = _spread_with(given, count, merged, counts, *stored)
        else:
            columns = [each.with_value(given, count, merged) for each in stored]
            if self._form is _I64:
                for each in stored:
                    odd |= has & each.overflows(given, count, life)
        made = edited(records, changes)
        written = has | (np.bincount(changes.gone_rows, minlength=size) > 0)
        steps = np.concatenate((records.numbers(records.steps, _U32), changes.target)).take(made.source)
        pack = packed(parts, records, self._step, made.sizes, steps, written & ~odd)
        lists = pack([each.column(made) for each in columns], [numbers.column(made)])
        return [None if is_odd else each for is_odd, each in zip(odd.tolist(), lists, strict=True)]


class _Merged(NamedTuple):
    """Which records, and which lifetimes, an event is merged into."""

    records: NDArray[np.bool_]
    lifetimes: NDArray[np.bool_]


class _Numbers(NamedTuple):
    """One column of all rows.

    Attributes:
        records: of the records, one row after another.
        new: of a record that the event of each row would begin: what is behind it.
        lifetimes: of the lifetimes, one a row.
    """

    records: NDArray[Any]
    new: NDArray[Any]
    lifetimes: NDArray[Any]

    @staticmethod
    def of(records: Records, changes: Changes, begins: NDArray[np.int64], form: np.dtype[Any]) -> _Numbers:
        """As it is stored."""
        new = records.following(begins, form, changes.place)
        return _Numbers(records.numbers(begins, form), new, records.lifetimes(begins, form))

    def with_one(self, merged: _Merged) -> _Numbers:
        """One more in each."""
        return _Numbers(self.records + merged.records, self.new + _ONE, self.lifetimes + merged.lifetimes)

    def with_value(self, given: NDArray[Any], count: NDArray[np.int64], merged: _Merged) -> _Numbers:
        """The value of each row's event added."""
        # not times 0 where it is not merged: NaN and infinities stay what they are then
        records = np.where(merged.records, self.records + np.repeat(given, count), self.records)
        lifetimes = np.where(merged.lifetimes, self.lifetimes + given, self.lifetimes)
        return _Numbers(records, self.new + given, lifetimes)

    def overflows(self, given: NDArray[Any], count: NDArray[np.int64], life: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The rows some sum of which may be beyond 64 bits with the value of their event."""
        rows = np.flatnonzero(count > 0)
        begins = (np.cumsum(count) - count)[rows]
        least, most = self.new.copy(), self.new.copy()
        if len(rows):
            least[rows] = np.minimum(least[rows], np.minimum.reduceat(self.records, begins))
            most[rows] = np.maximum(most[rows], np.maximum.reduceat(self.records, begins))
        least, most = (
            np.where(life, both(each, self.lifetimes), each) for both, each in ((np.minimum, least), (np.maximum, most))
        )
        return ((given > 0) & (most > MAX_INT64 - given)) | ((given < 0) & (least < MIN_INT64 - given))

    def column(self, made: Edited) -> Column:
        """The column as it is stored."""
        numbers = np.concatenate((self.records, self.new)).take(made.source)
        return Column(numbers.itemsize, numbers.tobytes(), self.lifetimes.tobytes())


def _spread_with(
    given: NDArray[Any], count: NDArray[np.int64], merged: _Merged, counts: _Numbers, means: _Numbers, squares: _Numbers
) -> list[_Numbers]:
    """Means and squares with the value of each row's event, by Welford's rule as `states.spread` has it."""
    everything = np.ones(len(given), np.bool_)
    values = _Numbers(np.repeat(given, count), given, given)
    masks = (merged.records, everything, merged.lifetimes)
    made = [_welford(*each) for each in zip(values, counts, means, squares, masks, strict=True)]
    return [_Numbers(*each) for each in zip(*made, strict=True)]


def _welford(
    value: NDArray[Any], count: NDArray[Any], mean: NDArray[Any], square: NDArray[Any], merged: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[Any]]:
    distance = value - mean
    after = mean + distance / (count.astype(np.int64) + 1)
    return np.where(merged, after, mean), np.where(merged, square + distance * (value - after), square)
