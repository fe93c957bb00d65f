"""One stored row read in place: the values of some features at an instant, and nothing else of the row decoded.

`reading.read_row` over `codec.decode_row` is the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from headwater.definitions.aggregate_functions import FUNCTIONS
from headwater.forks import lazy
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import lists_start
from headwater.online.rows.windows.reading import read_feature
from headwater.online.rows.windows.row_code import RowCode, row_code
from headwater.online.rows.windows.stored import StoredList
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.types import Status

Notes = dict[int, str]
"""Position of a feature → why it has no value and takes no default; empty: it is NULL."""
Starts = Sequence[int]
"""Where windows begin at an instant, in steps of the layout since 1970."""
_Slow = Callable[[bytes, int, int, int, list[Any], Notes], None]
_BAD = (Damaged, struct.error, IndexError, ValueError, OverflowError, TypeError, ZeroDivisionError)
"""What reading bytes that are no row may raise."""
_CUT = "a window row cut short"


class RowReader:
    """Reads stored rows one at a time.

    Args:
        layout: the version's.
        features: those asked for.

    Attributes:
        empty: the values of a row without events.
    """

    def __init__(self, layout: WindowLayout, features: Sequence[WindowFeature]) -> None:
        self._layout = layout
        self._features = features
        self.empty: list[Any] = [FUNCTIONS[feature.function].empty for feature in features]
        self._quick = [slot for slot, f in enumerate(features) if layout.lists[f.list].columns]
        quick = [features[slot] for slot in self._quick]
        self._windows = list({feature.window: None for feature in quick if feature.window.width is not None})
        self._ends = struct.Struct(f"<{len(layout.lists)}I")
        self._count = len(layout.lists)
        self._slow: list[tuple[int, _Slow, bool]] = []
        for index in sorted({feature.list for feature in features}):
            own = [(slot, feature) for slot, feature in enumerate(features) if feature.list == index]
            given = layout.lists[index]
            self._slow.append((index, _slow_reader(given, own, layout.step), given.columns))
        self._others = [each for each in self._slow if not each[2]]
        self._all_quick = len(quick) == len(features)
        self._known: tuple[int, int, list[int]] = 0, 0, []

    @lazy
    def _code(self) -> RowCode:
        """What reads the lists of columns of numbers."""
        return row_code(self._layout, [self._features[slot] for slot in self._quick], self._windows)

    def starts(self, now: int) -> list[int]:
        """Where each window begins at an instant; not to be changed."""
        since, until, starts = self._known
        if since <= now < until:
            return starts
        begins = [window.start(now) for window in self._windows]
        backs = [window.offset + (window.width or 0) for window in self._windows]
        # they stay where they are until the first of them moves by its hop
        until = min(
            (b + w.hop + back for b, w, back in zip(begins, self._windows, backs, strict=True)), default=now + 1
        )
        # a window begins on a whole hop, which is a whole number of steps
        starts = [begin // self._layout.step for begin in begins]
        self._known = now, until, starts
        return starts

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
        try:
            if self._all_quick:
                values = self._code(data, ends_at, *starts)
                if values is not None:
                    return values
            return self._read_each(data, ends_at, now, starts, notes)
        except _BAD as bad:
            raise Damaged(str(bad) if isinstance(bad, Damaged) else _CUT) from bad

    def _read_each(self, data: bytes, ends_at: int, now: int, starts: Starts, notes: Notes) -> list[Any]:
        """The values of a row with lists that have to be read by themselves."""
        ends = self._ends.unpack_from(data, ends_at)
        first = lists_start(ends_at, self._count)
        if first + ends[-1] > len(data):
            raise Damaged(_CUT)
        out = self.empty.copy()
        some = self._code(data + bytes(-len(data) % 8), ends_at, *starts) if self._quick else []
        for slot, value in zip(self._quick, some or (), strict=some is not None):
            out[slot] = value
        for index, read, _ in self._slow if some is None else self._others:
            read(data, first + ends[index - 1] if index else first, first + ends[index], now, out, notes)
        return out


def _slow_reader(layout: ListLayout, features: Sequence[tuple[int, WindowFeature]], step: int) -> _Slow:
    """Reads a list of any kind."""

    def read(data: bytes, at: int, end: int, now: int, out: list[Any], notes: Notes) -> None:
        """Take the features' values."""
        given = StoredList(layout, step, data, at, end)
        for slot, feature in features:
            found = read_feature(feature, layout, given, now)
            if found.status is Status.PRESENT:
                out[slot] = found.value
                continue
            out[slot] = None
            if found.problem:
                notes[slot] = found.problem
            elif found.value is None and feature.default is not None:
                # by overflow: any other NULL has taken the default
                notes[slot] = ""

    return read
