"""One list of a row: records by boundary, the lifetime's state, and what was left out of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, cast

import numpy as np

from headwater.planning.windows.kinds import BINS, DISTINCT, EARLIEST, LATEST, LATEST_DISTINCT, MAX, MIN
from headwater.planning.windows.layout import SUFFIXES, TILES, WHOLE, ListLayout
from headwater.planning.windows.rule import BEFORE_ALL, Window
from headwater.planning.windows.states.bins import MOST_BINS
from headwater.planning.windows.values import Entry

LONGEST_TEXT = 1_024
"""Bytes of a text that a row takes."""
MANY = 24
"""Records from which on they are looked at at once."""
WITH_VALUES = frozenset({MIN, MAX, EARLIEST, LATEST, LATEST_DISTINCT})


@dataclass
class RowList:
    """What a row has of one list.

    Attributes:
        boundaries: ascending, of the records; of a list that is kept whole none.
        states: one for each; of a list that is kept whole one, or none.
        lifetime: the state of all events; None: no events, or no lifetime is asked for.
        left_out: the newest event time that was left out; None: none.
        lifetime_left_out: whether the lifetime lacks an event.
    """

    boundaries: list[int] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    lifetime: Any = None
    left_out: int | None = None
    lifetime_left_out: bool = False

    def first_from(self, time: int) -> int:
        """The first record with a boundary at or after a time."""
        return bisect_left(self.boundaries, time)

    def copy(self) -> RowList:
        """Another of the same content; states are never changed."""
        return RowList(list(self.boundaries), list(self.states), self.lifetime, self.left_out, self.lifetime_left_out)


def add_entry(layout: ListLayout, to: RowList, entry: Entry, boundary: int, least: int = BEFORE_ALL) -> None:
    """Merge an event into a list; what would exceed a bound is left out.

    Args:
        layout: the list's.
        to: the list.
        entry: the event, with its value.
        boundary: the event's.
        least: of an earlier boundary, which no window can select any more, an event is merged into a lifetime alone.
    """
    if layout.kind in WITH_VALUES and text_size(entry.value) > LONGEST_TEXT:
        leave_out(layout, to, entry.event)
        return
    if layout.shape != WHOLE and layout.lifetime and not to.lifetime_left_out:
        _add_to_lifetime(layout, to, entry)
    if to.left_out is not None and boundary <= to.left_out:
        return
    if boundary < least and (layout.shape != WHOLE or not layout.lifetime):
        return
    if layout.kind == DISTINCT:
        # a window holds an event where it holds its boundary, which takes half the bytes
        entry = entry._replace(event=boundary)
    if layout.shape == WHOLE:
        to.states = [layout.states.add(to.states[0] if to.states else None, entry)]
    elif layout.bounded:
        _add_to_record(layout, to, entry, boundary)


def _add_to_lifetime(layout: ListLayout, to: RowList, entry: Entry) -> None:
    state = layout.states.add(to.lifetime, entry)
    if layout.kind == BINS and len(state) > MOST_BINS:
        to.lifetime, to.lifetime_left_out = None, True
    else:
        to.lifetime = state


def _add_to_record(layout: ListLayout, to: RowList, entry: Entry, boundary: int) -> None:
    index = bisect_left(to.boundaries, boundary)
    there = index < len(to.boundaries) and to.boundaries[index] == boundary
    add = layout.states.add
    if layout.shape == SUFFIXES:
        following = to.states[index] if index < len(to.states) else None
        upto = index + there
        to.states[:upto] = layout.states.add_to_each(to.states[:upto], entry)
        made = add(following, entry)
    else:
        made = add(to.states[index] if there else None, entry)
        if layout.kind == BINS and len(made) > MOST_BINS:
            leave_out(layout, to, entry.event, lifetime=False)
            return
        if there:
            to.states[index] = made
    if not there:
        to.boundaries.insert(index, boundary)
        to.states.insert(index, made)


def leave_out(layout: ListLayout, to: RowList, event: int, *, lifetime: bool = True) -> None:
    """Note that an event is not in a list, and drop what no window can be answered from any more.

    Args:
        layout: the list's.
        to: the list.
        event: the event time.
        lifetime: whether the lifetime lacks it too.
    """
    to.left_out = event if to.left_out is None else max(to.left_out, event)
    if lifetime and layout.lifetime:
        to.lifetime, to.lifetime_left_out = None, True
    if layout.shape == WHOLE:
        state = layout.states.since(to.states[0], to.left_out + 1) if to.states else None
        to.states = [] if state is None else [state]
        return
    index = bisect_left(to.boundaries, to.left_out + 1)
    del to.boundaries[:index], to.states[:index]


def give_way(layout: ListLayout, to: RowList, newest: int) -> None:
    """Leave everything out of a list, up to the newest event of the row."""
    leave_out(layout, to, newest)
    to.boundaries.clear()
    to.states.clear()


def prune(layout: ListLayout, to: RowList, newest_known: int, tolerance: int) -> None:
    """Drop what no window can ask for at an instant from which a row's reads hold.

    Args:
        layout: the list's.
        to: the list.
        newest_known: the newest known_at of the row's events; by what is in the row, never by a clock.
        tolerance: by how much clocks may differ, microseconds; a hop comes to it.
    """
    starts = [(window.hop, _end_of(window, newest_known, tolerance)) for window in layout.bounded]
    if layout.shape == WHOLE:
        if to.states and not layout.lifetime:
            state = layout.states.since(to.states[0], min(start for _, start in starts))
            to.states = [] if state is None else [state]
        return
    selectable = (selectable_of if len(to.boundaries) < MANY else selectable_of_many)(to.boundaries, starts)
    if layout.shape == TILES:
        _prune_tiles(layout, to, selectable, starts)
        return
    if not all(selectable):
        to.boundaries, to.states = list(compress(to.boundaries, selectable)), list(compress(to.states, selectable))
    if layout.kind in (MIN, MAX):
        _drop_equal(layout, to)


def _end_of(window: Window, newest_known: int, tolerance: int) -> int:
    """The earliest end that a window can have at an instant from which a row's reads hold."""
    return window.start(newest_known - window.hop - tolerance)


