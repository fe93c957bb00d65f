"""Repair after a wrong clock: what the log and the online store have ahead of now becomes now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from headwater.clock import MIN_MICROS, duration_micros, from_micros, to_micros
from headwater.compute.context import StoreContext
from headwater.compute.materializing.force import Forced, key_table, make_equal
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.mend import mend
from headwater.compute.materializing.window_fill import void_windows
from headwater.compute.refreshing.requests import LAST_RETRY
from headwater.compute.reports import ClockRepairReport
from headwater.compute.writing.swap import update
from headwater.errors import ClockError
from headwater.offline.log.repair import ClockRepair, Moved
from headwater.online.meta import greatest_key, purge_entry, read_purges
from headwater.online.rows.codec import (
    CACHE_ONLY,
    CREATED,
    POSITION,
    SEQUENCE,
    Header,
    carrying,
    current,
    fresh_sequence,
    header,
    micros_bytes,
    tombstone,
)
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion

_CHUNK = 100_000


def repair_clock(context: StoreContext) -> ClockRepairReport:
    """Take now for right, where the offline log's clock is ahead of it.

    Arrivals and Ds that are ahead become now + 1 µs, + 2 µs, … in their order, in the log and online. Each online row
    that is known later than now is made what history has now. It may be called again where it was interrupted.

    Args:
        context: the store's parts and settings.
    """
    # first: a purge that the log then asks for now has to wait for them
    ended = _end_waits(context)
    context.claims.claim_online(always=True)
    snapshot = context.registry.refresh()
    versions = {
        record.name: [whole_view(record, version) for version in record.versions.values()]
        for record in snapshot.views.values()
    }
    readings = {name: [RowVersion(view).reading for view in views] for name, views in versions.items()}
    repaired = context.log.repair_clock(readings)
    # rows that are ahead become what history has: the log must have the store's deletes; one that is dated ahead
    # itself is refused, and left to the next run
    with suppress(ClockError):
        mend(context, snapshot)
    keys = sum(repair_online(context, name, views, repaired.moved) for name, views in versions.items())
    return _report(repaired, keys, ended)


def _end_waits(context: StoreContext) -> int:
    """Shorten what a fast clock has let last too long: leases, notes of force runs, the refresh queue's instants."""
    ended = context.leases.repair_clock(lasts=context.settings.lease_time)
    context.forcing.repair_clock(to_micros(context.online.clock()) + duration_micros(context.settings.lease_time))
    refreshing = context.settings.refreshing
    longest = max(refreshing.rest, refreshing.lease, 2 * LAST_RETRY)
    return ended + context.refresh_queue.repair_clock(context.now(), duration_micros(longest))


def _report(repaired: ClockRepair, keys: int, ended: int) -> ClockRepairReport:
    now = repaired.moved.now
    return ClockRepairReport(
        now=from_micros(now),
        ahead=timedelta(microseconds=repaired.clock - now),
        rows=sum(view.rows for view in repaired.views.values()),
        deletes=sum(view.tombstones for view in repaired.views.values()),
        keys=keys,
        views=tuple(sorted(repaired.views)),
        unread=repaired.unread,
        ended=ended,
    )


def repair_online(context: StoreContext, name: str, versions: list[ResolvedView], moved: Moved) -> int:
    """Bring the rows of a view that are ahead back to now; how many keys had one, over its versions.

    Rows that the log or a source has are made equal to history. A cache-only row is nowhere else: its arrival is moved.

    Args:
        context: the store's parts and settings.
        name: the view.
        versions: all of its versions.
        moved: what the instants of the log that were ahead became.
    """
    _move_purges(context, name, moved)
    tolerance, count = duration_micros(context.settings.tolerance), 0
    for view in versions:
        rows = RowEncoder(context.project, view)
        if view.windows is not None:
            void_windows(context, view)
            continue
        with RunLease(context, f"repair {view.name}@{view.version}") as lease:
            for ahead in _ahead(context, rows, moved.now):
                count += len(ahead)
                cached = {key: row for key, row in ahead.items() if _is_cached(row, moved.now + tolerance)}
                _move_cached(context, cached, moved, lease)
                others = {key: row for key, row in ahead.items() if key not in cached}
                if others:
                    log = context.log.slice(view.name, view.log_keys)
                    table = key_table(rows, others)
                    make_equal(context, view, log, lease, Forced(), keys=table, within=tolerance)
    return count


def _ahead(context: StoreContext, rows: RowEncoder, now: int) -> Iterator[dict[bytes, bytes]]:
    """What is stored of a version and known, or deleted, later than now."""
    found: dict[bytes, bytes] = {}
    for key, row in context.online.scan(rows.prefix):
        stored = header(row)
        if stored is not None and max(_known(stored), stored.through) > now:
            found[key] = row
        if len(found) == _CHUNK:
            yield found
            found = {}
    if found:
        yield found


def _known(stored: Header) -> int:
    return MIN_MICROS if stored.emptied else stored.known_at


def _is_cached(row: bytes, horizon: int) -> bool:
    """Whether it is a cache-only row whose event is not ahead."""
    stored = header(row)
    cached = stored is not None and not stored.emptied and current(row)[POSITION] == CACHE_ONLY
    return cached and stored is not None and stored.event <= horizon


def _move_cached(context: StoreContext, rows: dict[bytes, bytes], moved: Moved, lease: RunLease) -> None:
    keys = list(rows)

    def change(i: int, row: bytes | None) -> bytes | None:
        if row is None or not _is_cached(row, moved.now + duration_micros(context.settings.tolerance)):
            return row
        stored, new = header(row), current(row)
        assert stored is not None
        created, through = (moved.since(instant, now) for instant in (stored.created, stored.through))
        if (created, through) == (stored.created, stored.through):
            return row
        new = new[: CREATED.start] + micros_bytes(created) + new[CREATED.stop :]
        if through > MIN_MICROS:
            new = carrying(new, tombstone(through, stored.deleted_position))
        return new[: SEQUENCE.start] + fresh_sequence() + new[SEQUENCE.stop :]

    # what others have put since the log was repaired is not ahead
    now = context.log.now()
    high_water = (greatest_key(context.project), 0)
    update(context.online, keys, list(rows.values()), change, until=lease.until, high_water=high_water)


def _move_purges(context: StoreContext, name: str, moved: Moved) -> None:
    """The digests of purges that the online store keeps have their D too."""
    entries: dict[bytes, bytes | None] = {}
    now = context.log.now()
    for digest, through, position in read_purges(context.online, context.project, name):
        if moved.since(through, now) != through:
            entries |= purge_entry(context.project, name, digest, moved.since(through, now), position)
    if entries:
        context.online.put_meta(entries)
