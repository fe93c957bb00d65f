"""The rooms that one store object holds, and the settings that all of compute shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from headwater import forks
from headwater.clock import CLOCK_TOLERANCE, Clock, duration_micros, ticker, to_micros
from headwater.compute.refreshing.requests import Hints, RefreshSettings
from headwater.compute.writing.claims import Claims
from headwater.compute.writing.recent import RecentWrites
from headwater.compute.writing.too_large import too_large
from headwater.deferred import deferred
from headwater.definitions.sources import Source
from headwater.forks import lazy
from headwater.observer import Observer, silent
from headwater.offline.log.log_id import read_log_id
from headwater.online.base import OnlineStore, PutOutcome
from headwater.online.fetching.fetcher import Fetcher, ReadSettings
from headwater.online.hints import HintQueue, Queued
from headwater.online.meta import greatest_key, read_watermarks, token_key
from headwater.planning.resolve import ResolvedView
from headwater.planning.snapshot import RegistrySnapshot, ViewVersion
from headwater.planning.watermark import Watermark
from headwater.registry.registry import FeatureRegistry

if TYPE_CHECKING:
    from headwater.compute.refreshing import records as refresh_records
    from headwater.compute.refreshing import sql_queue as refresh_sql
    from headwater.compute.refreshing.refresh import Refresher
    from headwater.offline.base import OfflineEngine
    from headwater.offline.log.log import OfflineLog
    from headwater.registry import failures, files, forcing, leases, versions
else:
    refresh_records = deferred("headwater.compute.refreshing.records")
    refresh_sql = deferred("headwater.compute.refreshing.sql_queue")
    failures = deferred("headwater.registry.failures")
    files = deferred("headwater.registry.files")
    forcing = deferred("headwater.registry.forcing")
    leases = deferred("headwater.registry.leases")
    versions = deferred("headwater.registry.versions")

LOOKBACK = timedelta(days=1)
GRACE = timedelta(days=1)
"""How long past its ttl a row is kept where the store drops rows by itself: until then EXPIRED is told."""
DURABLE_WITHIN = timedelta(seconds=2)
"""How long a write that asks for durability waits for replicas."""
LEASE_TIME = timedelta(minutes=10)
WRITE_TIME = timedelta(minutes=10)
"""How long after its start a write may still be applied: purges asked for within it are not erased yet."""
NEVER_EXPIRES = 10_000_000_000
"""Seconds (three centuries) from which on a row is put without an expiry."""
RUN = "run"
"""The kind of lease that a materialization holds."""


def own_source(version: ViewVersion) -> Source:
    """The source as it is defined."""
    return version.view.source


@dataclass
class Rooms(forks.OfOneProcess):
    """One store object's parts.

    Attributes:
        project: the project's name; part of every online key.
        registry: definitions and versions.
        open_engine: opens what runs the point-in-time query: a process that only serves never needs it.
        open_log: opens the offline log.
        online: the online store.
        clock: the one clock.
        source_of: a version's source with its data (tables live in the store object).
        lookback: how far back a run looks for source rows that came late.
        tolerance: how far ahead of the clock a row may be known and still be put online.
        lease_time: how long a run may be held up before it counts as dead.
        observer: is told of progress.
        reads: what stands between a read and the online store.
        grace: how long past its ttl a row is kept by a store that drops rows by itself.
        durable_within: how long a write waits for replicas.
        recent: the writes that the online store acknowledged last.
        refreshing: how stale rows are refreshed.
        keep_gone_files: whether rows of source files that are gone are meant to stay, so that no run warns of them.
        refresher: refreshes for reads that wait, once one did; `refresh.refresher` makes it.
        mended: the generation of the offline log that `mend` was called for last.
        work_here: begins to work the queue off in this process, once a read asks for a refresh; gives what ends that.
    """

    project: str
    registry: FeatureRegistry
    open_engine: Callable[[], OfflineEngine]
    open_log: Callable[[], OfflineLog]
    online: OnlineStore
    clock: Clock
    source_of: Callable[[ViewVersion], Source] = own_source
    lookback: timedelta = LOOKBACK
    tolerance: timedelta = CLOCK_TOLERANCE
    lease_time: timedelta = LEASE_TIME
    observer: Observer = silent
    reads: ReadSettings = field(default_factory=ReadSettings)
    grace: timedelta = GRACE
    durable_within: timedelta = DURABLE_WITHIN
    recent: RecentWrites = field(default_factory=RecentWrites)
    refreshing: RefreshSettings = field(default_factory=RefreshSettings)
    refresher: Refresher | None = field(default=None, init=False)
    keep_gone_files: bool = False
    work_here: Callable[[Rooms], Callable[[], None]] | None = None
    mended: str | None = field(default=None, init=False)
    _end_work: Callable[[], None] | None = field(default=None, init=False)
    _claims: Claims | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        forks.after_fork(self, Rooms._in_child)

    @lazy
    def engine(self) -> OfflineEngine:
        """Runs the point-in-time query."""
        return self.open_engine()

    @lazy
    def log(self) -> OfflineLog:
        """The offline log."""
        return self.open_log()

    @lazy
    def versions(self) -> versions.FeatureVersionManager:
        """Moves live pointers."""
        return versions.FeatureVersionManager(self.registry)

    @lazy
    def files(self) -> files.FileEntries:
        """The files of sources that runs have read."""
        return files.FileEntries(self.registry.engine)

    @lazy
    def forcing(self) -> forcing.Forcing:
        """Force runs that have not ended."""
        return forcing.Forcing(self.registry.engine)

    @lazy
    def failures(self) -> failures.Failures:
        """Versions whose last run failed."""
        return failures.Failures(self.registry.engine)

    @lazy
    def leases(self) -> leases.Leases:
        """Says which runs are in flight."""
        return leases.Leases(self.registry.engine, self.clock)

    @property
    def claims(self) -> Claims:
        """Whose the log and the online store are, as it was looked at last."""
        if self._claims is None or self._claims.online is not self.online:
            self._claims = Claims(self.project, self.registry, lambda: self.log, self.log_id, self.online)
        return self._claims

    def _in_child(self) -> None:
        # the thread that works the queue off is the parent's
        self._end_work = None

    @lazy
    def now(self) -> Callable[[], int]:
        """Tells the time now, microseconds."""
        return ticker(self.clock)

    @lazy
    def fetcher(self) -> Fetcher:
        """Gets rows for reads."""
        return Fetcher(self.online, self.reads, lambda: self.store_name, token_key(self.project))

    @lazy
    def refresh_queue(self) -> HintQueue:
        """Where hints wait for workers."""
        if isinstance(self.online, Queued):
            return self.online.hint_queue(self.store_name, self.refreshing.limit)
        return refresh_sql.SQLHintQueue(self.registry.engine, self.refreshing.limit)

    @lazy
    def refresh_records(self) -> refresh_records.RefreshRecords:
        """What refreshes have come to."""
        return refresh_records.RefreshRecords(self.registry.engine)

    @lazy
    def hints(self) -> Hints:
        """What stands between reads and the queue."""
        return Hints(lambda: self.refresh_queue, lambda: self.refresh_records, self.now, self._begin_work)

    def _begin_work(self) -> None:
        if self.work_here is not None:
            self._end_work = self.work_here(self)

    def close(self) -> None:
        """End what works in the background, before the parts are closed."""
        if self.refresher is not None:
            self.refresher.close()
        if "hints" in vars(self):
            self.hints.close()
        if self._end_work is not None:
            self._end_work()

    def put_rows(
        self,
        view: ResolvedView,
        rows: list[tuple[bytes, bytes]],
        *,
        until: int | None = None,
        position: int = 0,
    ) -> list[PutOutcome]:
        """Put rows of a view version online; where the store drops rows by itself, those with a ttl in their time.

        Rows that the store cannot take are left out.

        Args:
            view: the version.
            rows: keys and packed rows.
            until: microseconds; see `OnlineStore.put`.
            position: no row has a greater log position.
        """
        ttl = view.view.ttl_time if view.view.source.event_time is not None else None
        lasts = ttl.total_seconds() + self.grace.total_seconds() if ttl else 0.0
        # rows that would be dropped after centuries are kept: no store's clock reaches all of Python's durations
        expires_in = math.ceil(lasts) if 0 < lasts < NEVER_EXPIRES else None
        high_water = (greatest_key(self.project), position)
        gone = frozenset(too_large(self.online, view, rows))
        fitting = rows if not gone else [row for i, row in enumerate(rows) if i not in gone]
        put = self.online.put(fitting, until=until, expires_in=expires_in, high_water=high_water)
        if not gone:
            return put
        outcomes = iter(put)
        return [PutOutcome.TOO_LARGE if i in gone else next(outcomes) for i in range(len(rows))]

    def watermarks(self, snapshot: RegistrySnapshot) -> dict[tuple[str, str], Watermark]:
        """(view, version) → how far it is materialized, as the online store has it; one that is missing never was."""
        pairs = [(view.name, version) for view in snapshot.views.values() for version in view.versions]
        marks = read_watermarks(self.online, self.project, pairs)
        return {pair: mark for pair, mark in marks.items() if mark is not None}

    @property
    def store_name(self) -> str:
        """The name of the online store that sessions carry."""
        return f"{self.project}:{self.log_id}"

    @lazy
    def log_id(self) -> str:
        """The id of the offline log, which the online store belongs to; the log is opened where there is none yet."""
        return read_log_id(self.registry.database) or self.log.log_id

    def claim_log(self, *, look: bool = True) -> None:
        """Make sure, before a write, that the offline log is the project's (`Claims.claim_log`)."""
        self.claims.claim_log(look=look)

    def claim_online(self, *, always: bool = False, look: bool = True) -> None:
        """Make sure, before a write, that the online store belongs to this offline log (`Claims.claim_online`)."""
        self.claims.claim_online(always=always, look=look)

    def write_until(self) -> int:
        """The instant (microseconds) after which a write that begins now must not be applied any more."""
        return to_micros(self.online.clock()) + duration_micros(WRITE_TIME)
