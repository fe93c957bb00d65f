"""Write: rows into the offline log, then online, for every version that is fed and can take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS, duration_micros, from_micros
from headwater.compute.context import StoreContext
from headwater.compute.recent import RecentWrite, Sample, sample
from headwater.compute.reports import WriteReport
from headwater.compute.writing.acknowledged import acknowledge, check_durability
from headwater.compute.writing.project import PLACE, known, project
from headwater.compute.writing.put import put_rows
from headwater.compute.writing.rows import Checked, check_rows
from headwater.compute.writing.too_large import named, too_large
from headwater.definitions.sources import PushSource
from headwater.errors import (
    RegistryConflict,
    RowsRejected,
    SourceError,
    StoreError,
    UsageError,
)
from headwater.offline.base import ARRIVAL, POSITION
from headwater.offline.log.log import RowBatch
from headwater.offline.log.state import LogRestored
from headwater.offline.log.write_buffer import stamped
from headwater.online.base import PutOutcome
from headwater.online.rows.encoder import ViewRows
from headwater.online.session import Session, check_session
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowVersion
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord
from headwater.types import WriteTarget

ATTEMPTS = 10
CHUNK = 65_536


class Changed(Exception):
    """The registry moved on between the checks and the log's transaction."""


def unchanged(context: StoreContext, snapshot: RegistrySnapshot) -> Callable[[sa.Connection], None]:
    """A check for the log's transaction: it feeds the versions of the revision that it sees itself."""

    def check(connection: sa.Connection) -> None:
        if context.registry.revision_in(connection) != snapshot.revision:
            raise Changed

    return check


def fed_versions(record: ViewRecord) -> list[RowVersion]:
    """The versions that are fed, the live one first, then from the newest.

    Raises:
        UsageError: all are retired.
    """
    fed = sorted(record.active, key=lambda v: (v.version == record.live, v.revision), reverse=True)
    if not fed:
        raise UsageError(f"feature view {record.name!r} accepts no rows because it was removed: apply it again")
    return [RowVersion(whole_view(record, version)) for version in fed]


def write(
    context: StoreContext,
    view: str,
    rows: Any,
    *,
    to: WriteTarget | str = WriteTarget.BOTH,
    errors: str = "raise",
    durability: int = 0,
    session: Session | None = None,
    created: str = "arrival",
) -> WriteReport:
    """Write rows of one view.

    Args:
        context: the store's parts and settings.
        view: the view.
        rows: a table or a list of dicts with the source's own columns; an explicit None is NULL.
        to: `both`; `offline`: the log alone; `online`: cache-only, no history and not filled again.
        errors: `raise`: one bad row and nothing is written; `report`: the good rows are written.
        durability: how many replicas must have the rows before the call returns.
        session: advanced by the write.
        created: when rows without a created time count as known: at their `arrival`, or, to load history, at their
            `event` time (and the source's delay; a push source has none).

    Raises:
        RowsRejected: rows that no version can take; `.problems` names them all.
        LogMismatch: the online store belongs to another offline log, or this host's log folder is another one.
    """
    until = context.write_until()
    target = _target(to)
    if errors not in ("raise", "report"):
        raise UsageError(f"errors={errors!r}: write 'raise' or 'report'")
    if created not in ("arrival", "event"):
        raise UsageError(f"created={created!r}: write 'arrival' or 'event'")
    check_durability(context.online, durability)
    check_session(session, context.store_name)
    # an append looks at the registry's database in its own transaction, a cache-only write has none
    look = target is WriteTarget.ONLINE
    if target is WriteTarget.OFFLINE:
        context.claims.claim_log(look=look)
    else:
        context.claims.claim_online(look=look)
    # a cache-only write has no transaction of the log to look at the registry in
    snapshot = context.registry.refresh() if target is WriteTarget.ONLINE else context.registry.snapshot()
    for _ in range(ATTEMPTS):
        record = snapshot.view(view)
        versions = fed_versions(record)
        if created == "event" and all(version.reading.event is None for version in versions):
            raise UsageError(
                f"created='event': rows of {view!r} have no event time: rows of its source are always valid"
            )
        columns = partial(_source_columns, context, versions)
        checked = check_rows(view, rows, versions, columns, at_event=created == "event")
        if checked.rejected and errors == "raise":
            snapshot = _refuse(context, snapshot, view, checked)
            continue
        if checked.groups and not record.written:
            context.versions.note_write(view, now=context.clock())
            snapshot = context.registry.refresh()
            continue
        try:
            if target is WriteTarget.ONLINE:
                done, put = write_cached(context, view, versions, checked, errors, until)
            else:
                done, put = _write_checked(context, snapshot, view, versions, checked, target, until)
        except (Changed, LogRestored):
            context.claims.claim_log()
            snapshot = context.registry.refresh()
            continue
        if target is WriteTarget.OFFLINE:
            return done
        recent = RecentWrite(from_micros(context.now()), "write", view, done.applied, put, done.position)
        return replace(done, durable=acknowledge(context, recent, session, durability))
    raise RegistryConflict(f"{view}: the registry changed {ATTEMPTS} times while the rows were written; try again")


