"""One run of one window version: a fill where its rows are not complete, else a fold of what is new."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import pyarrow as pa

from headwater.clock import MIN_MICROS, from_micros
from headwater.compute.context import StoreContext
from headwater.compute.inputs import skipped_columns, skipped_rows, with_log
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.run import Bounds, Run
from headwater.compute.materializing.shared_lease import SharedLease
from headwater.compute.materializing.sink import puts_elsewhere
from headwater.compute.materializing.window_sink import fill_elsewhere
from headwater.compute.reports import RunReport
from headwater.compute.windows.driving import Driver, fill_records
from headwater.compute.windows.history import WindowHistory
from headwater.compute.windows.listing import SourceListing
from headwater.compute.windows.requests import End
from headwater.compute.windows.running import rebuild, run
from headwater.errors import Unavailable, UsageError
from headwater.observer import Progress
from headwater.offline.base import ChangeCounts, ChangesRequest, lost_files
from headwater.online.meta import read_watermarks, token_key
from headwater.online.rows.windows.record import FillRecord
from headwater.planning.files import lost_rows_warning
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark

_ATTEMPTS = 3


def run_of(context: StoreContext, view: ResolvedView, bounds: Bounds, keys: pa.Table | None = None) -> Run | WindowRun:
    """One run of a version of either kind.

    Raises:
        UsageError: a bound that a window version does not take.
    """
    return (Run if view.windows is None else WindowRun)(context, view, bounds, keys)


@dataclass
class WindowRun:
    """One run of one window version; as `Run`.

    Attributes:
        context: the store's parts and settings.
        view: the version, whole.
        bounds: what was asked for.
        keys: only these (columns named like the join keys); None: all.
        reached: how far the version is complete, once it has run.
    """

    context: StoreContext
    view: ResolvedView
    bounds: Bounds
    keys: pa.Table | None = None
    reached: Watermark | None = None
    _warnings: list[str] = field(default_factory=list)
    _rows: int = 0
    _put: int = 0
    _skipped: int = 0
    _skipped_columns: tuple[str, ...] = ()
    _listing: SourceListing | None = None
    _left_out: ChangeCounts = field(default_factory=ChangeCounts)

    def __post_init__(self) -> None:
        if self.bounds.start is not None:
            raise UsageError(
                f"materialize {self._name}: start cannot be used with a view of window aggregations; omit it (end "
                "bounds the source's rows), or rebuild some entities: materialize(entities=…)"
            )

    @property
    def _name(self) -> str:
        return f"{self.view.name}@{self.view.version}"

    @property
    def fills(self) -> bool:
        """Whether it is a run of all keys up to now."""
        return self.bounds.end is None and self.keys is None

    def run(self, peer: Watermark | None = None) -> RunReport:
        """Run it; begun again where another run or fill went on instead, or the online store lost rows.

        Args:
            peer: how far the run of another version of the view has just read: the watermark says no more.

        Raises:
            SourceError: the source is missing or does not fit the view.
            ClockError: the log's clock is far ahead of now.
            LogRestored: the registry was restored since it was claimed.
            StoreError: a store failed; what was put stays, and the next run goes on.
        """
        began = time.monotonic()
        with RunLease(self.context, self._name, self._shared()) as lease:
            for _ in range(_ATTEMPTS):
                if self._attempt(lease, peer) is not None:
                    return self._finish(time.monotonic() - began)
        raise Unavailable(
            f"materialize {self._name}: other runs of it began meanwhile, or the online store lost rows, {_ATTEMPTS} "
            "times; run it again"
        )

    def _shared(self) -> SharedLease | None:
        """The lease of the engine's processes, where they make all rows; None where this process does."""
        if self.keys is not None or not puts_elsewhere(self.context):
            return None
        pair = (self.view.name, self.view.version)
        record = fill_records(self.context, [pair])[pair]
        filled = record is not None and record.fill > self.context.log.restored_at()
        return None if filled and not self.bounds.force else SharedLease(self.context, self.view)

    def _attempt(self, lease: RunLease, peer: Watermark | None) -> End | None:
        context = self.context
        # makes a token where there is none yet
        context.online.epoch(token_key(context.project))
        (token,) = context.online.multi_get([token_key(context.project)])
        self._listing = SourceListing(context, self.view, token or b"", self.bounds.end)
        history = WindowHistory(context, self.view, self._listing)
        driver = Driver(context, self.view, lease.until, history)
        seen = self._counted_until()
        driver.peer = peer
        if lease.shared is not None:
            driver.elsewhere = partial(fill_elsewhere, lease.shared)
            driver.version = replace(driver.version, elsewhere=True)
        if self.keys is not None:
            wanted = {key for key in driver.statements.stored_keys(self.keys) if key is not None}
            work = rebuild(driver.version, wanted)
        else:
            work = run(
                driver.version, force=self._stored_keys(driver) if self.bounds.force else (), whole=self.bounds.force
            )
        end = driver.do(work)
        self._rows, self._put = history.rows, driver.put
        log = context.log.slice(self.view.name, self.view.log_keys, step_over=True)
        self._skipped = skipped_rows(self.view, log, seen.low)
        self._skipped_columns = skipped_columns(self.view, log, seen.low) if self._skipped else ()
        if end is not None:
            self._left_out = self._count(seen, end)
        self._warnings = list(lost_files(log))
        context.observer(Progress(f"materialize {self._name}", self._rows, finished=True))
        return end

    def _counted_until(self) -> FillRecord:
        """The record up to which an earlier run has counted the rows that it left out; an empty one: all are read."""
        pair = (self.view.name, self.view.version)
        record = None if self.bounds.force or self.keys is not None else fill_records(self.context, [pair])[pair]
        return record if record is not None and record.fill else FillRecord()

    def _count(self, seen: FillRecord, end: End) -> ChangeCounts:
        """The rows since a record that the run has left out, of the source as it was listed and of the log."""
        assert self._listing is not None
        counts = ChangeCounts()
        log = self.context.log.slice(self.view.name, self.view.log_keys, end.position, step_over=True)
        given = with_log(self.context, self.view, log, self.keys)
        scope = self._listing.scope(seen.source_through)
        if scope is not None:
            after = MIN_MICROS if scope.known_after is None else scope.known_after
            alone, through = replace(given, log=replace(log, parts=())), self._listing.through.known_at
            request = ChangesRequest(alone, through, after, Watermark(after), 0, self.keys, scope.whole, counted=True)
            list(self.context.engine.changes(request, counts))
        if given.log is not None and given.log.parts:
            since = Watermark(seen.known_through, seen.low)
            alone = replace(given, source=None)
            request = ChangesRequest(alone, end.clock, 0, since, end.position, self.keys, counted=True)
            list(self.context.engine.changes(request, counts))
        return counts

    def _stored_keys(self, driver: Driver) -> set[bytes]:
        """The keys that have a row: history may not have them any more."""
        return {key for key, _ in self.context.online.scan(driver.statements.rows.prefix)}

    def _finish(self, seconds: float) -> RunReport:
        pair = (self.view.name, self.view.version)
        self.reached = read_watermarks(self.context.online, self.context.project, [pair])[pair]
        if self.reached is not None and self.keys is None:
            took = timedelta(seconds=seconds)
            self.context.registry.record_watermarks(
                {pair: self.reached}, now=self.context.clock(), rows=self._rows, took=took
            )
        return self._report(seconds)

    def failed(self, seconds: float, error: str) -> RunReport:
        """What the run did until it failed."""
        return replace(self._report(seconds), error=error)

    def _report(self, seconds: float) -> RunReport:
        missing = () if self._listing is None else self._listing.missing
        rewritten = () if self._listing is None else self._listing.rewritten
        lost = lost_rows_warning(self.view.name, self.view.version, missing, rewritten)
        quiet = self.bounds.force or self.context.settings.keep_gone_files
        reached = self.reached
        return RunReport(
            view=self.view.name,
            version=self.view.version,
            rows=self._rows,
            keys=self._put,
            applied=self._put,
            future=self._left_out.future,
            null_keys=self._left_out.null_keys,
            null_times=self._left_out.null_times,
            skipped=self._skipped,
            skipped_columns=self._skipped_columns,
            missing_files=missing,
            rewritten_files=rewritten,
            seconds=seconds,
            watermark=None if reached is None or reached.end == MIN_MICROS else from_micros(reached.end),
            warnings=(*self._warnings, *(() if lost is None or quiet else (lost,))),
        )
