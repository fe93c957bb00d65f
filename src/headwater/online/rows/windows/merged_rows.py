"""Rows of one entity, each of some of its events, as one row of all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from headwater.online.rows.windows.codec import unpack_ids
from headwater.online.rows.windows.lists import RowList, leave_out, prune
from headwater.online.rows.windows.row import NEVER, MergedId, WindowRow
from headwater.planning.windows.kinds import BINS
from headwater.planning.windows.layout import SUFFIXES, WHOLE, ListLayout, WindowLayout
from headwater.planning.windows.states.bins import MOST_BINS


def merge_rows(layout: WindowLayout, rows: Sequence[WindowRow], tolerance: int) -> WindowRow:
    """One row of the events of several.

    Args:
        layout: the version's.
        rows: of one entity, at least one, the first with the header of the result. No event is in two of them, and no
            two statements of one event.
        tolerance: by how much clocks may differ, microseconds.
    """
    merged = rows[0].copy()
    merged.newest_event = max(row.newest_event for row in rows)
    merged.newest_known = max(row.newest_known for row in rows)
    merged.lists = [each.copy() for each in merged.lists]
    for row in rows[1:]:
        for each, state, other in zip(layout.lists, merged.lists, row.lists, strict=True):
            _merge(layout, each, state, other)
    for each, state in zip(layout.lists, merged.lists, strict=True):
        prune(each, state, merged.newest_known, tolerance)
    _merge_ids(layout, merged, rows)
    return merged


def _merge(layout: WindowLayout, given: ListLayout, to: RowList, other: RowList) -> None:
    """Merge a list into another."""
    if other.lifetime_left_out or to.lifetime_left_out:
        to.lifetime, to.lifetime_left_out = None, True
    elif other.lifetime is not None:
        to.lifetime = other.lifetime if to.lifetime is None else given.states.merge(to.lifetime, other.lifetime)
        if given.kind == BINS and len(to.lifetime) > MOST_BINS:
            to.lifetime, to.lifetime_left_out = None, True
    if given.shape == WHOLE:
        to.states = (
            [given.states.merge(to.states[0], other.states[0])]
            if to.states and other.states
            else (to.states or list(other.states))
        )
    else:
        boundaries = sorted({*to.boundaries, *other.boundaries})
        state_at = _of_suffixes if given.shape == SUFFIXES else _of_tiles
        pairs = [(state_at(to, boundary), state_at(other, boundary)) for boundary in boundaries]
        to.states = [
            mine if theirs is None else theirs if mine is None else given.states.merge(mine, theirs)
            for mine, theirs in pairs
        ]
        to.boundaries = boundaries
    missing = [time for time in (to.left_out, other.left_out) if time is not None]
    if given.kind == BINS:
        # a tile has events from its boundary to before the next multiple of a hop
        full = [b for b, state in zip(to.boundaries, to.states, strict=True) if len(state) > MOST_BINS]
        missing += [min(boundary - boundary % hop + hop for hop in layout.hops) - 1 for boundary in full]
    if missing:
        leave_out(given, to, max(missing), lifetime=False)


def _of_suffixes(given: RowList, boundary: int) -> Any:
    """The aggregate of all events at or after a boundary; None: there are none."""
    index = given.first_from(boundary)
    return given.states[index] if index < len(given.states) else None


def _of_tiles(given: RowList, boundary: int) -> Any:
    """The aggregate of the events of a boundary; None: there are none."""
    index = bisect_left(given.boundaries, boundary)
    there = index < len(given.boundaries) and given.boundaries[index] == boundary
    return given.states[index] if there else None


def _merge_ids(layout: WindowLayout, merged: WindowRow, rows: Sequence[WindowRow]) -> None:
    """The table of ids of all of them."""
    named: dict[int, MergedId] = {}
    after = NEVER
    for row in rows:
        ids, dropped = unpack_ids(row.packed_ids) if row.packed_ids else (row.ids, row.ids_after)
        named |= ids
        after = max(after, dropped)
    newest = sorted(named, key=lambda name: (named[name].event, name))
    gone = newest[: -layout.ids]
    merged.ids = {name: named[name] for name in newest[-layout.ids :]}
    merged.ids_after = max([after, *(named[name].event for name in gone)])
    merged.packed_ids = b""
