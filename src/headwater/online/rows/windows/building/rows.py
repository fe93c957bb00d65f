"""The lists and facts of the rows of many keys, from all events that count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.building.events import Chosen, KeyEvents
from headwater.online.rows.windows.building.numbers import states_of
from headwater.online.rows.windows.building.packed_lists import (
    odd_keys,
    packed_numbers,
    packed_pieces,
    steps_of,
)
from headwater.online.rows.windows.building.pieces import piece_states
from headwater.online.rows.windows.list_bytes import pack_list
from headwater.online.rows.windows.lists import (
    LONGEST_TEXT,
    WITH_VALUES,
    RowList,
    add_entry,
    least_boundary,
    prune,
    text_size,
)
from headwater.online.rows.windows.row import NEVER, MergedId, WindowRow
from headwater.online.rows.windows.stored_lists import Plans, StoredLists
from headwater.planning.windows.layout import ListLayout, WindowLayout
from headwater.planning.windows.rule import boundary_of
from headwater.planning.windows.statements import Statements
from headwater.planning.windows.values import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def put_events(layout: WindowLayout, rows: Sequence[WindowRow], statements: Statements, tolerance: int) -> None:
    """Put all events that rows without events should have into them, as `row.build_row` does for one.

    Args:
        layout: the version's.
        rows: blank ones, changed in place.
        statements: those that count, of one event id one; `key` is the index of the row.
        tolerance: by how much clocks may differ, microseconds.
    """
    events = KeyEvents(layout, statements, len(rows))
    chosen: dict[tuple[str | None, str | None], Chosen] = {}
    plans = Plans.of(layout)
    with np.errstate(all="ignore"):
        lists = []
        for each in layout.lists:
            about = each.column, each.where
            if about not in chosen:
                chosen[about] = Chosen(events, *about)
            lists.append(_lists(layout, each, chosen[about], tolerance))
    ids = _ids(layout, events) if statements.ids is not None else {}
    facts = events.newest_event.tolist(), events.newest_known.tolist()
    for key, (row, newest, known, *parts) in enumerate(zip(rows, *facts, *lists, strict=True)):
        row.lists = StoredLists(plans, parts, {})
        row.newest_event, row.newest_known = newest, known
        if key in ids:
            row.ids, row.ids_after = ids[key]


def _lists(layout: WindowLayout, given: ListLayout, chosen: Chosen, tolerance: int) -> list[bytes]:
    """One list of each key."""
    step = layout.step
    if given.numbers:
        states = states_of(given, chosen, chosen.records(given, tolerance))
        return packed_numbers(given, states, chosen.some if given.lifetime else chosen.some[:0], step)
    made = piece_states(given, chosen, step, tolerance)
    lists = packed_pieces(made.records, made.living, made.pieces, step)
    odd = [made.odd, _with_long_text(given, chosen)]
    if len(made.records.boundary):
        _, _, distances = steps_of(made.records, step)
        odd.append(odd_keys(made.records, made.records.counts, distances, made.odd))
    for key in np.unique(np.concatenate(odd)).tolist():
        lists[key] = _by_itself(layout, given, chosen, key, tolerance)
    return lists


def _with_long_text(given: ListLayout, chosen: Chosen) -> Ints:
    """The keys with a value that a row does not take."""
    column = chosen.column
    if column is None or column.dictionary is None or given.kind not in WITH_VALUES:
        return chosen.some[:0]
    used = np.unique(chosen.values)
    long = used[[text_size(value) > LONGEST_TEXT for value in column.stored(used)]] if len(used) else used
    return np.unique(chosen.key[np.isin(chosen.values, long)]) if len(long) else chosen.some[:0]


def _by_itself(layout: WindowLayout, given: ListLayout, chosen: Chosen, key: int, tolerance: int) -> bytes:
    """The list of one key, event after event."""
    newest = int(chosen.events.newest_known[key])
    least, made = least_boundary(given, newest, tolerance), RowList()
    for entry in _entries(chosen, key):
        add_entry(given, made, entry, boundary_of(entry.event, layout.hops), least)
    prune(given, made, newest, tolerance)
    return pack_list(given, made, layout.step)


def _entries(chosen: Chosen, key: int) -> Iterator[Entry]:
    """The events of one key, the newest first, of one time by what decides between statements."""
    own = np.arange(chosen.starts[key], chosen.starts[key + 1])
    index = own if chosen.index is None else chosen.index[own]
    of = chosen.events.of
    index = index[np.lexsort((of.position[index], of.from_log[index], of.known_at[index], -of.event[index]))]
    fields: list[list[Any]] = [each[index].tolist() for each in (of.event, of.created, of.from_log, of.position)]
    column = chosen.column
    fields.append([None] * len(index) if column is None else column.stored(column.values[index]))
    return (Entry(*each) for each in zip(*fields, strict=True))


def _ids(layout: WindowLayout, events: KeyEvents) -> Mapping[int, tuple[dict[int, MergedId], int]]:
    """The table of ids of each key that has any, and the newest event time that it lacks."""
    of = events.of
    assert of.ids is not None
    digests, present = of.ids
    index = np.flatnonzero(present)
    index = index[np.lexsort((digests[index], of.event[index], of.key[index]))]
    starts = np.searchsorted(of.key[index], np.arange(events.keys + 1))
    found = {}
    for key in np.flatnonzero(np.diff(starts)).tolist():
        low, high = int(starts[key]), int(starts[key + 1])
        first = max(low, high - layout.ids)
        after = int(of.event[index[first - 1]]) if first > low else NEVER
        own = index[first:high]
        facts = zip(
            digests[own].tolist(),
            of.event[own].tolist(),
            of.known_at[own].tolist(),
            of.from_log[own].tolist(),
            of.position[own].tolist(),
            strict=True,
        )
        found[key] = {name: MergedId(*rest) for name, *rest in facts}, after
    return found
