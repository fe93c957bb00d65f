"""Status: how every view version stands, and what the parts of a store say about themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.clock import MIN_MICROS, duration_micros, format_duration, from_micros, to_micros
from headwater.compute.context import StoreContext
from headwater.compute.incomplete_rows import incomplete_rows
from headwater.compute.queue.records import Records, TimeToFresh
from headwater.compute.writing.erase_entity import PendingPurges, pending_purges
from headwater.config import Settings
from headwater.errors import LogMismatch, StoreError
from headwater.html_tables import html_table
from headwater.online.fetching.fetcher import ReadCounts
from headwater.online.hints import QueueCounts
from headwater.online.meta import read_watermarks
from headwater.online.rows.keys import namespace
from headwater.online.rows.newest import newest_event
from headwater.planning.pointers import way_out
from headwater.planning.snapshot import AnyRecord, Kind, RegistrySnapshot, ViewRecord, ViewVersion
from headwater.planning.watermark import Watermark
from headwater.registry.failures import Failure
from headwater.state_files import STATE, exposed
from headwater.urls import without_password

_NO_READS = ReadCounts()
LOOKED_AT = 10_000
"""How many rows of a version are looked at for the newest; a scan of all of a large store would take long."""


@dataclass(frozen=True)
class VersionStatus:
    """How one view version stands.

    Attributes:
        view, version: which one.
        state: `live`, `pending` (goes live once materialized), `previous` (to roll back to), `inactive` or
            `retired`.
        watermark: every row known up to then is online (UTC); None: never materialized.
        behind: how long ago that is; None where there is no watermark.
        position: the log position that was looked at last.
        log_behind: how many rows of the view's log came after it.
        ttl, freshness_sla: of the view.
        skipped: how many rows of the view's log lack a column that the version asks for: they have no value in it.
        newest: the newest event time online, for a view with a freshness SLA that is not retired (UTC); where
            `fresh` is None the newest of those rows that were looked at.
        fresh: whether the newest row is within the view's SLA; None where there is no SLA, no row, or where telling
            would take a look at too many rows.
    """

    view: str
    version: str
    state: str
    watermark: datetime | None = None
    behind: timedelta | None = None
    position: int = 0
    log_behind: int = 0
    ttl: timedelta | None = None
    freshness_sla: timedelta | None = None
    newest: datetime | None = None
    fresh: bool | None = None
    error: str | None = None
    failed_at: datetime | None = None
    skipped: int = 0


@dataclass(frozen=True)
class OnDemandStatus:
    """How one version of an on-demand feature view stands: it has no rows, and is computed when it is read.

    Attributes:
        view, version: which one.
        state: as `VersionStatus.state`.
    """

    view: str
    version: str
    state: str


@dataclass(frozen=True)
class RefreshStatus:
    """How refreshes stand.

    Attributes:
        queue: where hints wait: `table` (of the registry's database) or `redis streams`.
        waiting, claimed, resting, dead: how many hints; see `QueueCounts`.
        oldest: how long the oldest one that is not settled has been there; None: none is.
        time_to_fresh: from a hint to a newer row that can be read, of the last refreshes.
        totals: since the queue was made; see `Records`.
    """

    queue: str = ""
    waiting: int = 0
    claimed: int = 0
    resting: int = 0
    dead: int = 0
    oldest: timedelta | None = None
    time_to_fresh: TimeToFresh = field(default_factory=TimeToFresh)
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class StoreStatus:
    """How a store stands.

    Attributes:
        project: its name.
        now: the instant this was asked at (UTC).
        revision: the registry's.
        versions: every view version, retired ones last.
        services: service → its live version.
        registry, log, online: what these parts say: kind, place, sizes.
        warnings: what somebody should look at.
        failures: those of them that say that a store cannot be reached or a run failed.
        refresh: the queue of refreshes, and what they have come to.
        pending_purges: purged keys that are not erased yet.
        pending_until: a materialize or worker after this instant erases them (UTC); None: nothing is pending.
        overdue_purges: how many of them a run could have erased already, had there been one.
        overdue_since: from when on it could have erased the first of them (UTC); None: none is overdue.
        reads: the cache's hit ratio, shared round trips, the breaker, and rows known later than this host's clock, of
            this process's own reads.
        on_demand: every version of the on-demand feature views, retired ones last.
    """

    project: str
    now: datetime
    revision: int
    versions: tuple[VersionStatus, ...] = ()
    services: Mapping[str, str] = field(default_factory=dict)
    registry: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)
    online: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    refresh: RefreshStatus = field(default_factory=RefreshStatus)
    reads: ReadCounts = field(default_factory=ReadCounts)
    pending_purges: int = 0
    pending_until: datetime | None = None
    overdue_purges: int = 0
    overdue_since: datetime | None = None
    failures: tuple[str, ...] = ()
    on_demand: tuple[OnDemandStatus, ...] = ()

    @property
    def breached(self) -> tuple[str, ...]:
        """A line for each version whose newest row is older than the freshness SLA of its view."""
        return tuple(
            f"{v.view}@{v.version}: its newest row, of {v.newest:%Y-%m-%d %H:%M:%S} UTC, is older than its freshness "
            f"SLA of {format_duration(v.freshness_sla)}: run headwater materialize {v.view}, or look at its source"
            for v in self.versions
            if v.fresh is False and v.newest is not None and v.freshness_sla is not None
        )

    def __repr__(self) -> str:
        every: list[VersionStatus | OnDemandStatus] = [*self.versions, *self.on_demand]
        versions = ", ".join(f"{v.view}@{v.version} {v.state}" for v in every) or "nothing registered"
        count = len(self.warnings)
        warned = f"; {count} warning{'' if count == 1 else 's'}" if count else ""
        return f"<StoreStatus {self.project}, revision {self.revision}: {versions}{warned}>"

    def _repr_html_(self) -> str:
        names = ("view", "version", "state", "watermark", "behind", "log_behind", "freshness_sla", "newest", "fresh")
        rows = [[str(getattr(version, name)) for name in names] for version in self.versions]
        empty = ("",) * (len(names) - 3)
        rows += [[v.view, v.version, v.state, *empty] for v in self.on_demand]
        return html_table(names, rows, notes=self.warnings)


def status(
    context: StoreContext,
    now: int,
    registry: Mapping[str, Any],
    exposed: Sequence[Path] = (),
    reads: ReadCounts = _NO_READS,
) -> StoreStatus:
    """How a store stands; what cannot be reached is a warning.

    Args:
        context: the store's parts and settings.
        now: microseconds.
        registry: what is said of the registry.
        exposed: files of the project's state that others may read.
        reads: what stood between this process's reads and the online store.
    """
    snapshot = context.registry.refresh()
    log = {
        "id": context.log.log_id,
        "position": context.log.head_position(),
        "clock_ahead": context.log.clock_ahead().total_seconds(),
    }
    wrong = context.log.clock_warning()
    warnings: list[str] = [] if wrong is None else [wrong]
    unreachable: list[str] = []
    owner = tuple(_owner(context, unreachable))
    online, marks = _online(context, snapshot, warnings, unreachable)
    if owner:  # the store's watermarks are another log's
        marks = {pair: mark for pair, (mark, _) in context.registry.watermarks().items()}
    failures = {(failure.view, failure.version): failure for failure in context.failures.all()}
    versions = [v for record in snapshot.views.values() for v in _versions(context, record, marks, now, failures)]
    versions.sort(key=lambda v: v.state == "retired")
    warnings += (failed := tuple(_failed(snapshot, versions)))
    warnings += _waiting(snapshot)
    warnings += owner
    warnings += (problems := context.log.problems())
    warnings += _exposed(exposed)
    purges = pending_purges(context, now)
    warnings += _overdue(purges, [problem for problem in problems if ": file " in problem])
    services = {name: record.live for name, record in snapshot.services.items() if record.live is not None}
    refresh = _refresh(context, now, warnings, unreachable)
    warnings += _clocks(reads, context.settings.tolerance)
    return StoreStatus(
        snapshot.project,
        from_micros(now),
        snapshot.revision,
        tuple(versions),
        services,
        registry,
        log,
        online,
        tuple(warnings),
        refresh,
        reads,
        purges.count,
        purges.until,
        purges.overdue,
        purges.overdue_since,
        (*unreachable, *failed),
        tuple(_on_demand(snapshot)),
    )


def of_project(context: StoreContext, settings: Settings, now: datetime | str | None, reads: ReadCounts) -> StoreStatus:
    """How the store of a project stands.

    Args:
        context: the store's parts and settings.
        settings: the project's.
        now: an instant; None: the time now.
        reads: as of `status`.

    Raises:
        UsageError: `now` is not an instant.
    """
    at = to_micros(context.clock() if now is None else now)
    registry = {"url": without_password(settings.registry_url)}
    return status(context, at, registry, exposed(settings.folder / STATE), reads)


def _on_demand(snapshot: RegistrySnapshot) -> list[OnDemandStatus]:
    found = [
        OnDemandStatus(record.name, version, record.state(version))
        for record in snapshot.on_demand.values()
        for version in reversed(tuple(record.versions))
    ]
    return sorted(found, key=lambda each: each.state == "retired")


def _exposed(paths: Sequence[Path]) -> Iterator[str]:
    """A line where files of the project's state can be read by others, which opening the store could not change."""
    if paths:
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        yield (
            f"{paths[0]}{more} can be read by other users of this host: their owner can remove that permission with "
            "chmod -R go-rwx .headwater"
        )


def _owner(context: StoreContext, unreachable: list[str]) -> Iterator[str]:
    """A line where the online store belongs to another offline log, so that every read and write of it is refused."""
    try:
        context.claims.check_owner()
    except LogMismatch as bad:
        unreachable.append(str(bad))
        yield str(bad)
    except StoreError:
        # that it cannot be read is said already
        return


def _overdue(purges: PendingPurges, damaged: Sequence[str]) -> Iterator[str]:
    """A line where purges wait for a run that nobody has started, or for files that no run can rewrite."""
    if purges.overdue_since is not None:
        one = purges.overdue == 1
        way = "run headwater materialize"
        if damaged:
            way = f"what cannot be read cannot be rewritten ({'; '.join(damaged)}); once that is fixed, {way}"
        yield (
            f"{purges.overdue:,} purge{'' if one else 's'} could have been erased since "
            f"{purges.overdue_since:%Y-%m-%d %H:%M:%S} UTC, and no run has done so: {way}"
        )


def _clocks(reads: ReadCounts, tolerance: timedelta) -> Iterator[str]:
    """A line where reads by this host's clock found rows that are known later."""
    advice = "the clock of this host, or of one that writes, is wrong"
    if reads.not_known:
        yield f"{reads.not_known:,} rows read are known, or deleted, too long after this host's clock: {advice}"
    if reads.most_ahead > tolerance:
        yield (
            f"{reads.later:,} rows read are known, or deleted, after this host's clock, by up to "
            f"{format_duration(reads.most_ahead)}, and were answered as of then: {advice}"
        )


def _refresh(context: StoreContext, now: int, warnings: list[str], unreachable: list[str]) -> RefreshStatus:
    """How refreshes stand; what is wrong with them is a warning."""
    counts, records = QueueCounts(), Records()
    try:
        records = context.refresh_records.read()
        counts = context.refresh_queue.counts(now)
    except StoreError as bad:
        unreachable.append(f"the refresh queue cannot be read ({bad})")
        warnings.append(unreachable[-1])
    if counts.dead:
        letters = "dead letter" if counts.dead == 1 else "dead letters"
        warnings.append(
            f"the refresh queue holds {counts.dead} {letters}: headwater worker --dead lists, --replay retries"
        )
    return RefreshStatus(
        context.refresh_queue.kind,
        counts.waiting,
        counts.claimed,
        counts.resting,
        counts.dead,
        None if counts.oldest is None else timedelta(microseconds=max(0, now - counts.oldest)),
        records.time_to_fresh,
        records.totals,
    )


_Marks = Mapping[tuple[str, str], Watermark | None]


def _online(
    context: StoreContext, snapshot: RegistrySnapshot, warnings: list[str], unreachable: list[str]
) -> tuple[Mapping[str, Any], _Marks]:
    """What the online store says; the registry's mirror of the watermarks where it cannot be reached."""
    try:
        context.claims.check_there()
        pairs = [(r.name, v) for r in snapshot.views.values() for v in r.versions]
        info = dict(context.online.info())
        warnings += [str(info.pop("warnings"))] if info.get("warnings") else []
        return info, read_watermarks(context.online, context.project, pairs)
    except StoreError as bad:
        unreachable.append(f"the online store cannot be read ({bad}); watermarks are the registry's mirror of them")
        warnings.append(unreachable[-1])
        return {}, {pair: mark for pair, (mark, _) in context.registry.watermarks().items()}


_Failures = Mapping[tuple[str, str], Failure]


def _versions(
    context: StoreContext, record: ViewRecord, marks: _Marks, now: int, failures: _Failures
) -> Iterator[VersionStatus]:
    stored = context.log.rows_by_schema(record.name)
    for version in reversed(tuple(record.versions.values())):
        mark = marks.get((record.name, version.version))
        timed = mark is not None and mark.end > MIN_MICROS
        newest, fresh = _freshness(context, version, now)
        failure = failures.get((record.name, version.version)) if version.retired_at is None else None
        yield VersionStatus(
            record.name,
            version.version,
            record.state(version.version),
            from_micros(mark.end) if mark is not None and timed else None,
            timedelta(microseconds=max(0, now - mark.end)) if mark is not None and timed else None,
            mark.position if mark is not None else 0,
            context.log.rows_after(record.name, mark.position if mark is not None else 0),
            version.view.ttl_time,
            version.view.sla_time,
            newest,
            fresh,
            None if failure is None else failure.error,
            None if failure is None else failure.at,
            0 if version.retired_at is not None else incomplete_rows(stored, record, version).rows or 0,
        )


def _freshness(context: StoreContext, version: ViewVersion, now: int) -> tuple[datetime | None, bool | None]:
    """The newest event time among the first rows of a version, and whether it is within the SLA, where that tells."""
    view, sla = version.view, version.view.sla_time
    if sla is None or version.retired_at is not None or view.source.event_time is None:
        return None, None
    looked_at, newest = 0, MIN_MICROS
    try:
        for _, row in islice(context.online.scan(namespace(context.project, view.name, version.version)), LOOKED_AT):
            looked_at += 1
            newest = max(newest, newest_event(row))
    except StoreError:  # `status` has a warning of it already
        return None, None
    if newest == MIN_MICROS:
        return None, None
    if now - newest <= duration_micros(sla):
        return from_micros(newest), True
    # a row further on may be newer
    return from_micros(newest), None if looked_at == LOOKED_AT else False


def _failed(snapshot: RegistrySnapshot, versions: Iterable[VersionStatus]) -> Iterator[str]:
    """A line for each version whose last run failed."""
    for version in versions:
        if version.error is not None and version.failed_at is not None:
            at = f"{version.failed_at:%Y-%m-%d %H:%M:%S} UTC"
            unneeded = "; ".join(way_out(snapshot, version.view, version.version))
            or_retire = f", or if it is no longer needed: {unneeded}" if unneeded else ""
            yield (
                f"{version.view}@{version.version}: its last run, at {at}, failed: {version.error}; run again: "
                f"headwater materialize {version.view}{or_retire}"
            )


def _waiting(snapshot: RegistrySnapshot) -> Iterator[str]:
    """A line for each version that has not gone live yet."""
    kinds: dict[Kind, Iterable[AnyRecord]] = {
        Kind.VIEW: snapshot.views.values(),
        Kind.ON_DEMAND: snapshot.on_demand.values(),
        Kind.SERVICE: snapshot.services.values(),
    }
    for kind, records in kinds.items():
        for record in records:
            if record.waiting is not None:
                until = f", once it has read as far as {record.live}" if record.live and kind is Kind.VIEW else ""
                yield f"{kind.words} {record.name}: {record.waiting} goes live after the next materialize{until}"
