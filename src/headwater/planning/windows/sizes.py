"""How many bytes an entity's row takes: with some events a day, and at most. What `plan` shows of a window view.

Estimates of what `online.rows.windows` stores, made from the same lists: a record takes as many bytes there as here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from headwater.planning.windows.kinds import MAX, MIN
from headwater.planning.windows.layout import WHOLE, ListLayout, WindowLayout
from headwater.planning.windows.rule import Window
from headwater.types import DType
from headwater.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_ROW = 256 * 1024
"""Bytes; of a row that would be longer its largest lists give way."""
EVENTS_A_DAY = 100
"""Of an entity, where nothing else is said."""
_DAY = 86_400_000_000
_TOLERANCE = 5_000_000
_HEADER, _LIST, _ID, _LISTED = 64, 24, 27, 256 * 5
_TYPICAL_TEXT, _LONGEST_TEXT = 16, 1_024
_TYPICAL_LENGTH = 4
_TYPICAL_BINS, _MOST_BINS = 86, 2_048
_BIN = 3
_ENTRY, _LONGEST_ENTRY = 7, 40
_LEVELS = 20
_NOW = 1_700_000_000_000_000
_MOST_EDGES = 100_000


class RowSizes(Value, frozen=True):
    """Bytes of an entity's row, key aside.

    Attributes:
        typical: with `EVENTS_A_DAY` events spread over each day, for as long as its windows reach.
        largest: that no row exceeds, of fewer than four billion events.
    """

    typical: int
    largest: int


def row_sizes(layout: WindowLayout, *, events_a_day: float = EVENTS_A_DAY, event_ids: bool = False) -> RowSizes:
    """How long the rows of a version are.

    Args:
        layout: the version's.
        events_a_day: of an entity, for the typical size.
        event_ids: whether the source has an `event_id`, so that a row keeps the newest ones.
    """
    ids = 10 + _ID * layout.ids if event_ids else 0
    head = _HEADER + 4 * len(layout.lists) + ids
    typical = head + sum(_typical(layout, each, events_a_day) for each in layout.lists)
    largest = head + 16 + _LISTED + sum(_largest(each) for each in layout.lists)
    return RowSizes(min(typical, LARGEST_ROW), min(largest, LARGEST_ROW))


def too_large(layout: WindowLayout) -> dict[str, str]:
    """The features whose list alone exceeds a row before it is full, each with what it takes."""
    found = {}
    for feature in layout.features:
        each = layout.lists[feature.list]
        # of as many events as it keeps
        size = _LIST + _state(each, each.n, each.n, largest=False)
        if each.shape == WHOLE and size > LARGEST_ROW:
            most = each.n * LARGEST_ROW // size
            found[feature.name] = (
                f"keeps up to {each.n:,} values, which take {shown_bytes(size)}; a row has at most "
                f"{shown_bytes(LARGEST_ROW)}, so that from about {most:,} values on it is UNAVAILABLE online"
            )
    return found


def _typical(layout: WindowLayout, each: ListLayout, events_a_day: float) -> int:
    events = events_a_day * max((_reach(window) for window in each.windows), default=0) / _DAY
    if each.lifetime:
        events = max(events, events_a_day * 365)
    if each.shape == WHOLE:
        entries = min(each.n, max(1, round(events)))
        return _LIST + _state(each, entries, events, largest=False)
    records = _records(layout, each, events_a_day)
    if each.kind in (MIN, MAX):
        # of values in random order, so many are greater than all that follow
        records = min(records, round(math.log(max(events, 1)) + 1))
    record = 4 + _state(each, each.n, events / max(records, 1), largest=False)
    lifetime = _state(each, each.n, events, largest=False) if each.lifetime else 0
    return _LIST + records * record + lifetime


def _largest(each: ListLayout) -> int:
    if each.shape == WHOLE:
        return _LIST + _state(each, each.n, math.inf, largest=True)
    edges = _edges(each.bounded)
    if edges is None:
        return LARGEST_ROW
    records = len(edges) + 2 * len(each.bounded)
    return _LIST + (records + each.lifetime) * (4 + _state(each, each.n, math.inf, largest=True))


def _reach(window: Window) -> int:
    """How far back events of a window can be asked for."""
    return 0 if window.width is None else window.offset + window.width + 2 * window.hop + _TOLERANCE


def _edges(windows: tuple[Window, ...]) -> NDArray[np.int64] | None:
    """The instants at which an end of a window can be that has not passed, ascending; None: too many for a row."""
    starts = [(window.start(_NOW - window.hop - _TOLERANCE), window.hop) for window in windows]
    if sum((_NOW - start) // hop for start, hop in starts) > _MOST_EDGES:
        return None
    spans: list[NDArray[np.int64]] = [np.arange(start, _NOW + 1, hop, dtype=np.int64) for start, hop in starts]
    return np.unique(np.concatenate([*spans, np.empty(0, np.int64)]))


def _records(layout: WindowLayout, each: ListLayout, events_a_day: float) -> int:
    """How many boundaries of evenly spread events an end of a window can be at, or between it and the one before."""
    edges = _edges(each.bounded)
    reach = max((_reach(window) for window in each.bounded), default=0)
    count = min(int(reach * events_a_day / _DAY) + 1, _MOST_EDGES)
    if edges is None or not len(edges):
        return 0 if edges is not None else count
    events: NDArray[np.int64] = _NOW - np.arange(count, dtype=np.int64) * max(1, round(_DAY / events_a_day))
    boundaries = np.unique(np.max([events - events % hop for hop in layout.hops], axis=0))
    upto = np.searchsorted(edges, boundaries, side="right")
    return int(np.count_nonzero(np.diff(upto, prepend=0)))


def _state(each: ListLayout, entries: int, events: float, *, largest: bool) -> int:
    """Bytes of one state: of `entries` kept values where it keeps some, of so many events."""
    match each.kind:
        case "count":
            return 4
        case "spread":
            return 20
        case "total":
            is_float = each.dtype is not None and each.dtype.name.startswith("float")
            return 4 + (8 if is_float or not largest else 16)
        case "min" | "max":
            value = _value(each.dtype, largest=largest)
            fixed = each.dtype is not None and each.dtype.numpy is not None
            return value if fixed else value + 4
        case "bins":
            bins = _MOST_BINS * 7 if largest else _BIN * min(_TYPICAL_BINS, max(1, round(events)))
            return 6 + bins
        case "distinct":
            levels = 1 + min(_LEVELS, max(0.0, math.log2(events / max(entries, 1)))) / 2
            return 24 + (200 if largest else 0) + round(12 * entries * levels)
    return 8 + entries * ((_LONGEST_ENTRY if largest else _ENTRY) + _value(each.dtype, largest=largest))


def _value(dtype: DType | None, *, largest: bool) -> int:
    """Bytes of a value; text, bytes and lists are taken to be short, or as long as a row takes them."""
    if dtype is None:
        return 0
    if dtype.name == "embedding":
        return 5 * (dtype.dim or 0) + 3
    if dtype.name == "array":
        return LARGEST_ROW if largest else 3 + _TYPICAL_LENGTH * (1 + _value(dtype.element, largest=False))
    if dtype.width is not None:
        return dtype.width
    return (_LONGEST_TEXT if largest else _TYPICAL_TEXT) + 3


def shown_bytes(size: int) -> str:
    """Bytes for people: `598 B`, `3.4 KB`."""
    return f"{size:,} B" if size < 1_000 else f"{size / 1_000:,.1f} KB"
