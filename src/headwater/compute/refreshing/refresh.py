"""Refresh: the rows of some keys computed again from the offline source, for a read that waits or a worker."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from headwater import forks
from headwater.clock import duration_micros
from headwater.compute.context import StoreContext
from headwater.compute.materializing.mend import mend_once, on_one_registry
from headwater.compute.materializing.run import Bounds
from headwater.compute.materializing.window_run import run_of
from headwater.compute.refreshing.requests import RefreshRequests, as_hints
from headwater.compute.reports import RunReport
from headwater.compute.writing.keys import key_table
from headwater.errors import HeadwaterError, NotFound
from headwater.online.hints import Hint
from headwater.online.reading.staleness import StaleRows
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.keys import digested
from headwater.online.rows.newest import newest_event
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView

_FAILED_REST = 5_000_000
"""Microseconds for which reads do not ask again for what failed: the source may be down."""
_RESTING = 100_000
_AT_CLOSE = 10.0


def active_view(context: StoreContext, name: str, version: str) -> ResolvedView | None:
    """A version, whole, as the registry has it now; None where it is no longer updated."""
    try:
        record = context.registry.snapshot().view(name)
        found = record.version(version)
    except NotFound:
        return None
    return None if found.retired_at is not None else whole_view(record, found)


def recompute(context: StoreContext, view: ResolvedView, keys: Iterable[bytes], end: int | None = None) -> RunReport:
    """Put what history has of some keys and the online store lacks, as a run does; no watermark moves.

    Args:
        context: the store's parts and settings.
        view: the version, whole.
        keys: whole keys of the version.
        end: only rows known by then, microseconds; None: by now.

    Raises:
        FormatError: a key is none of this version's.
        SourceError, StoreError: as a run's; what was put stays.
    """
    rows = RowEncoder(context.project, view)
    values = [rows.decode_key(key) for key in keys]
    columns = {name: [value[i] for value in values] for i, name in enumerate(rows.names)}
    table = key_table(columns, view.view.join_keys, f"refresh {view.name!r}")

    def run() -> RunReport:
        mend_once(context)
        return run_of(context, view, Bounds(end=end), table).run()

    return on_one_registry(context, run, always=False)


def newer_rows(context: StoreContext, events: Mapping[bytes, int]) -> set[bytes]:
    """The keys, of those given with an event time (microseconds), under which a row with a later one is stored."""
    keys = list(events)
    stored = context.online.multi_get([digested(key) for key in keys])
    return {key for key, row in zip(keys, stored, strict=True) if newest_event(row) > events[key]}


@dataclass(eq=False)
class _Batch:
    """Keys that one recomputation takes: key → (event time, SLA) of the stale row."""

    keys: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    done: Future[bool] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # whoever waits must not be able to cancel it for the others
        self.done.set_running_or_notify_cancel()


@dataclass(eq=False)
class _Line:
    """The recomputations of one view version, one at a time: what comes meanwhile shares the next."""

    running: _Batch | None = None
    following: _Batch | None = None
    thread: threading.Thread | None = None


_LineKey = tuple[str, str, int | None]


class Refresher(forks.OfOneProcess):
    """Refreshes for reads that wait.

    Reads of the same key at the same time share one recomputation, as do those of other keys of the view that come
    while one is running. What takes longer than a read waits goes on, and is put online all the same.

    Args:
        context: the store's parts and settings.
        requests: takes what is not done in time, or failed: a worker tries it again.

    Attributes:
        runs: how many recomputations were begun.
        problem: why the last one failed; empty where it did not.
    """

    def __init__(self, context: StoreContext, requests: RefreshRequests) -> None:
        self._context = context
        self._requests = requests
        self._resting: dict[bytes, int] = {}
        self._closed = False
        self.runs = 0
        self.problem = ""
        self.forget()
        forks.after_fork(self, Refresher.forget)

    def forget(self) -> None:
        """Begin again, with nothing running."""
        self._lock = threading.Lock()
        self._lines: dict[_LineKey, _Line] = {}

    def begin(self, views: Sequence[ResolvedView], stale: Sequence[StaleRows], at: int) -> Collection[Future[bool]]:
        """Ask for stale rows; each future says whether its recomputation put rows, and never raises a store's error.

        Args:
            views: the request's.
            stale: rows of them.
            at: the read's instant, microseconds: for one in the past only rows known by then are put.
        """
        now = self._context.now()
        end = at if at < now - duration_micros(self._context.settings.tolerance) else None
        found: dict[int, Future[bool]] = {}
        with self._lock:
            if self._closed:
                return ()
            for part in stale:
                view = views[part.place]
                for key, event in zip(part.keys, part.events, strict=True):
                    if not self._rests(key, now):
                        batch = self._join((view.name, view.version, end), key, event, part.sla)
                        found[id(batch)] = batch.done
        return found.values()

    def _join(self, which: _LineKey, key: bytes, event: int, sla: int) -> _Batch:
        line = self._lines.setdefault(which, _Line())
        if line.running is not None and key in line.running.keys:
            return line.running
        if line.following is None:
            line.following = _Batch()
        line.following.keys.setdefault(key, (event, sla))
        if line.thread is None:
            line.thread = threading.Thread(target=self._work, args=(which, line), name="headwater-refresh", daemon=True)
            line.thread.start()
        return line.following

    def refresh(self, views: Sequence[ResolvedView], stale: Sequence[StaleRows], at: int, budget: float) -> bool:
        """Refresh stale rows, and wait for it; what is not done in time goes on, and is hinted at.

        Args:
            views: the request's.
            stale: rows of them.
            at: the read's instant, microseconds.
            budget: seconds.

        Returns:
            Whether rows were put, so that another look is worth it.
        """
        futures = self.begin(views, stale, at)
        if futures:
            wait(futures, budget)
        return self.settled(views, stale, futures)

    def settled(
        self, views: Sequence[ResolvedView], stale: Sequence[StaleRows], futures: Collection[Future[bool]]
    ) -> bool:
        """What `refresh` says once it has waited."""
        if not all(future.done() for future in futures):
            now = self._context.now()
            self._requests.add(h for h in as_hints(views, stale, now) if not self._rests(h.key, now))
        return any(future.done() and future.result() for future in futures)

    def _work(self, which: _LineKey, line: _Line) -> None:
        while True:
            with self._lock:
                batch, line.following = line.following, None
                line.running = batch
                if batch is None or self._closed:
                    line.thread = None
                    self._lines.pop(which, None)
                    if batch is not None:
                        batch.done.set_result(False)
                    return
            try:
                batch.done.set_result(self._recompute(which, batch.keys))
            except BaseException as bad:
                batch.done.set_exception(bad)

    def _recompute(self, which: _LineKey, keys: Mapping[bytes, tuple[int, int]]) -> bool:
        """Recompute some keys; whether rows were put. Those that no newer row was found of rest."""
        name, version, end = which
        self.runs += 1
        try:
            view = active_view(self._context, name, version)
            if view is None:
                return False
            report = recompute(self._context, view, keys, end)
            newer = newer_rows(self._context, {key: event for key, (event, _) in keys.items()})
        except HeadwaterError as bad:
            self.problem = f"{name}@{version}: {bad}"
            self._let_rest(keys, _FAILED_REST)
            now = self._context.now()
            # a worker tries again, and tells who looks at the queue
            self._requests.add(Hint(name, version, key, event, sla, now) for key, (event, sla) in keys.items())
            return False
        self.problem = ""
        if end is None:
            self._let_rest(keys.keys() - newer, duration_micros(self._context.settings.refreshing.rest))
        return report.applied > 0

    def _rests(self, key: bytes, now: int) -> bool:
        # one that is longer than any was begun before the clock was set back
        longest = max(_FAILED_REST, duration_micros(self._context.settings.refreshing.rest))
        return 0 < self._resting.get(key, now) - now <= longest

    def _let_rest(self, keys: Iterable[bytes], lasting: int) -> None:
        now = self._context.now()
        with self._lock:
            if len(self._resting) > _RESTING:
                self._resting = {key: until for key, until in self._resting.items() if until > now}
            if len(self._resting) > _RESTING:
                self._resting.clear()
            self._resting.update((key, now + lasting) for key in keys)

    def close(self) -> None:
        """Begin no more, and wait a while for what is running."""
        with self._lock:
            self._closed = True
            threads = [line.thread for line in self._lines.values() if line.thread is not None]
        for thread in threads:
            thread.join(_AT_CLOSE)
