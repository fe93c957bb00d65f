"""Many stored rows read at once: the windows over columns of numbers, searched and fetched by NumPy.

Rows are laid end to end; since numbers stand at multiples of their width, each is fetched where it stands. What is
unusual in a row (wide numbers, events left out, damage) is left to `reading_one`, which is the reference too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.codec import LIFETIME
from headwater.planning.windows.kinds import MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLE = 1 << 53
"""Below which doubles hold all integers."""
_LIFETIME_BIT = LIFETIME.bit_length() - 1


class NumbersRead(NamedTuple):
    """The values of one feature.

    Attributes:
        values: one a row; anything where there is none.
        there: where there is one; None: everywhere.
    """

    values: NDArray[Any]
    there: NDArray[np.bool_] | None


class _Lane(NamedTuple):
    """A window of the list at a place among those that are read, and the features that it answers."""

    place: int
    window: Window
    features: list[tuple[int, WindowFeature]]


class NumbersReader:
    """Reads lists of columns of numbers of many rows.

    Args:
        layout: the version's.
        features: those asked for, with their slots; all of them of such lists.
    """

    def __init__(self, layout: WindowLayout, features: Sequence[tuple[int, WindowFeature]]) -> None:
        self.lists = sorted({feature.list for _, feature in features})
        self._step = layout.step
        position = {index: i for i, index in enumerate(self.lists)}
        lanes: dict[tuple[int, Window], _Lane] = {}
        for slot, feature in features:
            key = position[feature.list], feature.window
            lanes.setdefault(key, _Lane(*key, [])).features.append((slot, feature))
        self._bounded = [lane for lane in lanes.values() if lane.window.width is not None]
        self._lifetimes = [lane for lane in lanes.values() if lane.window.width is None]
        self._of_lane = np.array([lane.place for lane in self._bounded], np.intp)
        given = [layout.lists[index] for index in self.lists]
        self._layouts = given
        self._wide = np.array([_wide_columns(each) for each in given], np.int64)[:, None]
        self._narrow = np.array([_narrow_bytes(each) for each in given], np.int64)[:, None]

    def read(
        self, data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], now: int | NDArray[np.int64]
    ) -> tuple[dict[int, NumbersRead], NDArray[np.bool_]]:
        """The values of the features.

        Args:
            data: rows laid end to end, each from a multiple of 8 bytes on.
            starts: where the lists begin: (lists, rows), bytes, multiples of 8.
            ends: where they end.
            now: the instant of all rows, or of each.

        Returns:
            Slot → values, and where a row has to be read by itself.
        """
        wide = np.frombuffer(data, "<i8", len(data) // 8)
        word = starts >> 3
        head = wide.take(word, mode="clip")
        first = wide.take(word + 1, mode="clip")
        odd = ((head & 0xFF & ~LIFETIME) != 0) | (starts + 8 > ends)
        if odd.any():
            head = np.where(odd, 0, head)
        count, lifetime, total, columns, steps, rest = self._places(word, head)
        short = rest * 4 + self._narrow * total > ends
        if short.any():
            odd |= short
            count, lifetime, total, columns, steps, rest = self._places(word, np.where(odd, 0, head))
        # what is fetched beyond a list is not looked at, but must be there
        most = int(count.max(initial=0))
        data += bytes(8 * most + 64)
        self._data = data
        out: dict[int, NumbersRead] = {}
        narrow = np.frombuffer(data, "<u4", len(data) // 4)
        if self._bounded:
            indexes = self._search(narrow, steps, count, first, most, now)
            for place, lane in enumerate(self._bounded):
                index = indexes[place]
                own = lane.place
                self._values(lane, index, index < count[own], columns[own], total[own], rest[own], now, out)
        for lane in self._lifetimes:
            there = lifetime[lane.place] != 0
            self._values(
                lane, count[lane.place], there, columns[lane.place], total[lane.place], rest[lane.place], now, out
            )
        return out, odd.any(axis=0)

    def _places(self, word: NDArray[np.int64], head: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Records, lifetimes, states; where columns begin, in 8 bytes, boundaries and all else, in 4 bytes."""
        count, lifetime = head >> 16 & 0xFFFF, head >> _LIFETIME_BIT & 1
        total = count + lifetime
        columns = word + 1 + (count > 0)
        steps = (columns + self._wide * total) << 1
        return count, lifetime, total, columns, steps, steps + count

    def _search(
        self,
        narrow: NDArray[np.uint32],
        steps: NDArray[np.int64],
        count: NDArray[np.int64],
        first: NDArray[np.int64],
        most: int,
        now: int | NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """For each window and row the first record at or after the window's beginning, by halves."""
        begins = [_start(lane.window, now) for lane in self._bounded]
        lanes = self._of_lane
        begin = np.array(begins, np.int64)
        if begin.ndim == 1:
            begin = begin[:, None]
        target = (begin - first[lanes]) // self._step
        base, limit = steps[lanes] - 1, count[lanes]
        found = np.zeros(target.shape, np.int64)
        probe, fits = np.empty_like(found), np.empty(target.shape, np.bool_)
        less = np.empty_like(fits)
        half = 1 << max(0, most.bit_length() - 1)
        while half:
            np.add(found, half, probe)
            np.less_equal(probe, limit, fits)
            np.less(narrow.take(probe + base), target, less)
            less &= fits
            found += less.astype(np.int64) * half
            half >>= 1
        return found

    def _values(
        self,
        lane: _Lane,
        index: NDArray[np.int64],
        there: NDArray[np.bool_],
        columns: NDArray[np.int64],
        total: NDArray[np.int64],
        rest: NDArray[np.int64],
        now: int | NDArray[np.int64],
        out: dict[int, NumbersRead],
    ) -> None:
        layout = self._layouts[lane.place]
        everywhere = bool(there.all())
        mask = None if everywhere else there
        if layout.kind in (MIN, MAX):
            values = self._extremes(layout, index, columns, rest)
            for slot, _ in lane.features:
                out[slot] = NumbersRead(values, mask)
            return
        number = np.frombuffer(self._data, "<u4").take(rest + index).astype(np.int64)
        if not everywhere:
            number *= there
        for slot, feature in lane.features:
            out[slot] = self._counted(feature, layout, number, index, mask, columns, total)

    def _extremes(
        self, layout: ListLayout, index: NDArray[np.int64], columns: NDArray[np.int64], rest: NDArray[np.int64]
    ) -> NDArray[Any]:
        assert layout.dtype is not None and layout.dtype.numpy is not None
        form = layout.dtype.numpy
        at = columns + index if form.itemsize == 8 else rest * (4 // form.itemsize) + index
        return np.frombuffer(self._data, form, len(self._data) // form.itemsize).take(at)

    def _counted(
        self,
        feature: WindowFeature,
        layout: ListLayout,
        number: NDArray[np.int64],
        index: NDArray[np.int64],
        there: NDArray[np.bool_] | None,
        columns: NDArray[np.int64],
        total: NDArray[np.int64],
    ) -> NumbersRead:
        function = feature.function
        if function == "count":
            return NumbersRead(number, None)
        if function == "rate":
            assert feature.window.width is not None
            return NumbersRead(number * 1_000_000 / feature.window.width, None)
        if layout.kind == TOTAL:
            floats = layout.dtype is not None and layout.dtype.name.startswith("float")
            sums = np.frombuffer(self._data, "<f8" if floats else "<i8").take(columns + index)
            if function == "sum":
                return NumbersRead(sums, there)
            if not floats and ((sums >= _WHOLE) | (sums <= -_WHOLE)).any():
                pairs = zip(sums.tolist(), number.tolist(), strict=True)
                return NumbersRead(np.array([s / n if n else 0.0 for s, n in pairs]), there)
            return NumbersRead(sums / np.maximum(number, 1), there)
        assert layout.kind == SPREAD
        squares = np.frombuffer(self._data, "<f8").take(columns + total + index)
        divisor = number - function.endswith("samp")
        enough = divisor > 0
        variance = np.where(squares < 0, 0.0, squares) / np.maximum(divisor, 1)
        if function.startswith("stddev"):
            variance = np.sqrt(np.where(enough, variance, 0.0))
        return NumbersRead(variance, None if bool(enough.all()) else enough)


def _start(window: Window, now: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
    assert window.width is not None
    start = now - window.offset - window.width
    return start - start % window.hop


def _wide_columns(layout: ListLayout) -> int:
    """How many columns of 8 bytes stand before the boundaries."""
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None and layout.dtype.numpy is not None
        return int(layout.dtype.numpy.itemsize == 8)
    return {TOTAL: 1, SPREAD: 2}.get(layout.kind, 0)


def _narrow_bytes(layout: ListLayout) -> int:
    """Bytes of a state that stand behind them."""
    if layout.kind in (MIN, MAX):
        assert layout.dtype is not None and layout.dtype.numpy is not None
        return 0 if layout.dtype.numpy.itemsize == 8 else layout.dtype.numpy.itemsize
    return 4
