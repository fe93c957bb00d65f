"""Updates of suffix lists of numbers as they are stored: nothing is decoded but what an event changes.

Equal, byte for byte, to what `lists` does to the decoded list; whatever is unusual (wide numbers, events left out, an
event before the first record) is left to that.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.lists import RowList
from headwater.planning.windows.kinds import COUNT, MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.rule import BEFORE_ALL
from headwater.planning.windows.values import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIFETIME_FLAG = 8
_HEAD = struct.Struct("<BBHI")
_TIME = struct.Struct("<q")
_MOST_COUNT = 0xFFFFFFFF - 1
_MOST_EDGES = 48
"""Of more edges that passed it is quicker to look at every record."""
_U32 = np.dtype("<u4")
_F64 = np.dtype("<f8")
_I64 = np.dtype("<i8")


class Passed:
    """What the ends of windows passed when the newest known_at of a row rose: made once for all lists of a row.

    Args:
        before: the newest known_at that the lists were pruned by.
        after: the one that they are pruned by now.
        tolerance: by how much clocks may differ.
    """

    def __init__(self, before: int, after: int, tolerance: int) -> None:
        self.before, self.after, self.tolerance = before, after, tolerance
        self._known: dict[tuple[tuple[int, int], ...], tuple[list[tuple[int, int]], list[int] | None]] = {}

    def of(self, widths: tuple[tuple[int, int], ...]) -> tuple[list[tuple[int, int]], list[int] | None]:
        """Hop and least beginning of windows now, and the edges that none begins at any more.

        Args:
            widths: of each hop the longest window.

        Returns:
            The edges are None where there are too many.
        """
        found = self._known.get(widths)
        if found is None:
            starts: list[tuple[int, int]] = []
            edges: list[int] = []
            count = 0
            for hop, width in widths:
                start, old = (
                    t - t % hop for t in (m - hop - self.tolerance - width for m in (self.after, self.before))
                )
                starts.append((hop, start))
                count += (start - old) // hop
                if count <= _MOST_EDGES:
                    edges += range(old, start, hop)
            found = self._known[widths] = starts, edges if count <= _MOST_EDGES else None
        return found


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
        self._columns: _Counted | _Extremes | None = None
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
            made: Any = _Counted if self._layout.kind not in (MIN, MAX) else _Extremes
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
            made: Any = _Counted if self._layout.kind not in (MIN, MAX) else _Extremes
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


@lru_cache(maxsize=1_024)
def widths_of(layout: ListLayout) -> tuple[tuple[int, int], ...]:
    """Each hop of a list's windows with the longest of them."""
    longest: dict[int, int] = {}
    for window in layout.bounded:
        assert window.width is not None
        longest[window.hop] = max(window.width, longest.get(window.hop, 0))
    return tuple(sorted(longest.items()))


