"""Many stored rows read at once: the windows over columns of numbers, searched and fetched by NumPy.

Rows are laid end to end; since numbers stand at multiples of their width, each is fetched where it stands. What is
unusual in a row (wide numbers, events left out, damage) is left to `reading_one`, which is the reference too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.codec import LIFETIME
from headwater.planning.windows.kinds import COUNT, MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]

_WHOLE = 1 << 53
"""Below which doubles hold all integers."""
_LIFETIME_BIT = LIFETIME.bit_length() - 1


def padding(longest: int) -> bytes:
    """What must stand behind rows: what is fetched beyond a list is not looked at, but must be there."""
    # a record has at least 4 bytes, and as many again are looked at
    return bytes(2 * longest + 64)


class NumbersRead(NamedTuple):
    """The values of one feature.

    Attributes:
        values: one a row; anything where there is none.
        there: where there is one; None: everywhere.
    """

    values: NDArray[Any]
    there: NDArray[np.bool_] | None


class _Lane(NamedTuple):
    """A window of the list at a position among those that are read, and the features that it answers."""

    place: int
    window: Window
    features: list[tuple[int, WindowFeature]]


class _Fetch(NamedTuple):
    """A column of numbers of some lanes, fetched at once.

    Attributes:
        form: of the numbers.
        lanes: the lanes.
        behind: whether it stands behind the boundaries.
        second: whether it is the second of two.
    """

    form: np.dtype[Any]
    lanes: Places
    behind: bool
    second: bool


class _Lists(NamedTuple):
    """Where things are in lists, (lists, rows) each: columns in 8 bytes from the beginning of all rows, others in 4."""

    counts: Places
    lifetime: Places
    total: Places
    columns: Places
    steps: Places
    rest: Places


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
        given = [layout.lists[index] for index in self.lists]
        bounded = [lane for lane in lanes.values() if lane.window.width is not None]
        self._lanes = bounded + [lane for lane in lanes.values() if lane.window.width is None]
        self._bounded = len(bounded)
        self._of_lane = np.array([lane.place for lane in self._lanes], np.int64)
        self._windows = list({lane.window: None for lane in bounded})
        self._of_window = np.array([self._windows.index(lane.window) for lane in bounded], np.int64)
        self._wide = np.array([_wide_columns(each) for each in given], np.int64)[:, None]
        self._narrow = np.array([_narrow_bytes(each) for each in given], np.int64)[:, None]
        self._counted = self._those([given[lane.place].kind not in (MIN, MAX) for lane in self._lanes])
        self._fetches: dict[tuple[str, bool, bool], _Fetch] = {}
        self._plan = [_Plan(self._lanes[i], i, given[self._lanes[i].place]) for i in range(len(self._lanes))]
        for fetch in dict.fromkeys(plan.fetch for plan in self._plan if plan.fetch is not None):
            form, behind, second = fetch
            chosen = self._those([plan.fetch == fetch for plan in self._plan])
            self._fetches[fetch] = _Fetch(np.dtype(form), chosen, behind, second)

    @staticmethod
    def _those(chosen: Sequence[bool]) -> Places:
        return np.flatnonzero(np.array(chosen, np.bool_)).astype(np.int64)

    def read(
        self, data: bytes, starts: Places, ends: Places, now: int | Places
    ) -> tuple[dict[int, NumbersRead], NDArray[np.bool_]]:
        """The values of the features.

        Args:
            data: rows laid end to end, each from a multiple of 8 bytes on, and `padding` of the longest.
            starts: where the lists begin: (lists, rows), bytes, multiples of 8.
            ends: where they end.
            now: the instant of all rows, or of each.

        Returns:
            Slot → values, and where a row has to be read by itself.
        """
        wide = np.frombuffer(data, "<i8", len(data) // 8)
        word = starts >> 3
        head = wide.take(word, mode="clip")
        odd = ((head & (0xFF & ~LIFETIME)) != 0) | (starts + 8 > ends)
        if odd.any():
            head = np.where(odd, 0, head)
        lists = self._places(word, head)
        short = lists.rest * 4 + self._narrow * lists.total > ends
        if short.any():
            odd |= short
            lists = self._places(word, np.where(odd, 0, head))
        first = wide.take(word + 1, mode="clip")
        most = int(lists.counts.max(initial=0))
        index, there = self._records(np.frombuffer(data, "<u4", len(data) // 4), lists, first, most, now)
        return self._values(data, lists, index, there), odd.any(axis=0)

    def _places(self, word: Places, head: Places) -> _Lists:
        count, lifetime = head >> 16 & 0xFFFF, head >> _LIFETIME_BIT & 1
        total = count + lifetime
        columns = word + 1 + (count > 0)
        steps = (columns + self._wide * total) << 1
        return _Lists(count, lifetime, total, columns, steps, steps + count)

    def _records(
        self, narrow: NDArray[np.uint32], lists: _Lists, first: Places, most: int, now: int | Places
    ) -> tuple[Places, NDArray[np.bool_]]:
        """For each lane and row which record it is, and whether there is one."""
        index = lists.counts[self._of_lane]
        if len(self._lanes) > self._bounded:
            there = np.empty(index.shape, np.bool_)
            there[self._bounded :] = lists.lifetime[self._of_lane[self._bounded :]] != 0
        else:
            there = np.empty(index.shape, np.bool_)
        if self._bounded:
            limit = index[: self._bounded].copy()
            index[: self._bounded] = self._search(narrow, lists, limit, first, most, now)
            np.less(index[: self._bounded], limit, out=there[: self._bounded])
        return index, there

    def _search(
        self,
        narrow: NDArray[np.uint32],
        lists: _Lists,
        count: Places,
        first: Places,
        most: int,
        now: int | Places,
    ) -> Places:
        """For each window and row the first record at or after the window's beginning, by halves."""
        lanes = self._of_lane[: self._bounded]
        begin = np.array([_start(window, now) for window in self._windows], np.int64)[self._of_window]
        if begin.ndim == 1:
            begin = begin[:, None]
        target = (begin - first[lanes]) // self._step
        base = lists.steps[lanes] - 1
        at, last = base.copy(), base + count
        probe = np.empty_like(at)
        fits = np.empty(at.shape, np.bool_)
        half = 1 << max(0, most.bit_length() - 1)
        while half:
            np.add(at, half, out=probe)
            np.less_equal(probe, last, out=fits)
            fits &= narrow.take(probe) < target
            np.multiply(fits, half, out=probe)
            at += probe
            half >>= 1
        at -= base
        return at

    def _values(self, data: bytes, lists: _Lists, index: Places, there: NDArray[np.bool_]) -> dict[int, NumbersRead]:
        """The values of all features; what many share is worked out once."""
        everywhere: list[bool] = np.atleast_1d(there.all(axis=1)).tolist()
        counts: dict[int, NDArray[np.int64]] = {}
        if self._counted.size:
            lanes, whole = self._counted, self._counted.size == len(self._lanes)
            own = self._of_lane if whole else self._of_lane[lanes]
            found = (
                np.frombuffer(data, "<u4", len(data) // 4)
                .take(lists.rest[own] + (index if whole else index[lanes]))
                .astype(np.int64)
            )
            found *= there if whole else there[lanes]
            counts = dict(zip(lanes.tolist(), found, strict=True))
        columns: dict[tuple[str, bool, bool], dict[int, NDArray[Any]]] = {}
        for key, fetch in self._fetches.items():
            form, own = fetch.form, self._of_lane[fetch.lanes]
            at = lists.rest[own] * (4 // form.itemsize) if fetch.behind else lists.columns[own]
            at += index[fetch.lanes]
            if fetch.second:
                at += lists.total[own]
            fetched = np.frombuffer(data, form, len(data) // form.itemsize).take(at)
            columns[key] = dict(zip(fetch.lanes.tolist(), fetched, strict=True))
        out: dict[int, NumbersRead] = {}
        for plan in self._plan:
            lane = plan.place
            mask = None if everywhere[lane] else there[lane]
            number = counts.get(lane)
            column = None if plan.fetch is None else columns[plan.fetch][lane]
            for slot, feature in plan.lane.features:
                out[slot] = _value(feature, plan.kind, number, column, mask)
        return out


class _Plan:
    """What a lane needs.

    Args:
        lane: the lane.
        place: its position.
        layout: of its list.

    Attributes:
        kind: the list's.
        fetch: its column of numbers, beside counts; None: it needs none.
    """

    def __init__(self, lane: _Lane, place: int, layout: ListLayout) -> None:
        self.lane, self.place, self.kind = lane, place, layout.kind
        self.fetch: tuple[str, bool, bool] | None = None
        if layout.kind == SPREAD:
            self.fetch = "<f8", False, True
        elif layout.kind == TOTAL:
            if any(feature.function in ("sum", "mean") for _, feature in lane.features):
                floats = layout.dtype is not None and layout.dtype.name.startswith("float")
                self.fetch = "<f8" if floats else "<i8", False, False
        elif layout.kind != COUNT:
            assert layout.dtype is not None and layout.dtype.numpy is not None
            form = layout.dtype.numpy
            self.fetch = form.str, form.itemsize != 8, False


def _value(
    feature: WindowFeature,
    kind: str,
    number: NDArray[np.int64] | None,
    column: NDArray[Any] | None,
    there: NDArray[np.bool_] | None,
) -> NumbersRead:
    function = feature.function
    if number is None:
        assert column is not None
        return NumbersRead(column, there)
    if function == "count":
        return NumbersRead(number, None)
    if function == "rate":
        assert feature.window.width is not None
        return NumbersRead(number * 1_000_000 / feature.window.width, None)
    assert column is not None
    if kind == TOTAL:
        if function == "sum":
            return NumbersRead(column, there)
        if column.dtype.kind == "i" and ((column >= _WHOLE) | (column <= -_WHOLE)).any():
            pairs = zip(column.tolist(), number.tolist(), strict=True)
            return NumbersRead(np.array([total / count if count else 0.0 for total, count in pairs]), there)
        return NumbersRead(column / (number if there is None else np.maximum(number, 1)), there)
    divisor = number - function.endswith("samp")
    enough = divisor > 0
    variance = np.where(enough & ~(column < 0), column, 0.0) / np.maximum(divisor, 1)
    if function.startswith("stddev"):
        variance = np.sqrt(variance)
    return NumbersRead(variance, None if bool(enough.all()) else enough)


def _start(window: Window, now: int | Places) -> int | Places:
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
