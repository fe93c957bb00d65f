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
from headwater.online.rows.windows.stored import HEAD, U32, StoredList, number_form
from headwater.planning.windows.kinds import MAX, MIN, SPREAD, TOTAL, finish
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.types import Status

Notes = dict[int, str]
"""Position of a feature → why it has no value and takes no default; empty: it is NULL."""
Starts = Sequence[int]
_Reader = Callable[[bytes, int, int, int, Starts, list[Any], Notes], None]
_Q = struct.Struct("<q")
_BAD = (Damaged, struct.error, IndexError, ValueError, OverflowError, TypeError)
"""What reading bytes that are no row may raise."""


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
        self._backs = [(window.offset + (window.width or 0), window.hop) for window in self.windows]
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
            self._readers.append((index, _quick_reader(given, quick, layout.step, slow) if given.columns else slow))

    def starts(self, now: int) -> list[int]:
        """Where each of `windows` begins at an instant."""
        return [(start := now - back) - start % hop for back, hop in self._backs]

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


_FEW = 24
"""Up to so many records all of a list is unpacked at once, which costs less than to look for some."""
_EMPTY = {"count": 0, "rate": 0.0}


class _Quick:
    """What a list of columns of numbers has: how it is read.

    Args:
        layout: the list's.
        features: slot, feature, and the position of its window; -1 of a lifetime.
        step: what boundaries are multiples of.
    """

    def __init__(self, layout: ListLayout, features: Sequence[tuple[int, WindowFeature, int]], step: int) -> None:
        self.step = step
        self.counted = layout.kind not in (MIN, MAX)
        if self.counted:
            floats = layout.dtype is not None and layout.dtype.name.startswith("float")
            self.columns = {TOTAL: 1, SPREAD: 2}.get(layout.kind, 0)
            self.code = "d" if floats or layout.kind == SPREAD else "q"
            self.behind = "I"
        else:
            code = number_form(layout).format.removeprefix("<")
            self.columns = int(struct.calcsize("<" + code) == 8)
            self.code, self.behind = code, "" if self.columns else code
        self.wide = struct.Struct("<" + self.code)
        self.narrow = struct.Struct("<" + self.behind) if self.behind else self.wide
        self.slots = [(slot, _EMPTY.get(feature.function)) for slot, feature, _ in features]
        by_window: dict[int, list[tuple[int, WindowFeature]]] = {}
        for slot, feature, place in features:
            by_window.setdefault(place, []).append((slot, feature))
        self.windows = [(place, tuple(some)) for place, some in sorted(by_window.items())]
        self._forms: dict[tuple[int, int], struct.Struct] = {}

    def whole(self, count: int, total: int) -> struct.Struct:
        """First boundary, columns, boundaries, what is behind, of so many records and states."""
        form = self._forms.get((count, total))
        if form is None:
            first, behind = "q" if count else "", f"{total}{self.behind}" if self.behind else ""
            text = f"<{first}{self.columns * total}{self.code if self.columns else 'x'}{count}I{behind}"
            form = self._forms[count, total] = struct.Struct(text)
        return form


def _quick_reader(
    layout: ListLayout, features: Sequence[tuple[int, WindowFeature, int]], step: int, slow: _Reader
) -> _Reader:
    """Reads a list of columns of numbers."""
    quick = _Quick(layout, features, step)
    take = _counted_taker(layout, quick) if quick.counted else _extreme_taker(quick)
    whole, slots = quick.whole, quick.slots
    columns, narrow = 8 * quick.columns, quick.narrow.size if quick.behind else 0

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
            for slot, empty in slots:
                out[slot] = empty
            return
        at += 8
        if at + (8 if count else 0) + columns * total + 4 * count + narrow * total > end:
            raise Damaged("a window row cut short")
        take(data, at, count, total, starts, out, whole(count, total) if count <= _FEW else None)

    return read


_Taker = Callable[[bytes, int, int, int, Starts, list[Any], "struct.Struct | None"], None]


def _extreme_taker(quick: _Quick) -> _Taker:
    """Takes the least or greatest value of each window."""
    step, number = quick.step, quick.wide if quick.columns else quick.narrow
    windows = [(place, tuple(slot for slot, _ in some)) for place, some in quick.windows]
    wide = bool(quick.columns)

    def take(
        data: bytes, at: int, count: int, total: int, starts: Starts, out: list[Any], form: struct.Struct | None
    ) -> None:
        bounded = count > 0
        steps: Any
        if form is not None:
            # columns, boundaries, and what is behind, one after another
            steps = form.unpack_from(data, at)
            first = steps[0] if bounded else 0
            low = bounded + (total if wide else 0)
            values, shift = steps, -total if wide else count
        else:
            (first,) = _Q.unpack_from(data, at)
            begin = at + 8 + (8 * total if wide else 0)
            steps, low = memoryview(data)[begin : begin + 4 * count].cast("I"), 0
            values, shift = None, 0
            base = at + 8 if wide else begin + 4 * count
        high = low + count
        for place, slots in windows:
            if place < 0:
                found = high if total > count else -1
            else:
                found = bisect_left(steps, (starts[place] - first) // step, low, high) if bounded else high
                if found == high:
                    found = -1
            if found < 0:
                value = None
            elif values is not None:
                value = values[found + shift]
            else:
                value = number.unpack_from(data, base + number.size * found)[0]
            for slot in slots:
                out[slot] = value

    return take


def _counted_taker(layout: ListLayout, quick: _Quick) -> _Taker:
    """Takes what is made of counts and sums, or of counts and spreads."""
    step, wide, kind = quick.step, quick.wide, layout.kind
    second = kind == SPREAD
    windows = [(place, _finisher(some)) for place, some in quick.windows]
    has_columns = quick.columns > 0

    def take(
        data: bytes, at: int, count: int, total: int, starts: Starts, out: list[Any], form: struct.Struct | None
    ) -> None:
        first = 0
        if count:
            (first,) = _Q.unpack_from(data, at)
            at += 8
        begin = at + 8 * quick.columns * total
        rest = begin + 4 * count
        values = at + 8 * total if second else at
        steps = memoryview(data)[begin:rest].cast("I")
        for place, finish_all in windows:
            found = count if place < 0 else bisect_left(steps, (starts[place] - first) // step)
            if found < count or (place < 0 and total > count):
                number = U32.unpack_from(data, rest + 4 * found)[0]
                finish_all(out, number, wide.unpack_from(data, values + 8 * found)[0] if has_columns else None)
            else:
                finish_all(out, 0, None)

    return take


def _finisher(features: Sequence[tuple[int, WindowFeature]]) -> Callable[[list[Any], int, Any], None]:
    """Puts what is made of a number of events, and of a sum or spread, into a row of values."""
    counts = [slot for slot, feature in features if feature.function == "count"]
    sums = [slot for slot, feature in features if feature.function == "sum"]
    means = [slot for slot, feature in features if feature.function == "mean"]
    rest = [(slot, f) for slot, f in features if f.function not in ("count", "sum", "mean")]

    def put(out: list[Any], number: int, value: Any) -> None:
        for slot in counts:
            out[slot] = number
        if number:
            for slot in sums:
                out[slot] = value
            for slot in means:
                out[slot] = value / number
        for slot, feature in rest:
            if feature.function == "rate":
                out[slot] = finish("rate", number, start=0, at=0, width=feature.window.width, n=0, q=None)
            elif number:
                state = number, 0.0, value
                out[slot] = finish(feature.function, state, start=0, at=0, width=None, n=0, q=None)

    return put
