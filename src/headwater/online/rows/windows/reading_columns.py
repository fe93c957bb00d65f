"""Many stored rows read at once: the windows over columns of numbers, searched and fetched by NumPy.

Rows are laid end to end; since numbers stand at multiples of their width, each is fetched where it stands. What is
unusual in a row (wide numbers, events left out, damage) is left to `reading_one`, which is the reference too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.codec import WINDOW_HEADER_SIZE
from headwater.online.rows.windows.list_bytes import LIFETIME, USUAL
from headwater.online.rows.windows.state_bytes import narrow_bytes, wide_columns
from headwater.planning.windows.kinds import COUNT, MAX, MIN, SPREAD, TOTAL
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Mask = NDArray[np.bool_]

_WHOLE = 1 << 53
"""Below which doubles hold all integers."""
_LIFETIME_BIT = LIFETIME.bit_length() - 1
_LARGEST = np.int64(0xFFFFFFFF)
_PADDING = bytes(64)


class JoinedRows:
    """Stored rows laid end to end, behind them a blank one.

    Args:
        rows: each of a multiple of 8 bytes.
        sizes: how many bytes each has; taken over.
        blank: a row without records.

    Attributes:
        quads, words: all of it as numbers of 8 bytes and of 4.
        base: where each row begins, in 8 bytes.
        sizes: see there.
    """

    def __init__(self, rows: Sequence[bytes], sizes: Places, blank: bytes) -> None:
        self.data = b"".join((*rows, blank, _PADDING))
        self.quads = np.frombuffer(self.data, "<i8")
        self.words = self.quads.view("<u4")
        after = sizes.cumsum()
        self._blank, self._blank_size = int(after[-1]) >> 3, len(blank)
        self.base = (after - sizes) >> 3
        self.sizes = sizes

    def put_blank(self, which: Any) -> None:
        """Have a blank row in place of some."""
        self.base[which], self.sizes[which] = self._blank, self._blank_size


class NumbersRead(NamedTuple):
    """The values of one feature.

    Attributes:
        values: one a row; anything where there is none.
        there: where there is one; None: everywhere.
    """

    values: NDArray[Any]
    there: Mask | None


class _Lane(NamedTuple):
    """A window of the list at a position among those that are read, and the features that it answers."""

    place: int
    window: Window
    features: list[tuple[int, WindowFeature]]


class _Fetch(NamedTuple):
    """Which column of numbers a lane needs.

    Attributes:
        form: of the numbers.
        behind: whether it stands behind the boundaries.
        second: whether it is the second of two.
    """

    form: str
    behind: bool
    second: bool


class _Lists(NamedTuple):
    """Where things are in lists, (lists, rows) each: columns in 8 bytes from the beginning of all rows, others in 4."""

    counts: Places
    total: Places
    first: Places
    columns: Places
    steps: Places
    lifetime: Places | None


class NumbersReader:
    """Reads lists of columns of numbers of many rows.

    Args:
        layout: the version's.
        features: those asked for, with their slots; all of them of such lists.
    """

    def __init__(self, layout: WindowLayout, features: Sequence[tuple[int, WindowFeature]]) -> None:
        lists = {feature.list for _, feature in features}
        # lists with counts have more records, and are searched first
        order = sorted(lists, key=lambda index: (layout.lists[index].kind in (MIN, MAX), index))
        given = [layout.lists[index] for index in order]
        position = {index: i for i, index in enumerate(order)}
        made: dict[tuple[int, Window], _Lane] = {}
        for slot, feature in sorted(features, key=lambda each: position[each[1].list]):
            key = position[feature.list], feature.window
            made.setdefault(key, _Lane(*key, [])).features.append((slot, feature))
        self._lanes = list(made.values())
        self._step = layout.step
        self._of_row = np.arange(len(layout.lists))[:, None]
        self._begin = np.array(order)
        self._wide = np.array([wide_columns(each) for each in given], np.int64)[:, None]
        self._narrow = np.array([narrow_bytes(each) for each in given], np.int64)[:, None]
        self._of_lane = np.array([lane.place for lane in self._lanes])
        self._ends = tuple(sum(lane.place <= i for lane in self._lanes) for i in range(len(given)))
        """How many lanes those of each list, and of the lists before it, are."""
        self._counted = sum(given[lane.place].kind not in (MIN, MAX) for lane in self._lanes)
        self._windows = list({lane.window: None for lane in self._lanes if lane.window.width is not None})
        self._of_window = np.array([self._place_of(lane.window) for lane in self._lanes])
        self._whole = np.array([i for i, lane in enumerate(self._lanes) if lane.window.width is None], np.int64)
        self._kinds = [given[lane.place].kind for lane in self._lanes]
        self._fetches: dict[_Fetch, list[int]] = {}
        for i, lane in enumerate(self._lanes):
            fetch = _fetch_of(given[lane.place], lane)
            if fetch is not None:
                self._fetches.setdefault(fetch, []).append(i)

    def _place_of(self, window: Window) -> int:
        return self._windows.index(window) if window.width is not None else -1

    def read(self, rows: JoinedRows, ends_at: Places, now: int | Places) -> tuple[dict[int, NumbersRead], Mask | None]:
        """The values of the features.

        Args:
            rows: the rows; those that have to be read by themselves are made blank.
            ends_at: where in each row the ends of its lists are, bytes.
            now: the instant of all rows, or of each.

        Returns:
            Slot → values, and which rows have to be read by themselves; None: none has.
        """
        alone: Mask | None = None
        while True:
            lists = self._lists(rows, ends_at)
            if isinstance(lists, _Lists):
                break
            alone = lists if alone is None else alone | lists
            rows.put_blank(alone)
            ends_at = np.where(alone, WINDOW_HEADER_SIZE, ends_at)
        index, there = self._records(rows, lists, now)
        return self._values(rows, lists, index, there), alone

    def _lists(self, rows: JoinedRows, ends_at: Places) -> _Lists | Mask:
        """Where the lists are; or in which rows something is not as usual."""
        edges = np.empty((len(self._of_row) + 1, len(ends_at)), np.int64)
        edges[0] = 0
        edges[1:] = rows.words.take((rows.base << 1) + (ends_at >> 2) + self._of_row, mode="wrap")
        edges += ends_at + 4 * len(self._of_row) + 7 & ~7
        if np.bitwise_or.reduce(edges, axis=None) & 7 or (edges > rows.sizes).any():
            return _anywhere((edges & 7 != 0) | (edges > rows.sizes))
        edges >>= 3
        edges += rows.base
        start, stop = edges.take(self._begin, axis=0), edges.take(self._begin + 1, axis=0)
        head = rows.quads.take(start, mode="wrap")
        bits = int(np.bitwise_or.reduce(head, axis=None))
        if bits & ~USUAL or (start >= stop).any():
            return _anywhere((head & ~USUAL != 0) | (start >= stop))
        count = head >> 16
        lifetime = head >> _LIFETIME_BIT & 1 if bits & LIFETIME else None
        total = count if lifetime is None else count + lifetime
        start += 1
        first = rows.quads.take(start)
        start += count > 0
        steps = (start + self._wide * total) << 1
        needed = (steps + count << 2) + self._narrow * total
        stop <<= 3
        if (needed > stop).any():
            return _anywhere(needed > stop)
        return _Lists(count, total, first, start, steps, lifetime)

    def _records(self, rows: JoinedRows, lists: _Lists, now: int | Places) -> tuple[Places, Mask]:
        """For each lane and row which record it is, and whether there is one."""
        lanes = self._of_lane
        limit = lists.counts.take(lanes, axis=0)
        if not self._windows:
            index, there = limit, np.zeros(limit.shape, np.bool_)
        else:
            begin = np.array([_start(window, now) // self._step for window in self._windows], np.int64)
            if begin.ndim == 1:
                begin = begin[:, None]
            target = begin.take(self._of_window, axis=0) - (lists.first // self._step).take(lanes, axis=0)
            np.maximum(target, 0, out=target)
            np.minimum(target, _LARGEST, out=target)
            index = self._search(rows.words, lists, limit, target.astype(np.uint32))
            there = index < limit
        if self._whole.size:
            index[self._whole] = limit[self._whole]
            there[self._whole] = False if lists.lifetime is None else lists.lifetime[lanes[self._whole]] != 0
        return index, there

    def _search(self, words: NDArray[np.uint32], lists: _Lists, limit: Places, target: NDArray[np.uint32]) -> Places:
        """For each lane and row the first boundary that is not before a target, by halves."""
        base = lists.steps.take(self._of_lane, axis=0) - 1
        at, last = base.copy(), base + limit
        probe, found, before = np.empty_like(at), np.empty_like(target), np.empty(at.shape, np.bool_)
        for upto, halves in _halvings(tuple(map(int.bit_length, lists.counts.max(axis=1).tolist())), self._ends):
            a, p, e, f, b, t = at[:upto], probe[:upto], last[:upto], found[:upto], before[:upto], target[:upto]
            for half in halves:
                # all up to `a` is before the target; a step that would lead beyond a list leads to its end
                np.add(a, half, out=p)
                np.minimum(p, e, out=p)
                words.take(p, out=f, mode="wrap")
                np.less(f, t, out=b)
                np.multiply(p, b, out=p)
                np.maximum(a, p, out=a)
        at -= base
        return at

    def _values(self, rows: JoinedRows, lists: _Lists, index: Places, there: Mask) -> dict[int, NumbersRead]:
        """The values of all features; what many share is worked out once."""
        everywhere: list[bool] = np.atleast_1d(there.all(axis=1)).tolist()
        numbers: Any = ()
        if self._counted:
            own, some = self._of_lane[: self._counted], index[: self._counted]
            numbers = rows.words.take((lists.steps + lists.counts).take(own, axis=0) + some).astype(np.int64)
            if not all(everywhere[: self._counted]):
                numbers *= there[: self._counted]
        columns: list[NDArray[Any] | None] = [None] * len(self._lanes)
        for fetch, lanes in self._fetches.items():
            some, own = (index, self._of_lane) if len(lanes) == len(index) else (index[lanes], self._of_lane[lanes])
            form = np.dtype(fetch.form)
            if fetch.behind:
                at = (lists.steps + lists.counts).take(own, axis=0) * (4 // form.itemsize)
            else:
                at = (lists.columns + lists.total if fetch.second else lists.columns).take(own, axis=0)
            at += some
            for i, column in zip(lanes, rows.quads.view(form).take(at), strict=True):
                columns[i] = column
        out: dict[int, NumbersRead] = {}
        for i, lane in enumerate(self._lanes):
            mask, number = None if everywhere[i] else there[i], numbers[i] if i < self._counted else None
            for slot, feature in lane.features:
                out[slot] = _value(feature, self._kinds[i], number, columns[i], mask)
        return out


_HALVES = [np.array(1 << i) for i in range(17)]


@lru_cache(maxsize=256)
def _halvings(bits: tuple[int, ...], ends: tuple[int, ...]) -> list[tuple[int, list[NDArray[np.int64]]]]:
    """How far to step at each halving, for how many lanes: a list takes part from where a step lies inside of it.

    Args:
        bits: of the longest of each list's rows.
        ends: how many lanes those of each list, and of the lists before it, are.
    """
    out: list[tuple[int, list[NDArray[np.int64]]]] = []
    for bit in range(max(bits), 0, -1):
        upto = ends[max(i for i, own in enumerate(bits) if own >= bit)]
        if not out or out[-1][0] != upto:
            out.append((upto, []))
        out[-1][1].append(_HALVES[bit - 1])
    return out


def _anywhere(lists: Mask) -> Mask:
    """Which rows have it in any of their lists."""
    found: Any = lists.any(axis=0)
    return found  # type: ignore[no-any-return]


def _fetch_of(layout: ListLayout, lane: _Lane) -> _Fetch | None:
    """The column that a lane needs, beside counts."""
    if layout.kind == SPREAD:
        return _Fetch("<f8", False, True)
    if layout.kind == TOTAL:
        if not any(feature.function in ("sum", "mean") for _, feature in lane.features):
            return None
        floats = layout.dtype is not None and layout.dtype.name.startswith("float")
        return _Fetch("<f8" if floats else "<i8", False, False)
    if layout.kind == COUNT:
        return None
    assert layout.dtype is not None and layout.dtype.numpy is not None
    form = layout.dtype.numpy
    return _Fetch(form.str, form.itemsize != 8, False)


def _value(
    feature: WindowFeature, kind: str, number: NDArray[np.int64] | None, column: NDArray[Any] | None, there: Mask | None
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
        with np.errstate(all="ignore"):  # a damaged row may have a signalling NaN
            return NumbersRead(column / (number if there is None else np.maximum(number, 1)), there)
    divisor = number - function.endswith("samp")
    enough = divisor > 0
    with np.errstate(all="ignore"):
        variance = np.where(enough & ~(column < 0), column, 0.0) / np.maximum(divisor, 1)
        if function.startswith("stddev"):
            variance = np.sqrt(variance)
    return NumbersRead(variance, None if bool(enough.all()) else enough)


def _start(window: Window, now: int | Places) -> int | Places:
    assert window.width is not None
    start = now - window.offset - window.width
    return start - start % window.hop
