"""Erasing: purged keys, recognized by their digests, once nothing old is in flight; rows of retired versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice

import pyarrow as pa

from headwater.clock import duration_micros, to_micros
from headwater.compute.context import RUN, WRITE_TIME, StoreContext
from headwater.compute.writing.delete import hide_stored, note_purges, stored_rows
from headwater.compute.writing.erase_windows import purge_window_rows
from headwater.compute.writing.swap import CHUNK, Until, update
from headwater.errors import FormatError
from headwater.offline.base import Tombstone
from headwater.offline.log.tombstones import tombstone_under
from headwater.offline.training_sets.erasing import erase_rows
from headwater.offline.training_sets.key_names import keys_of
from headwater.online.meta import (
    emptied_key,
    fill_record_key,
    greatest_key,
    run_ends_key,
    watermark_key,
    window_run_key,
)
from headwater.online.powers import Erasing
from headwater.online.rows.codec import header
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.catching_up import RETIRED_ROWS
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion
from headwater.planning.snapshot import ViewRecord, ViewVersion

_MARGIN = timedelta(minutes=1)
"""How much longer than promised retired rows stay, since the clocks of readers differ."""

Purges = Mapping[bytes, Tombstone]
"""Digest of a key → P and D (microseconds) of its purge."""


def remove_retired(context: StoreContext, record: ViewRecord) -> int:
    """Remove the online rows of versions that were retired a while ago; how many there were."""
    before = context.clock() - RETIRED_ROWS - _MARGIN
    retired = [v for v in record.versions.values() if v.retired_at is not None and v.retired_at <= before]
    emptied = context.online.multi_get([emptied_key(context.project, record.name, v.version) for v in retired])
    return sum(_empty(context, record, v) for v, known in zip(retired, emptied, strict=True) if known is None)


def _empty(context: StoreContext, record: ViewRecord, version: ViewVersion) -> int:
    """Remove a version's rows, with what speaks for them, and note that it has none."""
    removed, project, number = 0, context.project, version.version
    rows = context.online.scan(RowEncoder(project, whole_view(record, version)).prefix)
    while keys := [key for key, _ in islice(rows, CHUNK)]:
        context.online.delete(keys)
        removed += len(keys)
    context.files.forget(record.name, number)
    gone = (watermark_key, fill_record_key, window_run_key, run_ends_key)
    entries: dict[bytes, bytes | None] = {key(project, record.name, number): None for key in gone}
    context.online.put_meta({**entries, emptied_key(project, record.name, number): b"\1"})
    return removed


def purged_of(
    context: StoreContext, rows: RowEncoder, key: bytes, row: bytes | None, purges: Purges
) -> Tombstone | None:
    """P and D of the purge of a stored key; None where there is none.

    Raises:
        FormatError: nothing tells which key it is.
    """
    return tombstone_under(
        context.log.digests.all_of(rows.names, rows.decode_key(key, row), rows.view.key_names), purges
    )


def purged_rows(
    context: StoreContext, view: ResolvedView, purges: Purges, keys: pa.Table | None = None
) -> Iterator[tuple[bytes, Tombstone]]:
    """(stored key, P and D) of the purged keys that a version still holds; `keys`: of these keys alone."""
    rows = RowEncoder(context.project, view)
    for key, row in stored_rows(context, rows, keys):
        try:
            purged = purged_of(context, rows, key, row, purges)
        except FormatError:
            # a damaged row names no key; the next run that has one overwrites it
            continue
        if purged is not None:
            yield key, purged


def hide_purged(
    context: StoreContext, view: ResolvedView, purges: Purges, until: Until, keys: pa.Table | None = None
) -> int:
    """Put D and P of purges into the rows that do not have them: a crash, or another store, left them out."""
    note_purges(context, view.name, purges)
    return hide_by_digest(context, view, purges, until, keys)


def hide_by_digest(
    context: StoreContext, view: ResolvedView, purges: Purges, until: Until, keys: pa.Table | None = None
) -> int:
    """Put D and P into the rows of the keys that have these digests; `keys`: of these keys alone."""
    found = list(purged_rows(context, view, purges, keys))
    return hide_stored(context, [key for key, _ in found], [tombstone for _, tombstone in found], until)


def erase_purged(context: StoreContext, record: ViewRecord, pending: list[str] | None = None) -> int:
    """Erase what still holds purged keys, where no write or run that began before the purge can be in flight.

    Args:
        context: the store's parts and settings.
        record: the view.
        pending: what is in the way of erasing is added to it: the next run tries it again.

    Returns:
        How many purges were worked off.
    """
    before = context.log.now() - duration_micros(WRITE_TIME)
    running = [to_micros(lease.started_at) for lease in context.leases.running(RUN)]
    purges = context.log.purges_to_erase(record.name, min([before, *running]))
    if not purges:
        return 0
    views = [whole_view(record, version) for version in record.versions.values()]
    note_purges(context, record.name, purges)
    for view in views:
        found = list(purged_rows(context, view, purges))
        if view.windows is not None:
            purge_window_rows(context, view, dict(found), context.write_until)
            continue
        keys, tombstones = [key for key, _ in found], [tombstone for _, tombstone in found]
        hide_stored(context, keys, tombstones, context.write_until)
        _erase(context, keys, [position for position, _ in tombstones], context.write_until)
    spaces = {view.version: RowEncoder(context.project, view) for view in views}
    context.refresh_queue.forget(record.name, lambda version, key: _may_be(context, spaces.get(version), key, purges))
    if isinstance(context.online, Erasing):
        context.online.erase_remains()
    # an error may show a row's values, an index of a source has its keys
    context.failures.forget(record.name)
    context.open_engine().forget()
    snapshot = context.registry.snapshot()
    _, kept = erase_rows(
        context.training_sets, record.name, purges, context.log.digests.all, lambda saved: keys_of(snapshot, saved)
    )
    blocked = context.log.erase(record.name, purges, [RowVersion(view).reading for view in views], kept)
    if pending is not None:
        pending += (f"{len(purges):,} purges of {record.name} are not erased yet: {reason}" for reason in blocked)
    return 0 if blocked else len(purges)


def _may_be(context: StoreContext, space: RowEncoder | None, key: bytes, purges: Purges) -> bool:
    """Whether a key of the refresh queue is a purged one, or one that nothing can read."""
    try:
        return space is None or purged_of(context, space, key, None, purges) is not None
    except FormatError:
        return True


def _erase(context: StoreContext, keys: Sequence[bytes], positions: Sequence[int], until: Until) -> None:
    """Remove emptied rows whose delete is no later than the purge; what was learnt later stays."""

    def change(i: int, row: bytes | None) -> bytes | None:
        stored = header(row)
        if stored is None or not stored.emptied or stored.deleted_position > positions[i]:
            return row
        return None

    high_water = (greatest_key(context.project), max(positions, default=0))
    update(context.online, keys, context.online.multi_get(keys), change, until=until, high_water=high_water)
