"""One stored row read in place: the values of some features at an instant, and nothing else of the row decoded.

`reading.read_row` over `codec.decode_row` is the reference.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import LIFETIME, lists_start
from headwater.online.rows.windows.reading import read_feature
from headwater.online.rows.windows.stored import HEAD, U32, StoredList, is_numbers, number_form
from headwater.planning.windows.kinds import MAX, MIN, SPREAD, TOTAL, finish
from headwater.planning.windows.layout import SUFFIXES, ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import Window
from headwater.types import Status

Notes = dict[int, str]
"""Position of a feature → why it has no value and takes no default; empty: it is NULL."""
Starts = Sequence[int]
_Reader = Callable[[bytes, int, int, int, Starts, list[Any], Notes], None]
_Q = struct.Struct("<q")
_D = struct.Struct("<d")
_BAD = (Damaged, struct.error, IndexError, ValueError, OverflowError, TypeError)
"""What reading bytes that are no row may raise."""


def is_quick(layout: ListLayout) -> bool:
    """Whether a list is one of columns of numbers in which a window is one record."""
    return layout.shape == SUFFIXES and is_numbers(layout)


class RowReader:
    """Reads stored rows one at a time.

    Args:
        layout: the version's.
        features: those asked for.

    Attributes:
        windows: of the features, each once.
    """

    def __init__(self, layout: WindowLayout, features: Sequence[WindowFeature]) -> None:
        self.windows = tuple({feature.window: None for feature in features if feature.window.width is not None})
        places = {window: place for place, window in enumerate(self.windows)}
        by_list: dict[int, list[int]] = {}
        for slot, feature in enumerate(features):
            by_list.setdefault(feature.list, []).append(slot)
        self._ends = struct.Struct(f"<{len(layout.lists)}I")
        self._count = len(layout.lists)
        self._size = len(features)
        self._readers: list[tuple[int, _Reader]] = []
        for index, slots in sorted(by_list.items()):
            given = layout.lists[index]
            slow = _any_reader(given, [(slot, features[slot]) for slot in slots], layout.step)
            quick = [(slot, features[slot], places.get(features[slot].window, -1)) for slot in slots]
            self._readers.append((index, _quick_reader(given, quick, layout.step, slow) if is_quick(given) else slow))

    def starts(self, now: int) -> list[int]:
        """Where each of `windows` begins at an instant."""
        return [_start(window, now) for window in self.windows]

    def read(self, data: bytes, ends_at: int, now: int, starts: Starts, notes: Notes) -> list[Any]:
        """The values of a row, in their stored form; None where there is none.

        Args:
            data: the row, whose header is sound, without the key that it may carry.
            ends_at: where the ends of its lists are.
            now: the instant, microseconds.
            starts: `starts(now)`.
            notes: takes the features that are UNAVAILABLE, or NULL by overflow.

        Raises:
            Damaged: bytes that are not a whole row.
        """
        out: list[Any] = [None] * self._size
        try:
            ends = self._ends.unpack_from(data, ends_at)
            first = lists_start(ends_at, self._count)
            if first + ends[-1] > len(data):
                raise Damaged("a window row cut short")
            for index, reader in self._readers:
                start = first + ends[index - 1] if index else first
                reader(data, start, first + ends[index], now, starts, out, notes)
        except _BAD as bad:
            raise Damaged(str(bad) if isinstance(bad, Damaged) else "a window row cut short") from bad
        return out


def _start(window: Window, now: int) -> int:
    assert window.width is not None
    start = now - window.offset - window.width
    return start - start % window.hop


def _any_reader(layout: ListLayout, features: Sequence[tuple[int, WindowFeature]], step: int) -> _Reader:
    """Reads a list of any kind."""

    def read(data: bytes, at: int, end: int, now: int, starts: Starts, out: list[Any], notes: Notes) -> None:
        """Take the features' values; `starts` is worked out again."""
        given = StoredList(layout, step, data, at, end)
        for slot, feature in features:
            found = read_feature(feature, layout, given, now)
            if found.status is Status.PRESENT:
                out[slot] = found.value
            elif found.problem:
                notes[slot] = found.problem
            elif found.value is None and feature.default is not None:
                # by overflow: any other NULL has taken the default
                notes[slot] = ""

    return read


_COUNT, _SUM, _MEAN, _RATE, _VALUE, _SPREAD = range(6)
_OPERATIONS = {"count": _COUNT, "sum": _SUM, "mean": _MEAN, "rate": _RATE, "min": _VALUE, "max": _VALUE}
_PLAIN = (_SUM, _VALUE)
_EMPTY = {_COUNT: 0, _RATE: 0.0}
_Pick = tuple[int, int, Any, Any]
"""Slot, operation, its value of an empty window, and its argument."""


def _quick_reader(
    layout: ListLayout, features: Sequence[tuple[int, WindowFeature, int]], step: int, slow: _Reader
) -> _Reader:
    """Reads a list of columns of numbers."""
    picks: dict[int, list[_Pick]] = {}
    for slot, feature, place in features:
        operation = _OPERATIONS.get(feature.function, _SPREAD)
        argument = feature.window.width if operation == _RATE else feature.function
        picks.setdefault(place, []).append((slot, operation, _EMPTY.get(operation), argument))
    by_window = sorted(picks.items())
    empty = [(slot, none) for _, some in by_window for slot, _, none, _ in some]
    kind = layout.kind
    columns = {TOTAL: 8, SPREAD: 16}.get(kind, 0)
    form = U32
    if kind in (MIN, MAX):
        form = number_form(layout)
        columns = 8 if form.size == 8 else 0
    elif kind == TOTAL:
        form = _D if layout.dtype is not None and layout.dtype.name.startswith("float") else _Q
    # of what stands behind the boundaries
    width = 4 if kind not in (MIN, MAX) else form.size - columns
    values_first = bool(columns)
    counted = kind not in (MIN, MAX)

    def read(data: bytes, at: int, end: int, now: int, starts: Starts, out: list[Any], notes: Notes) -> None:
        """Take the features' values."""
        if at + 8 > end:
            raise Damaged("a window row cut short")
        flags, count = HEAD.unpack_from(data, at)
        if flags & ~LIFETIME:
            slow(data, at, end, now, starts, out, notes)
            return
        total = count + 1 if flags else count
        if not total:
            for slot, none in empty:
                out[slot] = none
            return
        at += 8
        if count:
            (first,) = _Q.unpack_from(data, at)
            at += 8
        steps_at = at + columns * total
        rest = steps_at + 4 * count
        if rest + width * total > end:
            raise Damaged("a window row cut short")
        steps = memoryview(data)[steps_at:rest].cast("I")
        values_at = at if values_first else rest
        for place, some in by_window:
            if place >= 0:
                index = bisect_left(steps, (starts[place] - first) // step) if count else 0
                there = index < count
            else:
                index, there = count, total > count
            if not there:
                for slot, _, none, _ in some:
                    out[slot] = none
                continue
            number = U32.unpack_from(data, rest + 4 * index)[0] if counted else 0
            value = form.unpack_from(data, values_at + form.size * index)[0]
            for slot, operation, _, argument in some:
                if operation == _COUNT:
                    out[slot] = number
                elif operation in _PLAIN:
                    out[slot] = value
                elif operation == _MEAN:
                    out[slot] = value / number
                elif operation == _RATE:
                    out[slot] = number * 1_000_000 / argument
                else:
                    squares = _D.unpack_from(data, at + 8 * (total + index))[0]
                    out[slot] = finish(argument, (number, 0.0, squares), start=0, at=0, width=None, n=0, q=None)

    return read
