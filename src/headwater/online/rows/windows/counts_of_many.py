"""Suffix lists of counts, with sums or with means and squares, of many rows: an event merged into each as stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.list_bytes import MOST_NARROW
from headwater.online.rows.windows.records_of_many import Changes, Merge, Records, span
from headwater.online.rows.windows.state_bytes import wide_columns
from headwater.planning.windows.kinds import MAX_INT64, MIN_INT64, SPREAD, TOTAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.rows.windows.edits_of_many import Edits
    from headwater.planning.windows.layout import ListLayout

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_U32, _F64, _I64 = np.dtype("=u4"), np.dtype("=f8"), np.dtype("=i8")
_ONE = np.uint32(1)


class CountsOfMany:
    """How such lists are changed.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.

    Attributes:
        wide: bytes of a state that stand before the boundaries.
        rule: equal for lists that can be changed together.
    """

    def __init__(self, layout: ListLayout, step: int) -> None:
        self._step, self._kind = step, layout.kind
        self._columns = wide_columns(layout)
        whole = layout.kind == TOTAL and layout.dtype is not None and not layout.dtype.name.startswith("float")
        self._form = _I64 if whole else _F64
        self.wide = 8 * self._columns
        self.rule = layout.kind, self._form.str

    def change(self, edits: Edits, merge: Merge) -> Bools:
        """Merge an event into each list, without what no window can select.

        Args:
            edits: of the rows.
            merge: what is merged into which lists.

        Returns:
            Those that are as they were, and have to be changed by themselves.
        """
        records, changes, has = merge.records, merge.changes, merge.has
        count, life, left = records.count, records.life, changes.sizes(records)
        given = merge.given(self._form) if self._columns else np.zeros(records.size, self._form)
        begins = [records.columns + 8 * (count + life) * i for i in range(self._columns)]
        stored = [_Column.of(records, changes, begin, self._form) for begin in begins]
        counts = _Column.of(records, changes, records.rest, _U32)
        greatest = np.where(life > 0, counts.lifetimes, records.following(records.rest, _U32, 0 * count))
        # the head of a list without records is shorter
        odd: Bools = changes.odd | ((count == 0) != (left == 0)) | (has & (greatest >= MOST_NARROW))
        odd |= merge.begun
        if self._form is _I64:
            for column in stored:
                odd |= has & column.overflows(given, records)
        self._merge(edits, _Merged(records, changes, has & ~odd), given, stored, counts)
        self._move(edits, records, changes.without(odd), left, [*stored, counts])
        edits.sizes.ravel()[merge.which] += np.where(odd, 0, (self.wide + 8) * (left - count))
        return odd

    def _merge(
        self, edits: Edits, merged: _Merged, given: NDArray[Any], stored: Sequence[_Column], counts: _Column
    ) -> None:
        """Change the numbers where they stand, and those of the records to be."""
        numbers, value, own = edits.bytes.view(self._form), merged.of(given), merged.places(counts)
        places = [merged.places(column) for column in stored]
        if self._kind == SPREAD:
            changed = _welford(value, edits.words[own], *(numbers[each] for each in places))
            new = _welford(given, counts.new, *(column.new for column in stored))
            for place, column, made, its in zip(places, stored, changed, new, strict=True):
                numbers[place], column.new[:] = made, its
        else:
            for place, column in zip(places, stored, strict=True):
                numbers[place] += value
                column.new[:] += given
        edits.words[own] += _ONE
        counts.new[:] += _ONE

    def _move(self, edits: Edits, records: Records, changes: Changes, left: Ints, columns: Sequence[_Column]) -> None:
        """Put the records of events that had none, and leave out those that go."""
        new, base = np.flatnonzero(changes.inserted), changes.base(records)
        moved = np.flatnonzero(base)
        places = span(records.steps[moved] >> 2, records.count[moved])
        edits.words[places] -= np.repeat(base[moved].astype(_U32), records.count[moved])
        *stored, counts = columns
        steps = _Column(records.steps, (changes.target - base).astype(_U32), records.steps)
        for column in (*stored, steps, counts):
            width = column.new.itemsize
            edits.insert(column.begin[new] + width * changes.place[new], column.new[new])
            edits.cut(column.begin[changes.gone_rows] + width * changes.gone, width)
        changed = np.union1d(new, changes.gone_rows)
        at = records.begins[changed]
        edits.words[at >> 2] = records.flags[changed] | left[changed] << 16
        edits.quads[(at >> 3) + 1] = (records.first + base)[changed] * self._step


class _Merged:
    """The numbers that an event is merged into: of records, and of lifetimes.

    Args:
        records: of the lists.
        changes: what becomes of them.
        has: which of them have the event.
    """

    def __init__(self, records: Records, changes: Changes, has: Bools) -> None:
        self._upto = np.where(has, changes.upto - changes.inserted, 0)
        self._before = self._upto.cumsum() - self._upto
        self._all = np.arange(int(self._upto.sum()))
        self._alive = np.flatnonzero(has & (records.life > 0))
        self._lifetimes = records.count[self._alive]

    def places(self, column: _Column) -> Ints:
        """Where they stand in a column, in numbers of its width."""
        begin = column.begin // column.new.itemsize
        places: Ints = np.repeat(begin - self._before, self._upto) + self._all
        if len(self._alive):
            places = np.concatenate((places, begin[self._alive] + self._lifetimes))
        return places

    def of(self, given: NDArray[Any]) -> NDArray[Any]:
        """For each of them what is given of its list."""
        value = np.repeat(given, self._upto)
        return np.concatenate((value, given[self._alive])) if len(self._alive) else value


class _Column(NamedTuple):
    """One column of all rows.

    Attributes:
        begin: where it begins.
        new: of a record that the event of each row would begin: what is behind it.
        lifetimes: of the lifetimes, one a row; any number where there is none.
    """

    begin: Ints
    new: NDArray[Any]
    lifetimes: NDArray[Any]

    @staticmethod
    def of(records: Records, changes: Changes, begin: Ints, form: np.dtype[Any]) -> _Column:
        """As it is stored."""
        return _Column(begin, records.following(begin, form, changes.place), records.lifetimes(begin, form))

    def overflows(self, given: NDArray[Any], records: Records) -> Bools:
        """The rows some sum of which may be beyond 64 bits with the value of their event."""
        some = np.flatnonzero(records.count > 0)
        least, most = self.new.copy(), self.new.copy()
        if len(some):
            numbers = records.numbers(self.begin, _I64)
            begins = (np.cumsum(records.count) - records.count)[some]
            least[some] = np.minimum(least[some], np.minimum.reduceat(numbers, begins))
            most[some] = np.maximum(most[some], np.maximum.reduceat(numbers, begins))
        least, most = (
            np.where(records.life > 0, both(each, self.lifetimes), each)
            for both, each in ((np.minimum, least), (np.maximum, most))
        )
        return ((given > 0) & (most > MAX_INT64 - given)) | ((given < 0) & (least < MIN_INT64 - given))


def _welford(
    value: NDArray[Any], count: NDArray[Any], mean: NDArray[Any], square: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means and squares with a value more, by Welford's rule as `states.spread` has it."""
    distance = value - mean
    after = mean + distance / (count.astype(np.int64) + 1)
    return after, square + distance * (value - after)
