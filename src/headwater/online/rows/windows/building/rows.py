"""The lists and facts of the rows of many keys, from all events that count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.online.rows.windows.building.events import Chosen, KeyEvents
from headwater.online.rows.windows.building.ids import tables_of_ids
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
from headwater.online.rows.windows.row import WindowRow
from headwater.online.rows.windows.stored_lists import Plans, StoredLists
from headwater.planning.windows.layout import ListLayout, WindowLayout
from headwater.planning.windows.rule import boundary_of
from headwater.planning.windows.statements import Statements
from headwater.planning.windows.values import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


def put_events(layout: WindowLayout, rows: Sequence[WindowRow], statements: Statements, tolerance: int) -> None:
    """Put all events that rows without events should have into them, as `testing.window_rows.build_row` does for one.

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
    ids = tables_of_ids(layout, events) if statements.ids is not None else [b""] * len(rows)
    facts = events.newest_event.tolist(), events.newest_known.tolist(), ids
    for row, newest, known, table, *parts in zip(rows, *facts, *lists, strict=True):
        row.lists = StoredLists.of_parts(plans, parts)
        row.newest_event, row.newest_known, row.packed_ids = newest, known, table


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