def _refuse(context: StoreContext, snapshot: RegistrySnapshot, view: str, checked: Checked) -> RegistrySnapshot:
    """Raise, unless a newer revision of the registry may take the rows."""
    newer = context.registry.refresh()
    if newer.revision != snapshot.revision:
        return newer
    raise RowsRejected(
        f"{view}: {checked.rejected} of {checked.count} rows are invalid; nothing was written", checked.problems
    )


def _target(to: WriteTarget | str) -> WriteTarget:
    try:
        return WriteTarget(to)
    except ValueError:
        raise UsageError(f"to={to!r}: write {', '.join(repr(t.value) for t in WriteTarget)}") from None


def _source_columns(context: StoreContext, versions: Sequence[RowVersion]) -> list[str]:
    """Every column of the versions' sources, those that no feature uses too."""
    names: list[str] = []
    for version in versions:
        source = context.sources.source_of(version.view.definition)
        if isinstance(source, PushSource):
            continue
        try:
            names += context.engine.source_schema(source).names
        except SourceError:
            # a source that cannot be read now has no more columns to name
            continue
    return names


def _write_checked(
    context: StoreContext,
    snapshot: RegistrySnapshot,
    view: str,
    versions: Sequence[RowVersion],
    checked: Checked,
    target: WriteTarget,
    until: int,
) -> tuple[WriteReport, Sample]:
    appended: list[RowBatch] = []
    if checked.groups:
        readings = [version.reading for version in versions]
        appended = context.log.append(view, checked.groups, readings, unchanged(context, snapshot))
    position = max((a.table.column(POSITION)[-1].as_py() for a in appended if a.table.num_rows), default=0)
    kept = sum(a.table.num_rows for a in appended)
    purged = checked.count - checked.rejected - kept
    if target is WriteTarget.OFFLINE:
        return report(checked, Outcomes(kept), purged, position), ()
    try:
        outcomes = _put_versions(context, versions, checked.count, appended, until)
    except StoreError as bad:
        kept = f"the rows are in the offline log (up to position {position}), the next materialize tries again"
        raise type(bad)(f"{bad}; {kept}") from bad
    return report(checked, outcomes, purged, position), outcomes.sample


def report(checked: Checked, outcomes: Outcomes, purged: int, position: int = 0) -> WriteReport:
    """The report of a write whose rows were checked; `purged` are rows that a purge hides."""
    return WriteReport(
        applied=outcomes.applied,
        superseded=outcomes.superseded + purged,
        rejected=checked.rejected,
        future=outcomes.future,
        skipped=checked.skipped,
        problems=(*checked.problems, *outcomes.problems),
        position=position,
        too_large=outcomes.too_large,
        unread=dict(checked.unread),
    )


@dataclass(frozen=True)
class Outcomes:
    """What became of rows online, each counted once.

    Attributes:
        applied: rows put in a version.
        superseded: others, kept out of every version.
        future: others, withheld in a version.
        too_large: rows that are too large for the store in a version, whatever came of them in others.
        problems: what is said of these, by row of the write.
        sample: some of the rows that were put.
    """

    applied: int
    superseded: int = 0
    future: int = 0
    too_large: int = 0
    problems: tuple[str, ...] = ()
    sample: Sample = ()


def _put_versions(
    context: StoreContext, versions: Sequence[RowVersion], count: int, groups: Sequence[RowBatch], until: int
) -> Outcomes:
    """Put rows online for every version that takes them; what is not known yet is withheld.

    Args:
        context: the store's parts and settings.
        versions: the versions that are fed.
        count: how many rows the write had.
        groups: its good rows.
        until: see `OnlineStore.put`.
    """
    put, withheld, taken = np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, bool)
    some: Sample = ()
    large: dict[int, list[str]] = {}
    for i, version in enumerate(versions):
        mine = [(project(version, g.table), g.rows) for g in groups if i in g.versions and g.table.num_rows]
        if not mine:
            continue
        batch, rows = _in_order(mine)
        taken[rows] = True
        future = known(batch) > _horizon(context, groups)
        if future.any():
            withheld[rows[future]] = True
            batch, rows = batch.filter(pa.array(~future)), rows[~future]
        encoder = ViewRows(context.project, version.view)
        last = int(batch.column(PLACE).to_numpy().max(initial=0))
        for start in range(0, batch.num_rows, CHUNK):
            part = batch.slice(start, CHUNK)
            pairs = encoder.encode(part)
            outcomes = put_rows(context, version.view, pairs, until=until, position=last)
            applied = [outcome is PutOutcome.APPLIED for outcome in outcomes]
            places = rows[start : start + CHUNK]
            put[places[np.array(applied, bool)]] = True
            for at, text in named(context.online, encoder, pairs, outcomes):
                large.setdefault(int(places[at]), []).append(text)
            if not start:
                some += sample(part, encoder.names, pairs, applied)
    withheld &= ~put
    others = taken & ~put & ~withheld
    others[list(large)] = False
    problems = tuple(f"row {row}: {'; '.join(large[row])}" for row in sorted(large))
    return Outcomes(int(put.sum()), int(others.sum()), int(withheld.sum()), len(large), problems, some)


