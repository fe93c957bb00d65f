"""Events merged into the lists of rows as they are stored: on their bytes where these are columns of numbers.

Equal to what `lists` does to decoded lists; whatever is unusual (wide numbers, events left out, the first event of a
lifetime), and lists of other kinds, are decoded, changed and packed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headwater.online.rows.windows.lists import add_entry, prune
from headwater.online.rows.windows.records_of_many import ManyEnds, Records, changes_of, ends_of_many
from headwater.online.rows.windows.selectable import Ends, ends_of
from headwater.planning.windows.events import entry_for
from headwater.planning.windows.rule import boundary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.rows.windows.stored_lists import Plans, StoredLists
    from headwater.planning.windows.events import WindowEvent

MANY = 32
"""From this many rows on NumPy changes them faster, all at once, than Python one by one."""

AT_ONCE = 256
"""Of so many rows the columns that are worked on fit into the processor's caches."""


class Addition(msgspec.Struct, gc=False):
    """Events for the lists of a row.

    Attributes:
        lists: of the row, changed in place.
        events: in order, at least one.
        before: the newest known_at of the row before them, microseconds.
        after: the newest with them.
    """

    lists: StoredLists
    events: Sequence[WindowEvent]
    before: int
    after: int


def add_to_rows(plans: Plans, additions: Sequence[Addition], tolerance: int) -> None:
    """Merge events into rows, and drop what no window can select any more.

    Args:
        plans: of the layout of the rows.
        additions: a row each.
        tolerance: by how much clocks may differ, microseconds.
    """
    with np.errstate(all="ignore"):
        together = [each for each in additions if len(each.events) == 1]
        if len(together) < MANY:
            for each in additions:
                _add_to_one(plans, each, tolerance)
            return
        for each in additions:
            if len(each.events) > 1:
                _add_to_one(plans, each, tolerance)
        for start in range(0, len(together), AT_ONCE):
            _add_to_many(plans, together[start : start + AT_ONCE], tolerance)


def _add_to_one(plans: Plans, addition: Addition, tolerance: int) -> None:
    ends: list[Ends | None] = [None] * len(plans.hops)
    for index in range(len(plans.lists)):
        _add_to_list(plans, index, addition, ends, tolerance)


def _add_to_list(plans: Plans, index: int, addition: Addition, ends: list[Ends | None], tolerance: int) -> None:
    """Merge events into one list of one row; `ends` keeps what is worked out for its other lists."""
    plan, lists = plans.lists[index], addition.lists
    if plan.changed is None or index in lists.decoded:
        _add_decoded(plans, index, addition, tolerance)
        return
    entries = []
    for event in addition.events:
        value = plan.value_of(event)
        if value is not None:
            entries.append((plans.boundary_of(event.event), value))
    own = ends[plan.group]
    if own is None:
        own = ends[plan.group] = ends_of(plans.hops[plan.group], addition.before, addition.after, tolerance)
    made = plan.changed(lists.parts[index], entries, own)
    if made is None:
        _add_decoded(plans, index, addition, tolerance)
    else:
        lists.parts[index] = made


def _add_to_many(plans: Plans, additions: Sequence[Addition], tolerance: int) -> None:
    """The same for an event each in many rows: the lists of windows that begin alike together."""
    times, before, after = (
        np.array(column, np.int64)
        for column in zip(*[(each.events[0].event, each.before, each.after) for each in additions], strict=True)
    )
    boundaries = np.zeros(len(additions), np.int64)
    for number, (hop, steps) in enumerate(plans.boundary_hops):
        floors = times // hop * steps
        boundaries = np.maximum(boundaries, floors) if number else floors
    together: dict[int, list[int]] = {}
    for index, plan in enumerate(plans.lists):
        if plan.many is None or any(index in each.lists.decoded for each in additions):
            for each in additions:
                _add_to_list(plans, index, each, [None] * len(plans.hops), tolerance)
        else:
            together.setdefault(plan.group, []).append(index)
    for group, lists in together.items():
        ends = ends_of_many(plans.hops[group], np.tile(before, len(lists)), np.tile(after, len(lists)), tolerance)
        _add_to_lists(plans, lists, additions, boundaries, ends, tolerance)


def _add_to_lists(
    plans: Plans,
    lists: Sequence[int],
    additions: Sequence[Addition],
    boundaries: NDArray[np.int64],
    ends: ManyEnds,
    tolerance: int,
) -> None:
    """Merge an event into some lists of each of many rows."""
    size = len(additions)
    many = [plan for plan in (plans.lists[index].many for index in lists) if plan is not None]
    values = [[plans.lists[index].value_of(each.events[0]) for each in additions] for index in lists]
    parts = [[each.lists.parts[index] for each in additions] for index in lists]
    has = np.fromiter([value is not None for own in values for value in own], np.bool_, size * len(lists))
    boundaries = np.tile(boundaries, len(lists))
    wide = np.repeat(np.array([each.wide for each in many], np.int64), size)
    records = Records([part for own in parts for part in own], wide, boundaries, plans.step)
    changes = changes_of(records, boundaries, has, ends)
    for number, (index, each) in enumerate(zip(lists, many, strict=True)):
        own = slice(number * size, number * size + size)
        its = records.part(own.start, own.stop), changes.part(own.start, own.stop), has[own]
        for made, addition in zip(each.changed(parts[number], *its, values[number]), additions, strict=True):
            if made is None:
                _add_to_list(plans, index, addition, [None] * len(plans.hops), tolerance)
            else:
                addition.lists.parts[index] = made


def _add_decoded(plans: Plans, index: int, addition: Addition, tolerance: int) -> None:
    layout, given = plans.layout.lists[index], addition.lists[index]
    for event in addition.events:
        entry = entry_for(layout, event)
        if entry is not None:
            add_entry(layout, given, entry, boundary_of(event.event, plans.layout.hops))
    prune(layout, given, addition.after, tolerance)
