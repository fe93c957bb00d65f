"""Erasing: purged keys, told by their digests, once nothing old is in flight; rows of retired versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice

from headwater.clock import MIN_MICROS, duration_micros, to_micros
from headwater.compute.delete import hide_row
from headwater.compute.rooms import RUN, Rooms
from headwater.compute.rows import RowVersion
from headwater.errors import FormatError
from headwater.offline.base import Tombstone
from headwater.online.codec import header
from headwater.online.meta import watermark_key
from headwater.online.view_rows import ViewRows
from headwater.planning.resolve import ResolvedView, whole_view
from headwater.planning.snapshot import ViewRecord

WRITE_TIME = timedelta(minutes=10)
"""How long a write may take at most: purges asked for within it are not erased yet."""

RETIRED_ROWS = timedelta(minutes=10)
"""How long the rows of a retired version stay, for readers that have not seen it retired yet."""

_CHUNK = 10_000


def remove_retired(rooms: Rooms, record: ViewRecord) -> int:
    """Remove the online rows of versions that were retired a while ago; how many there were."""
    removed = 0
    for version in record.versions.values():
        if version.retired_at is None or version.retired_at > rooms.clock() - RETIRED_ROWS:
            continue
        rows = rooms.online.scan(ViewRows(rooms.project, whole_view(record, version)).prefix)
        while keys := [key for key, _ in islice(rows, _CHUNK)]:
            rooms.online.delete(keys)
            removed += len(keys)
        if removed:
            rooms.online.delete([watermark_key(rooms.project, record.name, version.version)])
    return removed


def _rows_of(rooms: Rooms, view: ResolvedView, through: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes, int]]:
    """(stored key, row, D) of the purged keys that a version still holds."""
    rows = ViewRows(rooms.project, view)
    for key, row in rooms.online.scan(rows.prefix):
        try:
            values = rows.decode_key(key, row)
        except FormatError:
            # a damaged row names no key; the next run that has one overwrites it
            continue
        limit = through.get(rooms.log.digests.one(values))
        if limit is not None:
            yield key, row, limit


def through_of(tombstones: Mapping[bytes, Tombstone]) -> dict[bytes, int]:
    """Digest → D."""
    return {digest: through for digest, (_, through) in tombstones.items()}


def hide_purged(rooms: Rooms, view: ResolvedView, through: Mapping[bytes, int]) -> int:
    """Put the D of purges into the rows that do not bear it: a crash, or a restored folder, left them."""
    return sum(hide_row(rooms, key, row, limit) for key, row, limit in _rows_of(rooms, view, through))


def erase_purged(rooms: Rooms, record: ViewRecord) -> int:
    """Erase what still bears purged keys, where no write or run that began before the purge can be in flight.

    Args:
        rooms: the store's parts.
        record: the view.

    Returns:
        How many purges were worked off.
    """
    before = rooms.log.now() - duration_micros(WRITE_TIME)
    running = [to_micros(lease.started_at) for lease in rooms.leases.running(RUN)]
    due = rooms.log.purges_to_erase(record.name, min([before, *running]))
    if not due:
        return 0
    through = through_of(due)
    views = [whole_view(record, version) for version in record.versions.values()]
    for view in views:
        for key, row, limit in list(_rows_of(rooms, view, through)):
            _erase(rooms, key, row, limit)
    spaces = {view.version: ViewRows(rooms.project, view) for view in views}
    rooms.refresh_queue.forget(
        record.name, lambda version, key: rooms.log.digests.one(spaces[version].decode_key(key)) in through
    )
    rooms.log.erase(record.name, due, [RowVersion(view).reading for view in views])
    return len(due)


def _erase(rooms: Rooms, key: bytes, row: bytes | None, through: int) -> None:
    """Remove a row that is emptied or known up to D; what was learnt later stays."""
    while True:
        stored = header(row)
        known = MIN_MICROS if stored is None or stored.emptied else stored.known_at
        if stored is None or known > through:
            return
        if rooms.online.compare_and_put(key, stored.sequence, None):
            return
        row = rooms.online.multi_get([key])[0]