def _horizon(context: StoreContext, groups: Sequence[RowBatch]) -> int:
    """Rows known after this instant are withheld: the log's clock and the tolerance."""
    arrived = max((g.table.column(ARRIVAL)[0].as_py() for g in groups if g.table.num_rows), default=MIN_MICROS)
    return arrived + duration_micros(context.settings.tolerance)


def _in_order(batches: list[tuple[pa.RecordBatch, NDArray[np.int64]]]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """The rows of all groups as the user gave them: of rows that the guard holds for equal the last one stands."""
    if len(batches) == 1:
        return batches[0]
    rows = np.concatenate([some for _, some in batches])
    order = np.argsort(rows, kind="stable")
    table = pa.Table.from_batches([batch for batch, _ in batches]).take(pa.array(order)).combine_chunks()
    return table.to_batches()[0], rows[order]


def write_cached(
    context: StoreContext, view: str, versions: Sequence[RowVersion], checked: Checked, errors: str, until: int
) -> tuple[WriteReport, Sample]:
    """Put rows online alone (`to="online"`): origin log, position 0; one from the future is rejected.

    Raises:
        RowsRejected: a row from the future, with `errors="raise"`.
    """
    arrival = context.log.arrival(view)
    groups: list[RowBatch] = []
    late: list[int] = []
    problems: list[str] = []
    purged = 0
    for group in checked.groups:
        takers = [versions[i] for i in group.versions]
        table = stamped(group.table, np.zeros(group.table.num_rows, np.int64), arrival)
        future, gone = _unfit_for_cache(context, view, takers, table, arrival)
        late += [int(row) for row in group.rows[future]]
        purged += int((gone & ~future).sum())
        keep = ~(future | gone)
        large = _too_large_for_cache(context, takers, table.filter(pa.array(keep)))
        problems += [f"row {group.rows[keep][at]}: {text}" for at, text in large.items()]
        keep[np.flatnonzero(keep)[list(large)]] = False
        groups.append(replace(group, table=table).only(keep))
    text = "known in the future: a cache-only row is not kept for later; write it with to='both'"
    problems += [f"row {row}: {text}" for row in sorted(late)]
    if problems:
        checked.problems += problems
        checked.rejected += len(problems)
        if errors == "raise":
            wrong = f"{view}: {checked.rejected} of {checked.count} rows are invalid; nothing was written"
            raise RowsRejected(wrong, checked.problems)
    outcomes = _put_versions(context, versions, checked.count, groups, until)
    return report(checked, outcomes, purged), outcomes.sample


def _too_large_for_cache(context: StoreContext, takers: Sequence[RowVersion], table: pa.Table) -> dict[int, str]:
    """The rows that the online store cannot take in some version, and why: nothing else would keep them."""
    most = context.online.capabilities.max_row_bytes
    # no packed row is twice as large as all columns together
    if context.online.capabilities.max_key_bytes is None and (most is None or 2 * table.nbytes + 65_536 < most):
        return {}
    found: dict[int, str] = {}
    for version in takers:
        encoder = ViewRows(context.project, version.view)
        pairs = encoder.encode(project(version, table))
        large = frozenset(too_large(context.online, version.view, pairs))
        outcomes = [PutOutcome.TOO_LARGE if i in large else PutOutcome.APPLIED for i in range(len(pairs))]
        found |= dict(named(context.online, encoder, pairs, outcomes))
    return found


def _unfit_for_cache(
    context: StoreContext, view: str, takers: Sequence[RowVersion], table: pa.Table, arrival: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows some version would see in the future, and which are at or below a purge in every version."""
    horizon = arrival + duration_micros(context.settings.tolerance)
    future, gone = np.zeros(table.num_rows, bool), np.ones(table.num_rows, bool)
    for version in takers:
        batch = project(version, table)
        since = known(batch)
        future |= since > horizon
        keys = pa.Table.from_batches([batch]).select([key.name for key in version.view.keys])
        gone &= since <= context.log.purged(view, keys, version.view.key_names)
    return future, gone
