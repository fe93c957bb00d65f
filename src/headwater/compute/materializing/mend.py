"""Mend: after the registry was restored from an older copy, the log and the store are made to agree again.

The store keeps what the restored log has lost: deletes are appended to the log again, with their own position and time,
and rows whose positions the log does not have any more are made equal to history. Each run does so until none of the
puts that were in flight at the restore can apply any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from headwater.clock import MIN_MICROS, duration_micros
from headwater.compute.context import WRITE_TIME, StoreContext
from headwater.compute.materializing.force import Forced, key_table, make_equal
from headwater.compute.materializing.lease import RunLease
from headwater.compute.writing.erase import purged_of
from headwater.compute.writing.swap import CHUNK
from headwater.errors import FormatError, Unavailable
from headwater.offline.base import POSITION, THROUGH, Tombstone
from headwater.offline.log.state import LogRestored
from headwater.online.meta import greatest_key, mended_key, number_of, read_purges, token_key
from headwater.online.rows.codec import header
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.windows.codec import row_facts
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord

ATTEMPTS = 5
"""How often work begins again where the registry is restored meanwhile."""

T = TypeVar("T")


@dataclass
class Mended:
    """What was done.

    Attributes:
        deletes: how many deletes the log has again.
        rows: how many rows were made equal to history.
        names: `view@version: 3 rows`, of those with any.
    """

    deletes: int = 0
    rows: int = 0
    names: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a run says of it."""
        if not self.deletes and not self.rows:
            return ()
        what = f"{self.deletes:,} deletes were appended again, {self.rows:,} rows made equal to history"
        names = f" ({', '.join(self.names)})" if self.names else ""
        return (f"the registry was restored from an older copy: {what}{names}",)


def on_one_registry(context: StoreContext, work: Callable[[], T], *, always: bool = True) -> T:
    """Claim the log and the online store, and do some work; all of it again where the registry is restored meanwhile.

    Args:
        context: the store's parts and settings.
        work: what reads or changes the log and the online store.
        always: claim the online store even where it was looked at a moment ago.

    Raises:
        LogMismatch: the online store belongs to another offline log.
        Unavailable: the registry was restored again and again, or a store cannot be reached.
    """
    for _ in range(ATTEMPTS):
        context.claims.claim_online(always=always)
        claimed = context.log.generation
        try:
            result = work()
        except LogRestored:
            continue
        # work that only reads does not notice it
        context.log.head_position()
        if context.log.generation == claimed:
            return result
    raise Unavailable(f"the registry was restored from an older copy {ATTEMPTS} times during this run; try again")


def mend_once(context: StoreContext) -> None:
    """`mend`, unless this process has done so since the log is of its generation."""
    if context.claims.mended != context.log.generation:
        mend(context, context.registry.refresh())


def mend(context: StoreContext, snapshot: RegistrySnapshot) -> Mended:
    """Do it, where the store does not say that it is done; before any run puts a row."""
    generation = context.log.generation
    done = _mend(context, snapshot)
    context.claims.mended = generation
    return done


def _mend(context: StoreContext, snapshot: RegistrySnapshot) -> Mended:
    done = Mended()
    (data,) = context.online.multi_get([mended_key(context.project)])
    gaps = [gap for gap in context.log.gaps() if gap.hi > number_of(data)]
    if not gaps:
        return done
    epoch = context.online.epoch(token_key(context.project))
    with RunLease(context, "restore") as lease:
        began = context.log.now()
        for record in snapshot.views.values():
            versions = [whole_view(record, version) for version in record.versions.values()]
            # purges first: their keys do not go into the log in clear
            done.deletes += _purges_again(context, record)
            for view in versions:
                done.deletes += _deletes_again(context, view)
            for view in versions:
                _rows_again(context, view, [(gap.lo, gap.hi) for gap in gaps], lease, done)
        for gap in gaps:
            # a put that was in flight at the restore cannot apply any more
            if began > gap.noted_at + duration_micros(WRITE_TIME):
                where = (token_key(context.project), epoch)
                context.online.put_meta({}, epoch=where, high_water=(mended_key(context.project), gap.hi))
    return done


