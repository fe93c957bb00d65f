"""Rows of window versions from all their events, one key and one event after another: the reference of rebuilds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headwater.compute.windows.merging import required
from headwater.compute.windows.requests import Batch, End, Version
from headwater.online.rows.windows.lists import add_entry, least_boundary, prune
from headwater.online.rows.windows.row import NEVER, MergedId, WindowRow, blank_row, empty
from headwater.planning.windows.events import WindowEvent, entry_for
from headwater.planning.windows.layout import WindowLayout
from headwater.planning.windows.rule import boundary_of
from headwater.planning.windows.values import rank


def rebuilt(
    version: Version,
    *,
    fill: int,
    run: int,
    end: End,
    log: Sequence[Batch],
    source: Iterable[WindowEvent],
) -> WindowRow:
    """The row from history.

    Args:
        version: the version.
        fill: of the row.
        run: the number of the run that rebuilds it.
        end: the log's end and clock, read after the row that it replaces.
        log: all of the key's batches up to that end.
        source: the statements of the source as the run listed it.
    """
    row = blank_row(version.layout, fill=fill, applied_through=end.position, known_through=end.clock)
    row.run = run
    for batch in log:
        if batch.delete is not None:
            empty(row, batch.delete, batch.position)
    statements = [event for event in source if not row.hides(event)]
    statements += [event for batch in log for event in required(version, row, batch)]
    build_row(version.layout, row, statements, version.tolerance)
    return row


def build_row(layout: WindowLayout, row: WindowRow, statements: Iterable[WindowEvent], tolerance: int) -> None:
    """Put all that a row without events should have into it, the table of ids made from the whole.

    Args:
        layout: the version's.
        row: a blank one, changed in place.
        statements: all that its delete does not hide, in any order.
        tolerance: by how much clocks may differ, microseconds.
    """
    events = counted(statements)
    row.newest_known = max([row.newest_known, *(event.known_at for event in events)])
    least = [least_boundary(each, row.newest_known, tolerance) for each in layout.lists]
    # the newest first: an event changes the records at or before it, of which there are none yet
    for event in sorted(events, key=lambda each: each.event, reverse=True):
        boundary = boundary_of(event.event, layout.hops)
        row.newest_event = max(row.newest_event, event.event)
        for each, state, earliest in zip(layout.lists, row.lists, least, strict=True):
            entry = entry_for(each, event)
            if entry is not None:
                add_entry(each, state, entry, boundary, earliest)
    for each, state in zip(layout.lists, row.lists, strict=True):
        prune(each, state, row.newest_known, tolerance)
    named = sorted(((event.event, event.id, event) for event in events if event.id is not None), key=lambda n: n[:2])
    row.ids = {name: MergedId(e.event, e.known_at, e.from_log, e.position) for _, name, e in named[-layout.ids :]}
    row.ids_after = max((event for event, _, _ in named[: -layout.ids]), default=NEVER)


def counted(statements: Iterable[WindowEvent]) -> list[WindowEvent]:
    """Of the statements of one event the least, in order; those without an id are an event each."""
    named: dict[int, WindowEvent] = {}
    events = []
    for event in sorted(statements, key=lambda each: (*each.order, _content(each))):
        if event.id is None or event.id not in named:
            events.append(event)
        if event.id is not None:
            named.setdefault(event.id, event)
    return events


def _content(event: WindowEvent) -> tuple[object, ...]:
    """What decides between statements of a source that were known at the same instant."""
    return () if event.from_log else tuple(rank(event.values[name]) for name in sorted(event.values))
