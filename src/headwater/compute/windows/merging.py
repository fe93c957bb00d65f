"""The invariant of a window row, and the row after a put, a delete's put, a fold or a rebuild: pure functions.

The invariant: a row has, of the source rows that its last rebuild listed and of the log's events at positions that it
covers whose known_at ≤ max(arrival + tolerance, its `known_through`), those that its delete does not hide, and of those
with one event id the least. No function here changes a row that it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headwater.compute.windows.requests import Batch, Due, End, Version
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.record import FillRecord
from headwater.online.rows.windows.row import (
    NEVER,
    WindowRow,
    add_statements,
    add_to_each,
    blank_row,
    empty,
)
from headwater.planning.windows.events import WindowEvent


def required(version: Version, row: WindowRow, batch: Batch) -> list[WindowEvent]:
    """What the invariant asks for of a batch that is covered."""
    until = max(batch.arrival + version.tolerance, row.known_through)
    if row.deleted_through == NEVER:
        return [event for event in batch.events if event.event <= until and event.created <= until]
    return [event for event in batch.events if event.known_at <= until and not row.hides(event)]


def begun(version: Version, record: FillRecord, arrival: int) -> WindowRow:
    """The row that a batch begins where there is none: what the record says, and nothing that a clock says."""
    fill = record.fill_for(arrival)
    return blank_row(version.layout, fill=fill, applied_through=record.low, known_through=record.known_through)


def after_put(version: Version, row: WindowRow, batch: Batch, later: Sequence[Batch] = ()) -> WindowRow:
    """The row after a batch that it does not cover, as `after_puts` has it.

    Raises:
        Damaged: a list of the row.
    """
    (new,) = after_puts(version, [(row, batch, later)])
    if isinstance(new, Damaged):
        raise new
    return new


def after_puts(version: Version, puts: Sequence[tuple[WindowRow, Batch, Sequence[Batch]]]) -> list[WindowRow | Damaged]:
    """Rows after batches that they do not cover; neither `applied_through` nor `known_through` rises.

    Args:
        version: the version.
        puts: the row as it was read; the batch, with statements or a delete; for a delete, the key's batches at
            positions after it.

    Returns:
        In place of a row that proved damaged what is wrong with it.
    """
    changes = []
    for row, batch, later in puts:
        new = row.copy()
        new.listed = row.listed | {batch.position}
        if batch.delete is None:
            events = required(version, new, batch)
        else:
            empty(new, batch.delete, batch.position)
            again = [each for each in later if each.position in row.listed and each.position > new.delete_position]
            events = _required(version, new, again)
        changes.append((new, events))
    try:
        add_to_each(version.layout, changes, version.tolerance)
    except Damaged as bad:
        if len(puts) == 1:
            return [bad]
        # which of them is found one by one
        return [made for each in puts for made in after_puts(version, [each])]
    return [new for new, _ in changes]


def after_fold(
    version: Version, row: WindowRow, due: Due, since: int, end: End, later: Sequence[Batch] = ()
) -> WindowRow:
    """The row with what the invariant asks for at an end of the log and a clock, where they are greater than its own.

    Args:
        version: the version.
        row: as it was read, or a blank one.
        due: the key's batches after the record's `low` up to that end, and those with withheld events known by then.
        since: the record's `known_through`.
        end: up to where.
        later: the key's batches that the row lists beyond `end`; needed where a fresh batch is a delete.

    Raises:
        Damaged: a list of the row.
    """
    new = row.copy()
    new.applied_through = max(row.applied_through, end.position)
    new.known_through = max(row.known_through, end.clock)
    new.listed = frozenset(position for position in row.listed if position > new.applied_through)
    fresh = [batch for batch in due.fresh if batch.position <= new.applied_through and not row.covers(batch.position)]
    deletes = [(batch.delete, batch.position) for batch in fresh if batch.delete is not None]
    if deletes:
        for through, position in deletes:
            empty(new, through, position)
        batches = {batch.position: batch for batch in (*due.fresh, *later)}
        # a delete is later than `low`, so these are all that can count
        again = [b for p, b in sorted(batches.items()) if p > new.delete_position and new.covers(p)]
        add_statements(version.layout, new, _required(version, new, again), version.tolerance)
        return new
    late = [
        event for batch in due.withheld if row.covers(batch.position) for event in _due(version, row, new, batch, since)
    ]
    add_statements(version.layout, new, _required(version, new, fresh) + late, version.tolerance)
    return new


def _due(version: Version, row: WindowRow, new: WindowRow, batch: Batch, since: int) -> list[WindowEvent]:
    """The events of a covered batch that were withheld from the row, and are not any more."""
    after = max(batch.arrival + version.tolerance, row.known_through, since)
    return [event for event in batch.events if after < event.known_at <= new.known_through and not new.hides(event)]


def _required(version: Version, row: WindowRow, batches: Iterable[Batch]) -> list[WindowEvent]:
    return [event for batch in batches for event in required(version, row, batch)]


def deleted_through(arrival: int, newest_known: int, tolerance: int) -> int:
    """D of a delete, microseconds: its arrival, or, up to the tolerance, the newest known_at of what is stored.

    Args:
        arrival: the log's clock in the transaction that appends it.
        newest_known: of the stored row; `NEVER` without one.
        tolerance: by how much clocks may differ.
    """
    return max(arrival, min(newest_known, arrival + tolerance))


def holds_nothing(row: WindowRow) -> bool:
    """Whether a row has neither events nor a delete."""
    return row.newest_known == NEVER and row.deleted_through == NEVER
