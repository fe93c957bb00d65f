"""Events merged into the lists of rows as they are stored: on their bytes where these are columns of numbers.

Equal to what `lists` does to decoded lists; whatever is unusual (wide numbers, events left out, the first event of a
lifetime), and lists of other kinds, are decoded, changed and packed again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headwater.online.rows.windows.edits_of_many import Edits
from headwater.online.rows.windows.lists import add_entry, prune
from headwater.online.rows.windows.records_of_many import ManyEnds, Merge, Records, changes_of, ends_of_many
from headwater.online.rows.windows.selectable import Ends, ends_of
from headwater.planning.windows.events import entry_for
from headwater.planning.windows.kinds import MIN
from headwater.planning.windows.rule import boundary_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.rows.windows.stored_lists import Plans, StoredLists
    from headwater.planning.windows.events import WindowEvent

MANY = 32
"""From this many rows on NumPy changes them faster, all at once, than Python one by one."""

AT_ONCE = 128
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
        many = [each for each in additions if each.lists.is_plain] if len(additions) >= MANY else []
        if len(many) < MANY:
            many = []
        if len(many) < len(additions):
            together = set(map(id, many))
            for each in additions:
                if id(each) not in together:
                    _add_to_one(plans, each, tolerance)
        for each in many:
            for index in plans.others:
                _add_decoded(plans, index, each, tolerance)
        while len(many) >= MANY:
            # the first event of each row, then the second of those that have one
            heads, rests = zip(*map(_divided, many), strict=True)
            for start in range(0, len(heads), AT_ONCE):
                _add_to_many(plans, heads[start : start + AT_ONCE], tolerance)
            many = [rest for rest in rests if rest is not None]
            for rest in [rest for rest in many if not rest.lists.is_plain]:
                many.remove(rest)
                _add_to_one(plans, rest, tolerance, plans.numbers)
        for each in many:
            _add_to_one(plans, each, tolerance, plans.numbers)


def _divided(addition: Addition) -> tuple[Addition, Addition | None]:
    """The first event, and those after it."""
    first, *others = addition.events
    if not others:
        return addition, None
    between = max(addition.before, first.known_at)
    head = Addition(addition.lists, (first,), addition.before, between)
    return head, Addition(addition.lists, others, between, addition.after)


def _add_to_one(plans: Plans, addition: Addition, tolerance: int, lists: Iterable[int] | None = None) -> None:
    """Merge events into one row; into some of its lists, unless None."""
    ends: list[Ends | None] = [None] * len(plans.hops)
    for index in range(len(plans.lists)) if lists is None else lists:
        _add_to_list(plans, index, addition, ends, tolerance)


def _add_to_list(plans: Plans, index: int, addition: Addition, ends: list[Ends | None], tolerance: int) -> None:
    """Merge events into one list of one row; `ends` keeps what is worked out for its other lists."""
    lists = addition.lists
    made = None
    if index not in plans.others and not (lists.decoded and index in lists.decoded):
        made = _changed(plans, index, addition, ends, tolerance)
    if made is None:
        _add_decoded(plans, index, addition, tolerance)
    else:
        lists.split()[index] = made


def _changed(plans: Plans, index: int, addition: Addition, ends: list[Ends | None], tolerance: int) -> bytes | None:
    """A list with the events, as it is to be stored; None: it has to be decoded."""
    plan, lists = plans.lists[index], addition.lists
    assert plan.one is not None
    entries = []
    for event in addition.events:
        value = plan.value_of(event)
        if value is not None:
            entries.append((plans.boundary_of(event.event), value))
    own = ends[plan.group]
    if own is None:
        own = ends[plan.group] = ends_of(plans.hops[plan.group], addition.before, addition.after, tolerance)
    try:
        return plan.one.changed(lists.part(index), entries, own)
    except (struct.error, OverflowError):
        # numbers beyond their bytes: decoding says whether they are damage
        return None


def _add_to_many(plans: Plans, additions: Sequence[Addition], tolerance: int) -> None:
    """The same for an event each in many rows: the lists of windows that begin alike together."""
    lists = [each.lists for each in additions]
    data = [each.whole() for each in lists]
    ends = np.frombuffer(b"".join([each.ends for each in lists]), "<u4").reshape(len(lists), len(plans.lists)).T
    edits = Edits(data, np.array([each.start for each in lists]), ends.astype(np.int64))
    times = np.array([each.events[0].event for each in additions], np.int64)
    before = np.array([each.before for each in additions], np.int64)
    after = np.array([each.after for each in additions], np.int64)
    boundaries = np.zeros(len(additions), np.int64)
    for number, (hop, steps) in enumerate(plans.boundary_hops):
        floors = times // hop * steps
        boundaries = np.maximum(boundaries, floors) if number else floors
    values = {
        (column, where): [plan.value_of(each.events[0]) for each in additions]
        for (column, where), plan in plans.columns.items()
    }
    for group, own in plans.groups.items():
        passed = ends_of_many(plans.hops[group], before, after, tolerance, len(own))
        _add_to_lists(plans, own, additions, edits, np.concatenate([boundaries] * len(own)), passed, tolerance, values)
    size = plans.ends.size
    stored = edits.sizes.cumsum(axis=0).T.astype("<u4").tobytes()
    for number, (each, made) in enumerate(zip(lists, edits.made(), strict=True)):
        each.put(made, stored[number * size : number * size + size])


def _add_to_lists(
    plans: Plans,
    lists: Sequence[int],
    additions: Sequence[Addition],
    edits: Edits,
    boundaries: NDArray[np.int64],
    ends: ManyEnds,
    tolerance: int,
    values: Mapping[tuple[str | None, str | None], Sequence[Any]],
) -> None:
    """Merge an event into some lists of each of many rows, those of one rule together."""
    size = len(additions)
    given = [values[plans.lists[index].column, plans.lists[index].where] for index in lists]
    has = np.fromiter([value is not None for own in given for value in own], np.bool_, size * len(lists))
    rules = [plan for plan in (plans.lists[index].many for index in lists) if plan is not None]
    wide = np.repeat(np.array([each.wide for each in rules]), size)
    records = Records(edits, edits.begins[np.array(lists)].ravel(), wide, boundaries, plans.step)
    changes = changes_of(records, boundaries, has, ends)
    start = 0
    for _, some in groupby(rules, key=lambda each: each.rule):
        own = slice(start, start + len(list(some)))
        all_rows, start = slice(own.start * size, own.stop * size), own.stop
        layouts = [plans.layout.lists[index] for index in lists[own]]
        merge = Merge(
            (np.array(lists[own])[:, None] * size + np.arange(size)).ravel(),
            [value for each in given[own] for value in each],
            has[all_rows],
            np.repeat([each.lifetime for each in layouts], size),
            np.repeat([each.kind == MIN for each in layouts], size),
            records.part(all_rows.start, all_rows.stop),
            changes.part(all_rows.start, all_rows.stop),
        )
        for place in np.flatnonzero(rules[own.start].change(edits, merge)).tolist():
            number, row = divmod(place, size)
            _add_to_odd(plans, lists[own.start + number], row, additions[row], edits, tolerance)


def _add_to_odd(plans: Plans, index: int, row: int, addition: Addition, edits: Edits, tolerance: int) -> None:
    """Merge an event into a list of a row by itself."""
    made = _changed(plans, index, addition, [None] * len(plans.hops), tolerance)
    if made is None:
        _add_decoded(plans, index, addition, tolerance)
    else:
        which = np.array([index * edits.sizes.shape[1] + row])
        edits.replace(which, np.frombuffer(made, np.uint8), np.array([len(made)]))


def _add_decoded(plans: Plans, index: int, addition: Addition, tolerance: int) -> None:
    layout, given = plans.layout.lists[index], addition.lists[index]
    for event in addition.events:
        entry = entry_for(layout, event)
        if entry is not None:
            add_entry(layout, given, entry, boundary_of(event.event, plans.layout.hops))
    prune(layout, given, addition.after, tolerance)