def _doubtful(
    first: int,
    step: int,
    steps: Sequence[int],
    starts: Sequence[tuple[int, int]],
    edges: Iterable[int],
    inserted: Sequence[int],
) -> list[int]:
    """The records that no window can select any more: only those that held an edge that passed can have become so."""
    count = len(steps)
    looked = {bisect_left(steps, (edge - first + step - 1) // step) for edge in edges}
    for boundary in inserted:
        place = bisect_left(steps, (boundary - first) // step)
        looked.add(place)
        looked.add(place + 1)
    gone = []
    for place in looked:
        if place >= count:
            continue
        boundary = first + int(steps[place]) * step
        before = first + int(steps[place - 1]) * step if place else BEFORE_ALL
        for hop, start in starts:
            edge = boundary - boundary % hop
            if edge > before and edge >= start:
                break
        else:
            gone.append(place)
    gone.sort()
    return gone


class _Counted:
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
    def opened(cls, layout: ListLayout, step: int, data: bytes) -> _Counted:
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

    def added(self, entry: Entry, boundary: int) -> _Counted | None:
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
        return _Counted(layout, self.step, first, steps, after, columns, self.lifetime)

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

    def pruned(self, starts: Sequence[tuple[int, int]], edges: Iterable[int], inserted: Sequence[int]) -> _Counted:
        """The list without the records that no window can select any more."""
        if not len(self.steps):
            return self
        steps: Any = memoryview(self.steps.data)
        gone = _doubtful(self.first, self.step, steps, starts, edges, inserted)
        if not gone:
            return self
        kept, first = _without(self.steps, gone), self.first
        if gone[0] == 0 and len(kept):
            first += int(kept[0]) * self.step
            kept = kept - kept[0]
        columns = tuple(_without(column, gone) for column in self.columns)
        return _Counted(self.layout, self.step, first, kept, _without(self.counts, gone), columns, self.lifetime)


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
    parts, before = [], 0
    for place in places:
        parts.append(column[before:place])
        before = place + 1
    parts.append(column[before:])
    return np.concatenate(parts)


def _has_floats(layout: ListLayout) -> bool:
    return layout.dtype is not None and layout.dtype.name.startswith("float")


class _Extremes:
    """A list of least or greatest values: few records, in Python's lists, the lifetime last.

    Args:
        layout: the list's.
        step: what boundaries are multiples of.
        first: the first boundary.
        steps: each one's distance.
        values: of each state.
        lifetime: whether there is one.
    """

    __slots__ = ("first", "layout", "lifetime", "step", "steps", "values")

    def __init__(
        self, layout: ListLayout, step: int, first: int, steps: list[int], values: list[Any], lifetime: bool
    ) -> None:
        self.layout, self.step, self.first = layout, step, first
        self.steps, self.values, self.lifetime = steps, values, lifetime

    @classmethod
    def opened(cls, layout: ListLayout, step: int, data: bytes) -> _Extremes:
        """A list that `stored_numbers` has looked at."""
        flags, _, count, _ = _HEAD.unpack_from(data)
        total = count + bool(flags)
        code, wide = _code(layout)
        found = _extremes_form(code, wide, count, total).unpack_from(data)
        at = 5 if count else 4
        if wide:
            values, steps = found[at : at + total], found[at + total :]
        else:
            steps, values = found[at : at + count], found[at + count :]
        return cls(layout, step, found[4] if count else 0, list(steps), list(values), bool(flags))

    def packed(self) -> bytes:
        """The list as it is stored."""
        steps, values, count = self.steps, self.values, len(self.steps)
        form = _extremes_form(*_code(self.layout), count, len(values))
        head = (LIFETIME_FLAG if self.lifetime else 0, 0, count, 0, *([self.first] if count else ()))
        wide = _code(self.layout)[1]
        data = form.pack(*head, *values, *steps) if wide else form.pack(*head, *steps, *values)
        return data + bytes(-len(data) % 8)

    def added(self, entry: Entry, boundary: int) -> _Extremes | None:
        """The list with one event more; None where it is to be added to the decoded list."""
        layout, count, value = self.layout, len(self.steps), entry.value
        if layout.lifetime and not self.lifetime:
            return None
        further = _further_of(layout.kind)
        values, steps, first = self.values.copy(), self.steps, self.first
        if self.lifetime and further(value, values[-1]):
            values[-1] = value
        if not layout.bounded:
            return _Extremes(layout, self.step, first, steps, values, self.lifetime)
        target = (boundary - first) // self.step if count else 0
        if target < 0:
            first, steps, target = boundary, [each - target for each in steps], 0
        if count >= 0xFFFF or max(target, steps[-1] if count else 0) > 0xFFFFFFFF:
            return None
        place = bisect_left(steps, target)
        there = place < count and steps[place] == target
        for i in range(place + there - 1, -1, -1):
            # those before hold what those behind hold too
            if not further(value, values[i]):
                break
            values[i] = value
        if not there:
            following = values[place] if place < count else value
            steps = steps.copy()
            steps.insert(place, target)
            values.insert(place, value if further(value, following) else following)
            first = first if count else boundary
        return _Extremes(layout, self.step, first, steps, values, self.lifetime)

    def pruned(self, starts: Sequence[tuple[int, int]], edges: Iterable[int], inserted: Sequence[int]) -> _Extremes:
        """The list without the records that no window can select any more, and those that equal the next."""
        steps, values = self.steps, self.values
        if not steps:
            return self
        gone = _doubtful(self.first, self.step, steps, starts, edges, inserted)
        kept = [i for i in range(len(steps)) if i not in gone] if gone else range(len(steps))
        apart: list[int] = []
        for i in reversed(kept):
            value, following = values[i], values[apart[-1]] if apart else None
            if not apart or not (value == following or (value != value and following != following)):
                apart.append(i)
        if len(apart) == len(steps):
            return self
        apart.reverse()
        first = self.first + steps[apart[0]] * self.step if apart else self.first
        base = steps[apart[0]] if apart else 0
        rest = values[len(steps) :]
        return _Extremes(
            self.layout,
            self.step,
            first,
            [steps[i] - base for i in apart],
            [values[i] for i in apart] + rest,
            self.lifetime,
        )


# NaN is the greatest
def _less(value: Any, other: Any) -> bool:
    return bool(value < other) or (other != other and value == value)


def _greater(value: Any, other: Any) -> bool:
    return bool(value > other) or (value != value and other == other)


def _further_of(kind: str) -> Callable[[Any, Any], bool]:
    return _less if kind == MIN else _greater


_CODES = {"<i4": "i", "<i8": "q", "<f4": "f", "<f8": "d", "|u1": "B"}


@lru_cache(maxsize=256)
def _code(layout: ListLayout) -> tuple[str, bool]:
    """How a value is packed, and whether it has 8 bytes."""
    assert layout.dtype is not None and layout.dtype.numpy is not None
    form = layout.dtype.numpy
    return _CODES[form.str], form.itemsize == 8


@lru_cache(maxsize=4_096)
def _extremes_form(code: str, wide: bool, count: int, total: int) -> struct.Struct:
    values, steps = f"{total}{code}", f"{count}I"
    return struct.Struct(f"<BBHI{'q' if count else ''}{values + steps if wide else steps + values}")
