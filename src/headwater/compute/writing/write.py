"""Write: rows into the offline log, then online, for every active version that can take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from headwater.clock import from_micros
from headwater.compute.context import StoreContext
from headwater.compute.recent import RecentWrite, Sample
from headwater.compute.reports import WriteReport
from headwater.compute.writing.acknowledged import acknowledge, check_durability
from headwater.compute.writing.cached import write_cached
from headwater.compute.writing.put_versions import Outcomes, put_versions, written
from headwater.compute.writing.registry_guard import ATTEMPTS, Changed, unchanged
from headwater.compute.writing.rows import Checked, check_rows
from headwater.definitions.sources import PushSource
from headwater.errors import (
    RegistryConflict,
    SourceError,
    StoreError,
    UsageError,
)
from headwater.offline.base import POSITION
from headwater.offline.log.log import RowBatch
from headwater.offline.log.requests import Recorded, Request
from headwater.offline.log.state import LogRestored
from headwater.online.session import Session
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowVersion
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord
from headwater.types import WriteTarget


def active_versions(record: ViewRecord) -> list[RowVersion]:
    """The active versions, the live one first, then from the newest.

    Raises:
        UsageError: all are retired.
    """
    active = sorted(record.active, key=lambda v: (v.version == record.live, v.revision), reverse=True)
    if not active:
        raise UsageError(f"feature view {record.name!r} accepts no rows because it was removed: apply it again")
    return [RowVersion(whole_view(record, version)) for version in active]


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
    request: Request | None = None,
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
        request: that they are of, which is done once.

    Raises:
        RowsRejected: rows that no version can take; `.problems` names them all.
        LogMismatch: the online store belongs to another offline log, or this host's log folder is another one.
        Repeated: the log has the rows of the request.
    """
    until = context.write_until()
    target = _target(to)
    if errors not in ("raise", "report"):
        raise UsageError(f"errors={errors!r}: write 'raise' or 'report'")
    if created not in ("arrival", "event"):
        raise UsageError(f"created={created!r}: write 'arrival' or 'event'")
    check_durability(context.online, durability)
    context.check_session(session)
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
        versions = active_versions(record)
        if target is WriteTarget.ONLINE and any(version.view.view.aggregations for version in versions):
            raise UsageError(
                f"to='online': {view!r} is a window view: what it holds online is computed from the events of its "
                "source and the offline log, and could not be rebuilt; write to='both'"
            )
        checked = _checked(context, view, rows, versions, created)
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
                done, put = _write_checked(context, snapshot, view, versions, checked, target, until, request)
        except (Changed, LogRestored):
            context.claims.claim_log()
            snapshot = context.registry.refresh()
            continue
        if target is WriteTarget.OFFLINE:
            return done
        recent = RecentWrite(from_micros(context.now()), "write", view, done.applied, put, done.position)
        return replace(done, durable=acknowledge(context, recent, session, durability))
    raise RegistryConflict(f"{view}: the registry changed {ATTEMPTS} times while the rows were written; try again")


def write_again(
    context: StoreContext,
    view: str,
    rows: Any,
    recorded: Recorded,
    *,
    to: WriteTarget | str,
    durability: int,
    session: Session | None,
    created: str,
) -> WriteReport:
    """Put the rows of a write online that the log has: where another process had stopped before it did.

    Args:
        context: the store's parts and settings.
        view, rows, to, durability, session, created: as `write` took them.
        recorded: what the log's transaction did.
    """
    until = context.write_until()
    versions = active_versions(context.registry.refresh().view(view))
    checked = _checked(context, view, rows, versions, created)
    # none where versions of today take others of the rows: then the next run puts those that the log has
    appended = context.log.appended_before(checked.groups, recorded)
    position = recorded.after + recorded.count
    if WriteTarget(to) is WriteTarget.OFFLINE:
        return written(checked, Outcomes(recorded.count), 0, position)
    outcomes = _put(context, versions, checked, appended, until, position)
    recent = RecentWrite(from_micros(context.now()), "write", view, outcomes.applied, outcomes.sample, position)
    report = written(checked, outcomes, 0, position)
    return replace(report, durable=acknowledge(context, recent, session, durability))


def problems_of(context: StoreContext, view: str, rows: Any, created: str) -> tuple[str, ...]:
    """What is wrong with rows, as the report of a write says it."""
    versions = active_versions(context.registry.snapshot().view(view))
    return tuple(_checked(context, view, rows, versions, created).problems)


def _checked(context: StoreContext, view: str, rows: Any, versions: Sequence[RowVersion], created: str) -> Checked:
    if created == "event" and all(version.reading.event is None for version in versions):
        raise UsageError(f"created='event': rows of {view!r} have no event time: rows of its source are always valid")
    columns = partial(_source_columns, context, versions)
    return check_rows(view, rows, versions, columns, at_event=created == "event")


def _refuse(context: StoreContext, snapshot: RegistrySnapshot, view: str, checked: Checked) -> RegistrySnapshot:
    """Raise, unless a newer revision of the registry may take the rows."""
    newer = context.registry.refresh()
    if newer.revision != snapshot.revision:
        return newer
    raise checked.refused(view)


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
    request: Request | None,
) -> tuple[WriteReport, Sample]:
    appended: list[RowBatch] = []
    if checked.groups:
        readings = [version.reading for version in versions]
        windows = any(version.view.windows is not None for version in versions)
        check = unchanged(context, snapshot)
        appended = context.log.append(view, checked.groups, readings, check, request, apart=windows)
    position = max((a.table.column(POSITION)[-1].as_py() for a in appended if a.table.num_rows), default=0)
    kept = sum(a.table.num_rows for a in appended)
    purged = checked.count - checked.rejected - kept
    if target is WriteTarget.OFFLINE:
        return written(checked, Outcomes(kept), purged, position), ()
    outcomes = _put(context, versions, checked, appended, until, position)
    return written(checked, outcomes, purged, position), outcomes.sample


def _put(
    context: StoreContext,
    versions: Sequence[RowVersion],
    checked: Checked,
    appended: Sequence[RowBatch],
    until: int,
    position: int,
) -> Outcomes:
    try:
        return put_versions(context, versions, checked.count, appended, until)
    except StoreError as bad:
        kept = f"the rows are in the offline log (up to position {position}), the next materialize tries again"
        raise type(bad)(f"{bad}; {kept}") from bad