def least_boundary(layout: ListLayout, newest_known: int, tolerance: int) -> int:
    """The earliest boundary that a window of a list can select, as `prune` drops what is before it."""
    return min((_end_of(window, newest_known, tolerance) for window in layout.bounded), default=BEFORE_ALL)


def selectable_of(boundaries: Sequence[int], starts: Sequence[tuple[int, int]]) -> list[bool]:
    """For each boundary whether an end of a window can be at it, or between it and the one before.

    Args:
        boundaries: ascending.
        starts: hop and least end of each window.
    """
    selectable, before = [], BEFORE_ALL
    for boundary in boundaries:
        selectable.append(any(before < (edge := boundary - boundary % hop) and edge >= start for hop, start in starts))
        before = boundary
    return selectable


def selectable_of_many(boundaries: Sequence[int], starts: Sequence[tuple[int, int]]) -> list[bool]:
    """`selectable_of`, at once."""
    numbers = np.array(boundaries, np.int64)
    before = np.concatenate(([BEFORE_ALL], numbers[:-1]))
    selectable = np.zeros(len(numbers), np.bool_)
    for hop, start in starts:
        edges = numbers - numbers % hop
        selectable |= (edges > before) & (edges >= start)
    return cast("list[bool]", selectable.tolist())


def _prune_tiles(
    layout: ListLayout, to: RowList, selectable: Sequence[bool], starts: Sequence[tuple[int, int]]
) -> None:
    boundaries, states = to.boundaries, to.states
    to.boundaries, to.states = [], []
    least = min((start for _, start in starts), default=BEFORE_ALL)
    for boundary, state, apart in zip(boundaries, states, selectable, strict=True):
        if boundary >= least:
            _keep_tile(layout, to, boundary, state, apart=apart)


def _keep_tile(layout: ListLayout, to: RowList, boundary: int, state: Any, *, apart: bool) -> None:
    """Where no end of a window can be between two tiles any more, they are one."""
    if not apart and to.states:
        both = layout.states.merge(to.states[-1], state)
        if layout.kind != BINS or len(both) <= MOST_BINS:
            to.boundaries[-1], to.states[-1] = boundary, both
            return
    to.boundaries.append(boundary)
    to.states.append(state)


def _drop_equal(layout: ListLayout, to: RowList) -> None:
    """A record that equals the next goes, once it is known that the next stays."""
    same = layout.states.same  # type: ignore[attr-defined]
    kept: list[tuple[int, Any]] = []
    for boundary, state in zip(reversed(to.boundaries), reversed(to.states), strict=True):
        if not kept or not same(state, kept[-1][1]):
            kept.append((boundary, state))
    to.boundaries = [boundary for boundary, _ in reversed(kept)]
    to.states = [state for _, state in reversed(kept)]


def text_size(value: Any) -> int:
    """Bytes of the text in a value: of text, bytes, or arrays of them."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    return sum(map(text_size, value)) if isinstance(value, tuple) else 0
