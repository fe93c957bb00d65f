"""A suffix list of counts, with sums or with means and squares, as NumPy columns."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.passed import doubtful
from headwater.planning.windows.kinds import COUNT, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.values import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIFETIME_FLAG = 8
_HEAD = struct.Struct("<BBHI")
_TIME = struct.Struct("<q")
_MOST_COUNT = 0xFFFFFFFF - 1
_U32, _F64, _I64 = np.dtype("<u4"), np.dtype("<f8"), np.dtype("<i8")


class CountedColumns:
    """A list of counts, with sums or with means and squares: NumPy columns, the lifetime last.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        first: the first boundary.
        steps: each one's distance.
        counts: of each state.
        columns: sums; or means and squares.
        lifetime: whether there is one.
    """

    __slots__ = ("columns", "counts", "first", "layout", "lifetime", "step", "steps")

    def __init__(
        self,
        layout: ListLayout,
        step: int,
        first: int,
        steps: NDArray[np.uint32],
        counts: NDArray[np.uint32],
        columns: tuple[NDArray[Any], ...],
        lifetime: bool,
    ) -> None:
        self.layout, self.step, self.first, self.steps = layout, step, first, steps
        self.counts, self.columns, self.lifetime = counts, columns, lifetime

    @classmethod
    def opened(cls, layout: ListLayout, step: int, data: bytes) -> CountedColumns:
        """A list that `stored_numbers` has looked at."""
        flags, _, count, _ = _HEAD.unpack_from(data)
        total, at, first = count + bool(flags), 8, 0
        if count:
            (first,) = _TIME.unpack_from(data, at)
            at += 8
        columns: tuple[NDArray[Any], ...] = ()
        if layout.kind != COUNT:
            form = _F64 if layout.kind == SPREAD or _has_floats(layout) else _I64
            columns = tuple(
                np.frombuffer(data, form, total, at + 8 * total * i) for i in range(2 if layout.kind == SPREAD else 1)
            )
            at += 8 * total * len(columns)
        steps = np.frombuffer(data, _U32, count, at)
        return cls(layout, step, first, steps, np.frombuffer(data, _U32, total, at + 4 * count), columns, bool(flags))

    def packed(self) -> bytes:
        """The list as it is stored."""
        count, columns = len(self.steps), [column.tobytes() for column in self.columns]
        head = _HEAD.pack(LIFETIME_FLAG if self.lifetime else 0, 0, count, 0)
        first = _TIME.pack(self.first) if count else b""
        data = b"".join((head, first, *columns, self.steps.tobytes(), self.counts.tobytes()))
        return data + bytes(-len(data) % 8)

    def added(self, entry: Entry, boundary: int) -> CountedColumns | None:
        """The list with one event more; None where it is to be added to the decoded list."""
        layout, count, counts = self.layout, len(self.steps), self.counts
        wants = layout.lifetime
        if count >= 0xFFFF or (len(counts) and max(int(counts[0]), int(counts[-1])) >= _MOST_COUNT):
            return None
        if wants and not self.lifetime:
            # the first event of all
            return None
        bounded = bool(layout.bounded)
        first, steps = self.first, self.steps
        if not bounded:
            upto, place, there = 0, 0, True
        else:
            target = (boundary - first) // self.step if count else 0
            if target < 0:
                if int(steps[-1]) - target > 0xFFFFFFFF:
                    return None
                first, steps, target = boundary, steps + np.uint32(-target), 0
            elif target > 0xFFFFFFFF:
                return None
            place = int(steps.searchsorted(np.uint32(target)))
            there = place < count and int(steps[place]) == target
            upto = place + there
        columns = self._columns_with(entry, place, upto, there)
        if columns is None:
            return None
        after = _widened(counts, place, 0 if there else 1)
        after[:upto] += np.uint32(1)
        if not there:
            after[place] = (int(counts[place]) if place < count else 0) + 1
        if self.lifetime:
            after[-1] += np.uint32(1)
        if not there:
            steps = _widened(steps, place, 1)
            steps[place] = target
            first = first if count else boundary
        return CountedColumns(layout, self.step, first, steps, after, columns, self.lifetime)

    def _columns_with(self, entry: Entry, place: int, upto: int, there: bool) -> tuple[NDArray[Any], ...] | None:
        """The columns with one event more; `place` is where its record is, or is to be."""
        kind, count = self.layout.kind, len(self.steps)
        if kind == COUNT:
            return ()
        if kind == TOTAL:
            return self._sums_with(entry.value, place, upto, there)
        value = float(entry.value)
        means, squares = self.columns
        mean, square = _widened(means, place, 0 if there else 1), _widened(squares, place, 0 if there else 1)
        with np.errstate(all="ignore"):
            mean[:upto], square[:upto] = _spread_with(value, self.counts[:upto], means[:upto], squares[:upto])
            if self.lifetime:
                mean[-1:], square[-1:] = _spread_with(value, self.counts[-1:], means[-1:], squares[-1:])
            if not there:
                if place < count:
                    own = slice(place, place + 1)
                    mean[own], square[own] = _spread_with(value, self.counts[own], means[own], squares[own])
                else:
                    mean[place], square[place] = value, value - value
        return mean, square

    def _sums_with(self, value: Any, place: int, upto: int, there: bool) -> tuple[NDArray[Any], ...] | None:
        (sums,) = self.columns
        whole = sums.dtype.kind == "i"
        if whole and len(sums):
            low, high = int(sums.min()) + value, int(sums.max()) + value
            if low < -(2**63) or high >= 2**63:
                return None
        if whole and not -(2**63) <= value < 2**63:
            return None
        after = _widened(sums, place, 0 if there else 1)
        with np.errstate(all="ignore"):
            after[:upto] += value
            if self.lifetime:
                after[-1] += value
            if not there:
                after[place] = sums[place] + value if place < len(self.steps) else value
        return (after,)

    def pruned(
        self, starts: Sequence[tuple[int, int]], edges: Iterable[int], inserted: Sequence[int]
    ) -> CountedColumns:
        """The list without the records that no window can select any more."""
        if not len(self.steps):
            return self
        steps: Any = memoryview(self.steps.data)
        gone = doubtful(self.first, self.step, steps, starts, edges, inserted)
        if not gone:
            return self
        kept, first = _without(self.steps, gone), self.first
        if gone[0] == 0 and len(kept):
            first += int(kept[0]) * self.step
            kept = kept - kept[0]
        columns = tuple(_without(column, gone) for column in self.columns)
        return CountedColumns(self.layout, self.step, first, kept, _without(self.counts, gone), columns, self.lifetime)


def _spread_with(
    value: float, counts: NDArray[np.uint32], means: NDArray[Any], squares: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Welford's rule, as `states.spread` has it."""
    distance = value - means
    after = means + distance / (counts.astype(np.int64) + 1)
    return after, squares + distance * (value - after)


def _widened(column: NDArray[Any], place: int, by: int) -> NDArray[Any]:
    """A column of one's own, with room for one more at a place where `by` is 1."""
    if not by:
        return column.copy()
    out = np.empty(len(column) + 1, column.dtype)
    out[:place] = column[:place]
    out[place + 1 :] = column[place:]
    return out


def _without(column: NDArray[Any], places: Sequence[int]) -> NDArray[Any]:
    """A column without some of its numbers."""
    if len(places) == 1:
        (place,) = places
        return np.concatenate((column[:place], column[place + 1 :]))
    parts, before = [], 0
    for place in places:
        parts.append(column[before:place])
        before = place + 1
    parts.append(column[before:])
    return np.concatenate(parts)


def _has_floats(layout: ListLayout) -> bool:
    return layout.dtype is not None and layout.dtype.name.startswith("float")
