"""One run of one view version: history's changes since the watermark, encoded and put, the watermark last."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pyarrow as pa

from headwater.clock import MIN_MICROS, duration_micros, from_micros
from headwater.compute.context import StoreContext
from headwater.compute.inputs import skipped_columns, skipped_rows, with_log
from headwater.compute.materializing.force import Forced, make_equal, whole_history
from headwater.compute.materializing.force_elsewhere import make_equal_elsewhere
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.run_files import RunFiles
from headwater.compute.materializing.shared_lease import SharedLease
from headwater.compute.materializing.sink import OnlineSink, Stopped, puts_elsewhere, sink_of
from headwater.compute.materializing.source_ties import Ties
from headwater.compute.materializing.ties_elsewhere import settle_elsewhere
from headwater.compute.reports import RunReport
from headwater.compute.writing.delete import hide_rows
from headwater.compute.writing.erase import hide_by_digest, hide_purged
from headwater.compute.writing.put import put_rows
from headwater.compute.writing.too_large import TooLarge
from headwater.errors import SourceError, StoreError, Unavailable
from headwater.observer import Progress
from headwater.offline.base import POSITION, THROUGH, ChangeCounts, ChangesRequest, LogSlice, lost_files
from headwater.online.base import PutOutcome
from headwater.online.meta import greatest_key, read_watermarks, token_key, watermark_entry, watermark_key
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolved import ResolvedView
from headwater.planning.value_checks import left_out
from headwater.planning.watermark import Watermark

ATTEMPTS = 10
_STEPPED_OVER = (
    "its rows are left out and the watermark stays where it is, until the file is restored or given up: headwater "
    "verify says how"
)


@dataclass(frozen=True)
class Bounds:
    """What a run was asked for, in microseconds.

    Attributes:
        start: the user's own start; None: from the watermark.
        end: the user's own end, at most now; None: now.
        force: make each selected key equal to history now.
    """

    start: int | None = None
    end: int | None = None
    force: bool = False


@dataclass
class Run:
    """One run of one view version.

    Attributes:
        context: the store's parts and settings.
        view: the version, whole.
        bounds: what was asked for.
        keys: only these (columns named like the join keys); None: all.
        reached: how far it read, once it has run.
    """

    context: StoreContext
    view: ResolvedView
    bounds: Bounds
    keys: pa.Table | None = None
    reached: Watermark | None = None
    _counts: ChangeCounts = field(default_factory=ChangeCounts)
    _warnings: list[str] = field(default_factory=list)
    _keys: int = 0
    _applied: int = 0
    _superseded: int = 0
    _deleted: int = 0
    _forced: Forced = field(default_factory=Forced)
    _too_large: TooLarge = field(default_factory=TooLarge)
    _files: RunFiles | None = None
    _log: LogSlice | None = None
    _void: bool = False
    _skipped_columns: tuple[str, ...] = ()

    def run(self, peer: Watermark | None = None) -> RunReport:
        """Run it; begun again, once, where the online store lost rows meanwhile.

        Args:
            peer: how far the run of another version of the view has just read: this one reads as far, no further.

        Raises:
            SourceError: the source is missing or does not fit the view.
            ClockError: the log's clock is far ahead of now.
            LogRestored: the registry was restored since it was claimed.
            StoreError: a store failed; what was put stays, the watermark was not moved, and the next run goes on.
        """
        began = time.monotonic()
        for attempt in (1, 2):
            self._begin()
            try:
                with RunLease(self.context, f"{self.view.name}@{self.view.version}", self._shared()) as lease:
                    reached = self._attempt(lease, peer, began)
            except (SourceError, StoreError):
                # a file of the log may be at fault: then it is noted as damaged, and stepped over
                if attempt == 2 or self._log is None or self._log.examine is None or self._log.examine() is None:
                    raise
                continue
            if reached is not None:
                return self._report(time.monotonic() - began, reached)
            if attempt == 1:
                self._warnings.append("the online store lost rows, or was replaced, during the run: it was restarted")
        raise Unavailable(
            f"materialize {self.view.name}@{self.view.version}: the online store lost rows, or was replaced, twice "
            "while it was filled; check it, then run materialize again"
        )

    def _shared(self) -> SharedLease | None:
        """The lease of the engine's processes; None where this process puts all rows."""
        return SharedLease(self.context, self.view) if puts_elsewhere(self.context) else None

    def _begin(self) -> None:
        self._counts, self._keys, self._applied, self._superseded, self._deleted = ChangeCounts(), 0, 0, 0, 0
        self._too_large = TooLarge()
        self._forced, self._files = Forced(too_large=self._too_large), None

    def _attempt(self, lease: RunLease, peer: Watermark | None, began: float) -> Watermark | None:
        """How far the version is materialized afterwards; None where the store's epoch is another by now."""
        context, rows = self.context, RowEncoder(self.context.project, self.view)
        epoch = context.online.epoch(token_key(context.project))
        # behind the epoch: a log that takes the store over from here on renews it
        context.claims.check_owner()
        stored = self._stored()
        token = self._token()
        end, log, now = self._extent(peer)
        since = self._since(stored, now)
        self.reached = Watermark(end, log.position)
        self._hide_again(rows, log, since, lease)
        files = self._files = RunFiles.of(context, self.view, since, token, by_time=self.bounds.start is not None)
        try:
            if self._whole:
                self._skip(log, 0)
                self._make_equal(log, lease, token)
                files.forced()
            else:
                request = self._request(rows, log, since, end)
                self._skip(log, request.since.position)
                self._put_source(rows, request, log, lease, files, token)
        except Stopped:
            if context.online.put_meta({}, epoch=(token_key(context.project), epoch)):
                raise
            return None
        files.add(self._counts)
        return self._finish(epoch, token, stored, log, lease, began)

    def _skip(self, log: LogSlice, position: int) -> None:
        """Count the rows of the log that lack the version's columns."""
        skipped = skipped_rows(self.view, log, position)
        self._counts.skipped += skipped
        self._skipped_columns = skipped_columns(self.view, log, position) if skipped else ()

    def _make_equal(self, log: LogSlice, lease: RunLease, token: bytes) -> None:
        """Make the keys asked for equal to history."""
        sink = self._sink(lease, token, log)
        if sink is None:
            make_equal(self.context, self.view, log, lease, self._forced, keys=self.keys, counts=self._counts)
        else:
            make_equal_elsewhere(
                self.context, self.view, sink, lease, self._forced, keys=self.keys, counts=self._counts
            )
        self._applied, self._keys = self._forced.put, self._forced.keys

    def _sink(self, lease: RunLease, token: bytes, log: LogSlice) -> OnlineSink | None:
        """What the engine's processes put rows by; None where this process puts all."""
        shared = lease.shared
        return None if shared is None else sink_of(self.context, self.view, shared, token, log.position)

    def _put_source(
        self,
        rows: RowEncoder,
        request: ChangesRequest,
        log: LogSlice,
        lease: RunLease,
        files: RunFiles,
        token: bytes,
    ) -> None:
        """Put what history has of a request; files that change, or go, while they are read are read again."""
        following: ChangesRequest | None = files.request(request)
        while following is not None:
            try:
                self._put_changes(rows, following, log, lease, token)
            except SourceError:
                following = files.retry(request)
                if following is None:
                    raise
            else:
                following = files.again(request)

    def _put_changes(
        self, rows: RowEncoder, request: ChangesRequest, log: LogSlice, lease: RunLease, token: bytes
    ) -> None:
        """Put what history has of a request; ties of source rows are settled by what the source says now."""
        step = f"materialize {self.view.name}@{self.view.version}"
        ties = Ties(self.context, self.view, log)
        sink = self._sink(lease, token, log)
        if sink is None:
            self._put_here(rows, request, log, lease, ties, step)
            changed = ties.settle(rows, lease)
        else:
            self._put_elsewhere(request, sink, ties, step)
            changed = settle_elsewhere(self.context, rows, ties, sink, lease)
        self._applied += changed
        self._superseded += ties.count - changed
        self._counts.ties += ties.undecided
        self.context.observer(Progress(step, self._counts.rows, finished=True))

    def _put_elsewhere(self, request: ChangesRequest, sink: OnlineSink, ties: Ties, step: str) -> None:
        """Let the engine's processes put the rows.

        Raises:
            Stopped: they put no more.
        """
        for part in self.context.engine.put_changes(request, self._counts, sink):
            self._keys += part.keys
            self._applied += part.applied
            self._superseded += part.superseded
            self._too_large.note(part.too_large)
            if (tied := part.tied) is not None:
                ties.note(tied)
            self.context.observer(Progress(step, self._keys, unit="keys"))
            if part.stopped:
                raise Stopped(f"{step}: {part.stopped}; the watermark was not moved: run it again")

    def _put_here(
        self, rows: RowEncoder, request: ChangesRequest, log: LogSlice, lease: RunLease, ties: Ties, step: str
    ) -> None:
        """Put the rows from this process."""
        for batch in self.context.engine.changes(request, self._counts):
            pairs = rows.encode(batch)
            outcomes = put_rows(self.context, self.view, pairs, until=lease.until(), position=log.position)
            ties.add(rows, batch, outcomes)
            self._too_large.add(self.context.online, rows, pairs, outcomes)
            applied = outcomes.count(PutOutcome.APPLIED)
            self._keys += len(pairs)
            self._applied += applied
            self._superseded += outcomes.count(PutOutcome.SUPERSEDED)
            self.context.observer(Progress(step, self._keys, unit="keys"))

    def _extent(self, peer: Watermark | None) -> tuple[int, LogSlice, int]:
        """Up to when, and the log up to where; as far as another version's run, but where a purge came in between."""
        start = self.context.log.begin_run()
        # under this run's lease no purge is worked off; one between the two runs may have been
        if peer is not None and not self.context.log.purges_after(self.view.name, peer.position, None):
            return peer.end, self._slice(peer.position), start.now
        end = start.now if self.bounds.end is None else min(self.bounds.end, start.now)
        return end, self._slice(), start.now

    def _slice(self, until: int | None = None) -> LogSlice:
        """The view's part of the log; damaged files are stepped over, where no row is removed for what they hold."""
        log = self._log = self.context.log.slice(self.view.name, self.view.log_keys, until, step_over=not self._whole)
        lost = [*lost_files(log), *(f"{text}; {_STEPPED_OVER}" for text in log.unreadable)]
        self._warnings += [text for text in lost if text not in self._warnings]
        return log

    @property
    def _whole(self) -> bool:
        """A source with neither time has no changes to follow: it is taken whole, and what it lacks is removed."""
        source = self.view.view.source
        timeless = source.event_time is None and source.created_time is None
        return self.bounds.force or (timeless and self.bounds.start is None and self.bounds.end is None)

    def _stored(self) -> Watermark | None:
        pair = (self.view.name, self.view.version)
        return read_watermarks(self.context.online, self.context.project, [pair])[pair]

    def _token(self) -> bytes:
        (token,) = self.context.online.multi_get([token_key(self.context.project)])
        return token or b""

    def _since(self, stored: Watermark | None, now: int) -> Watermark:
        """The watermark that the run goes on from; none where it does not count."""
        self._void = True
        if stored is None or self.context.forcing.pending(self.view.name, self.view.version):
            return Watermark()
        if stored.end > now + duration_micros(self.context.settings.tolerance):
            self._warnings.append(
                f"the watermark, {from_micros(stored.end).isoformat()}, is later than the offline log's clock: it is "
                "ignored, and the version is filled from the beginning"
            )
            return Watermark()
        self._void = False
        return stored

    def _request(self, rows: RowEncoder, log: LogSlice, since: Watermark, end: int) -> ChangesRequest:
        if self.view.view.source.valid_to is not None:
            # the end of a row changes in place, or with the next row of its key
            return whole_history(self.context, rows, log, end, self.keys)
        after = since.end if since.end == MIN_MICROS else since.end - duration_micros(self.context.settings.lookback)
        if self.bounds.start is not None:
            # the window alone: no row of the log counts for its position
            after = self.bounds.start - 1
            since = Watermark(after, log.position)
        view = with_log(self.context, self.view, log, self.keys)
        return ChangesRequest(view, end, after, since, log.position, self.keys)

    def _hide_again(self, rows: RowEncoder, log: LogSlice, since: Watermark, lease: RunLease) -> None:
        """Put deletes since the watermark again, and every purge that is not erased yet, before any row.

        A crash may have left them out, or another store; a row that a delete does not hide would be superseded by one
        that it does.
        """
        keys = self.context.log.deletes_after(self.view.name, self.view.log_keys, since.position, log.position)
        if keys is not None:
            marks = zip(keys.column(POSITION).to_pylist(), keys.column(THROUGH).to_pylist(), strict=True)
            names = list(rows.names)
            self._deleted += hide_rows(self.context, self.view, keys.select(names), list(marks), lease.until)
        unreadable = self.context.log.unreadable_deletes(self.view.name, since.position, log.position)
        if unreadable:
            self._warnings.append(f"{len(unreadable):,} deletes whose keys cannot be read are applied by their digests")
            self._deleted += hide_by_digest(self.context, self.view, unreadable, lease.until, self.keys)
        self._hide_purged(since.position, lease)

    def _hide_purged(self, position: int, lease: RunLease) -> None:
        log = self.context.log
        purges = {**log.purges_after(self.view.name, position, None), **log.open_purges(self.view.name)}
        if purges:
            self._deleted += hide_purged(self.context, self.view, purges, lease.until, self.keys)

    def _finish(
        self,
        epoch: bytes,
        token: bytes,
        stored: Watermark | None,
        log: LogSlice,
        lease: RunLease,
        began: float,
    ) -> Watermark | None:
        """Move the watermark, forward only and both parts together, once the rows are there and the epoch is the same.

        Returns:
            How far the version is materialized now; None where the epoch is another.
        """
        context, (name, version) = self.context, (self.view.name, self.view.version)
        self._hide_purged(log.position, lease)
        lease.check()
        assert self.reached is not None
        reached = replace(self.reached, token=token)
        where = (token_key(context.project), epoch)
        # looked at again: another run may have moved it meanwhile
        now = self._stored()
        keeps = (
            self.bounds.start is not None
            or self.keys is not None
            or bool(log.unreadable)
            or not self._is_ahead(reached, now, stored)
        )
        if keeps:
            same = context.online.put_meta({}, epoch=where)
            return (now or Watermark()) if same else None
        if self._files is not None:
            number = max(stored.files if stored else 0, now.files if now else 0)
            reached = replace(reached, files=self._files.record(number))
        key = watermark_key(context.project, name, version)
        for _ in range(ATTEMPTS):
            (data,) = context.online.multi_get([key])
            now = self._stored()
            if not self._is_ahead(reached, now, stored):
                return now or Watermark()
            entry = watermark_entry(context.project, name, version, reached)
            greatest = (greatest_key(context.project), reached.position)
            if context.online.put_meta(entry, expected={key: data}, epoch=where, high_water=greatest):
                break
            if not context.online.put_meta({}, epoch=where):
                return None
        else:
            raise Unavailable(f"{name}@{version}: other runs moved the watermark {ATTEMPTS} times; run it again")
        # what a force run that died has left is filled by now
        context.forcing.clear(name, version, lease.began)
        took = timedelta(seconds=time.monotonic() - began)
        context.registry.record_watermarks(
            {(name, version): reached}, now=context.clock(), rows=self._counts.rows, took=took
        )
        return reached

    def _is_ahead(self, reached: Watermark, now: Watermark | None, stored: Watermark | None) -> bool:
        """Whether this run's end is beyond what is stored by now; a watermark that did not count is replaced."""
        if now is None or (self._void and now == stored):
            return True
        if self.bounds.end is not None:
            return reached.end > now.end
        # on a clock that stands still a run can reach later positions of the log at the same end
        return reached.reaches(now) and (
            (reached.end, reached.position) != (now.end, now.position) or now.token != reached.token or self._new_files
        )

    @property
    def _new_files(self) -> bool:
        return self._files is not None and bool(self._files.changes.whole or self._files.missing)

    @property
    def fills(self) -> bool:
        """Whether it is a run of all keys up to now."""
        return self.bounds.start is None and self.bounds.end is None and self.keys is None

    def failed(self, seconds: float, error: str) -> RunReport:
        """What the run did until it failed."""
        return replace(self._report(seconds, Watermark()), error=error)

    def _report(self, seconds: float, reached: Watermark) -> RunReport:
        about = f"{self.view.name}@{self.view.version}"
        unreadable = [f"{about}: {left_out(self._counts.unreadable)}"] if self._counts.unreadable else []
        lacking = [
            f"{about}: column {name!r} is missing in {files}: NULL in their rows"
            for name, files in self._counts.lacking.items()
        ]
        files = self._files
        return RunReport(
            view=self.view.name,
            version=self.view.version,
            rows=self._counts.rows,
            keys=self._keys,
            applied=self._applied,
            superseded=self._superseded,
            removed=self._forced.removed,
            future=self._counts.future,
            null_keys=self._counts.null_keys,
            null_times=self._counts.null_times,
            ties=self._counts.ties,
            skipped=self._counts.skipped,
            skipped_columns=self._skipped_columns,
            too_large=self._too_large.count,
            warnings=(
                *lacking,
                *unreadable,
                *self._too_large.warnings(),
                *(f"{about}: {text}" for text in self._warnings),
                *(files.warnings() if files else ()),
            ),
            rewritten_files=files.rewritten if files else (),
            missing_files=files.missing if files else (),
            deleted=self._deleted,
            seconds=seconds,
            watermark=None if reached.end == MIN_MICROS else from_micros(reached.end),
        )