def _deletes_again(context: StoreContext, view: ResolvedView) -> int:
    """Append the deletes that rows have and the log does not."""
    rows = RowEncoder(context.project, view)
    known = _log_deletes(context, rows)
    purged = context.log.purges_after(view.name, 0, None)
    missing: dict[bytes, bytes] = {}
    marks: list[Tombstone] = []
    for key, row in context.online.scan(rows.prefix):
        mark = _tombstone(row)
        if mark is None:
            continue
        if _covers(known.get(key), mark):
            continue
        try:
            again = not _covers(purged_of(context, rows, key, row, purged), mark)
        except FormatError:
            continue
        if again:
            missing[key] = row
            marks.append(mark)
    if not missing:
        return 0
    added = context.log.append_again(view.name, key_table(rows, missing), marks)
    context.online.put_meta({}, high_water=(greatest_key(context.project), context.log.head_position()))
    return added


def _tombstone(row: bytes) -> Tombstone | None:
    """P and D of a stored row of either kind; None where it has none."""
    facts = row_facts(row)
    if facts is not None:
        return None if facts.through == MIN_MICROS else (facts.position, facts.through)
    stored = header(row)
    return None if stored is None or stored.through == MIN_MICROS else (stored.deleted_position, stored.through)


def _purges_again(context: StoreContext, record: ViewRecord) -> int:
    """Append the purges whose digests the store has and the log does not."""
    known = context.log.purges_after(record.name, 0, None)
    stored = read_purges(context.online, context.project, record.name)
    missing = [
        (digest, (position, through))
        for digest, through, position in stored
        if not _covers(known.get(digest), (position, through))
    ]
    if not missing:
        return 0
    digests, tombstones = [digest for digest, _ in missing], [mark for _, mark in missing]
    added = context.log.append_again(record.name, None, tombstones, digests)
    context.online.put_meta({}, high_water=(greatest_key(context.project), context.log.head_position()))
    return added


def _rows_again(
    context: StoreContext, view: ResolvedView, gaps: Iterable[tuple[int, int]], lease: RunLease, done: Mended
) -> None:
    """Make rows at positions that the log has lost equal to history."""
    gaps, rows, count = list(gaps), RowEncoder(context.project, view), 0
    lost: dict[bytes, bytes | None] = {}

    def equal() -> int:
        forced = Forced()
        log = context.log.slice(view.name, view.log_keys)
        make_equal(context, view, log, lease, forced, keys=key_table(rows, lost))
        return len(lost)

    for key, row in context.online.scan(rows.prefix):
        stored = header(row)
        if stored is None or stored.emptied or not any(lo < stored.position <= hi for lo, hi in gaps):
            continue
        lost[key] = row
        if len(lost) == CHUNK:
            count += equal()
            lost = {}
    if lost:
        count += equal()
    if count:
        done.rows += count
        done.names.append(f"{view.name}@{view.version}: {count:,} rows")


def _log_deletes(context: StoreContext, rows: RowEncoder) -> dict[bytes, Tombstone]:
    """Stored key → the greatest P and D of the log's deletes."""
    table = context.log.deletes_after(rows.view.name, rows.view.log_keys, 0, context.log.head_position())
    if table is None:
        return {}
    marks = zip(table.column(POSITION).to_pylist(), table.column(THROUGH).to_pylist(), strict=True)
    keys = rows.stored_keys(_keys_of(table, rows))
    return {key: mark for key, mark in zip(keys, marks, strict=True) if key is not None}


def _keys_of(table: pa.Table, rows: RowEncoder) -> pa.Table:
    return table.select(list(rows.names))


def _covers(known: Tombstone | None, mark: Tombstone) -> bool:
    return known is not None and known[0] >= mark[0] and known[1] >= mark[1]
