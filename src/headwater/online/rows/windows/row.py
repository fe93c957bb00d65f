"""A row of a window version: what it holds, and how events and deletes change it, apart from how it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from headwater.clock import MIN_MICROS
from headwater.online.rows.windows.lists import RowList, add_entry, prune
from headwater.online.rows.windows.stored_events import Addition, add_to_rows
from headwater.online.rows.windows.stored_lists import Plans, StoredLists
from headwater.planning.windows.events import WindowEvent, entry_for, is_hidden
from headwater.planning.windows.layout import WindowLayout
from headwater.planning.windows.rule import boundary_of

NEVER = MIN_MICROS
"""In place of a time that there is none of."""


@dataclass(frozen=True)
class MergedId:
    """The statement of an event with an id that is in a row."""

    event: int
    known_at: int
    from_log: bool
    position: int

    @property
    def order(self) -> tuple[int, bool, int]:
        """Of the statements of one event the least counts."""
        return self.known_at, self.from_log, self.position


class WindowRow(msgspec.Struct, gc=False):
    """What is stored of one entity; times in microseconds since 1970 (UTC).

    The collector of garbage does not look at rows, of which there are thousands at once: nothing refers back to them.

    Attributes:
        lists: in the layout's order.
        sequence: of the write that stored it; 0: it was not stored yet.
        fill: the number of the fill that it belongs to.
        run: the number of the run that rebuilt it last; 0: none did.
        applied_through: every batch of the log at a position up to this is in it.
        listed: positions of batches beyond it that are in it too.
        known_through: withheld events that became known up to this are in it.
        deleted_through, delete_position: D and P of its deletes; `NEVER` and 0 where there was none.
        rebuild: a statement could not be decided by what the row has: history has to.
        newest_event, newest_known: the newest event time and known_at of the events in it; `NEVER` without one.
        ids: the digests of the newest events with an id.
        ids_after: the newest event time that was dropped of them; `NEVER`: none was.
        packed_ids: both as they are stored, of a row that was made to be stored; `ids` is empty then.
    """

    lists: list[RowList] | StoredLists
    sequence: int = 0
    fill: int = 0
    run: int = 0
    applied_through: int = 0
    listed: frozenset[int] = frozenset()
    known_through: int = NEVER
    deleted_through: int = NEVER
    delete_position: int = 0
    rebuild: bool = False
    newest_event: int = NEVER
    newest_known: int = NEVER
    ids: dict[int, MergedId] = msgspec.field(default_factory=dict)
    ids_after: int = NEVER
    packed_ids: bytes = b""

    def covers(self, position: int) -> bool:
        """Whether a batch is in the row."""
        return position <= self.applied_through or position in self.listed

    def hides(self, event: WindowEvent) -> bool:
        """Whether its delete hides a statement."""
        hidden: bool = is_hidden(
            event.known_at, event.from_log, event.position, self.deleted_through, self.delete_position
        )
        return hidden

    def copy(self) -> WindowRow:
        """Another of the same content, to be changed."""
        lists = self.lists
        copied = lists.copy() if isinstance(lists, StoredLists) else [each.copy() for each in lists]
        return msgspec.structs.replace(self, lists=copied, ids=dict(self.ids) if self.ids else {})


def blank_row(
    layout: WindowLayout, *, fill: int = 0, applied_through: int = 0, known_through: int = NEVER
) -> WindowRow:
    """A row without events."""
    lists = [RowList() for _ in layout.lists]
    return WindowRow(lists, fill=fill, applied_through=applied_through, known_through=known_through)


def add_statements(layout: WindowLayout, row: WindowRow, statements: Sequence[WindowEvent], tolerance: int) -> None:
    """Merge statements that the row should have, are not in it and that its delete does not hide.

    Of the statements of one event that come together the least is merged; one that is greater than what was merged adds
    nothing. A statement less than what was merged, or of an id that the row no longer has, sets `rebuild`.

    Args:
        layout: the version's.
        row: changed in place.
        statements: in any order.
        tolerance: by how much clocks may differ, microseconds.

    Raises:
        Damaged: a list of the row, which is worth nothing then.
    """
    add_to_each(layout, [(row, statements)], tolerance)


def add_to_each(layout: WindowLayout, rows: Iterable[tuple[WindowRow, Sequence[WindowEvent]]], tolerance: int) -> None:
    """`add_statements` of many rows, which takes less time than one after another.

    Args:
        layout: the version's.
        rows: each with its statements, changed in place.
        tolerance: by how much clocks may differ, microseconds.

    Raises:
        Damaged: a list of some row; all of them are worth nothing then.
    """
    additions = []
    for row, statements in rows:
        events = [event for event in _ordered(statements) if event.id is None or _is_new(layout, row, event)]
        if not events:
            continue
        before = row.newest_known
        for event in events:
            row.newest_event = max(row.newest_event, event.event)
            row.newest_known = max(row.newest_known, event.known_at)
        if isinstance(row.lists, StoredLists):
            additions.append(Addition(row.lists, events, before, row.newest_known))
            continue
        for event in events:
            _add_event(layout, row, event)
        for each, state in zip(layout.lists, row.lists, strict=True):
            prune(each, state, row.newest_known, tolerance)
    if additions:
        add_to_rows(Plans.of(layout), additions, tolerance)


def _ordered(statements: Sequence[WindowEvent]) -> Sequence[WindowEvent]:
    return statements if len(statements) < 2 else sorted(statements, key=lambda each: each.order)


def _is_new(layout: WindowLayout, row: WindowRow, event: WindowEvent) -> bool:
    """Whether an event is not in the row yet, by the table of ids, which takes it down."""
    if event.id is None:
        return True
    held = row.ids.get(event.id)
    if held is not None:
        row.rebuild = row.rebuild or event.order < held.order
        return False
    if event.event <= row.ids_after:
        row.rebuild = True
        return False
    row.ids[event.id] = MergedId(event.event, event.known_at, event.from_log, event.position)
    if len(row.ids) > layout.ids:
        oldest = min(row.ids, key=lambda name: (row.ids[name].event, name))
        row.ids_after = max(row.ids_after, row.ids.pop(oldest).event)
    return True


def _add_event(layout: WindowLayout, row: WindowRow, event: WindowEvent) -> None:
    boundary = boundary_of(event.event, layout.hops)
    for each, state in zip(layout.lists, row.lists, strict=True):
        entry = entry_for(each, event)
        if entry is not None:
            add_entry(each, state, entry, boundary)


def empty(row: WindowRow, through: int, position: int) -> None:
    """Take a delete: the greater D and P, no events, no ids.

    Args:
        row: changed in place.
        through: D, microseconds.
        position: P.
    """
    row.deleted_through = max(row.deleted_through, through)
    row.delete_position = max(row.delete_position, position)
    row.lists = [RowList() for _ in row.lists]
    row.ids, row.ids_after = {}, NEVER
    row.newest_event = row.newest_known = NEVER
