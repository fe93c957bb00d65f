"""One run of one view version: history's changes since the watermark, encoded and put, the watermark last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pyarrow as pa

from headwater.clock import MIN_MICROS, duration_micros, from_micros
from headwater.compute.delete import hide_rows
from headwater.compute.erase import hide_purged, through_of
from headwater.compute.force import Seen, remove_unknown, replace_newer
from headwater.compute.inputs import with_log
from headwater.compute.reports import RunReport
from headwater.compute.rooms import RUN, Rooms
from headwater.errors import Unavailable
from headwater.observer import Progress
from headwater.offline.base import THROUGH, ChangeCounts, ChangesRequest, LogSlice
from headwater.online.meta import read_watermarks, watermark_entry
from headwater.online.view_rows import ViewRows
from headwater.planning.resolve import ResolvedView
from headwater.planning.watermark import Watermark
from headwater.registry.leases import Lease

RENEW_AFTER = 60.0


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
        rooms: the store's parts.
        view: the version, whole.
        bounds: what was asked for.
        keys: only these (columns named like the join keys); None: all.
        reached: how far it read, once it has run.
    """

    rooms: Rooms
    view: ResolvedView
    bounds: Bounds
    keys: pa.Table | None = None
    reached: Watermark | None = None
    _counts: ChangeCounts = field(default_factory=ChangeCounts)
    _keys: int = 0
    _applied: int = 0
    _superseded: int = 0
    _renewed: float = 0.0

    def run(self, alike: Watermark | None = None) -> RunReport:
        """Do it.

        Args:
            alike: how far the run of another version of the view has just read: this one reads as far, no further.

        Raises:
            SourceError: the source is missing or does not fit the view.
            StoreError: a store failed; what was put stays, the watermark was not moved, and the next run goes on.
        """
        began = self._renewed = time.monotonic()
        about = f"{self.view.name}@{self.view.version}"
        with self.rooms.leases.held(RUN, about, lasts=self.rooms.lease_time) as lease:
            rows = ViewRows(self.rooms.project, self.view)
            since = self._since()
            end, log = self._extent(rows, alike)
            self.reached = Watermark(end, log.position)
            deleted = self._hide_again(rows, log, since)
            seen = Seen() if self._whole else None
            self._put(rows, self.rooms.engine.changes(self._request(log, since, end), self._counts), seen, log, lease)
            removed = 0 if seen is None else remove_unknown(self.rooms, rows, seen, self.keys, log.position)
            reached = self._finish(self.reached, log, began)
        return self._report(deleted, removed, time.monotonic() - began, reached)

    def _extent(self, rows: ViewRows, alike: Watermark | None) -> tuple[int, LogSlice]:
        """Up to when, and the log up to where; as far as another version's run, but where a purge came in between."""
        # under this run's lease no purge is worked off; one between the two runs may have been
        if alike is not None and not self.rooms.log.purges_after(self.view.name, alike.position, None):
            return alike.end, self.rooms.log.slice(self.view.name, rows.names, alike.position)
        end = self.rooms.now() if self.bounds.end is None else self.bounds.end
        return end, self.rooms.log.slice(self.view.name, rows.names)

    @property
    def _whole(self) -> bool:
        """A source with neither time has no changes to follow: it is taken whole, and what it lacks is removed."""
        source = self.view.view.source
        timeless = source.event_time is None and source.created_time is None
        return self.bounds.force or (timeless and self.bounds.start is None and self.bounds.end is None)

    def _since(self) -> Watermark:
        pair = (self.view.name, self.view.version)
        return read_watermarks(self.rooms.online, self.rooms.project, [pair])[pair] or Watermark()

    def _request(self, log: LogSlice, since: Watermark, end: int) -> ChangesRequest:
        after = since.end if since.end == MIN_MICROS else since.end - duration_micros(self.rooms.lookback)
        if self._whole:
            after, since = MIN_MICROS, Watermark()
        elif self.bounds.start is not None:
            # the window alone: no row of the log counts for its position
            after = self.bounds.start - 1
            since = Watermark(after, log.position)
        return ChangesRequest(with_log(self.rooms, self.view, log), end, after, since, log.position, self.keys)

    def _hide_again(self, rows: ViewRows, log: LogSlice, since: Watermark) -> int:
        """Put the marks since the watermark again: a crash may have left them out, or a restored folder lost them."""
        hidden = 0
        marks = self.rooms.log.deletes_after(self.view.name, rows.names, since.position, log.position)
        if marks is not None:
            through = marks.column(THROUGH).to_pylist()
            hidden += hide_rows(self.rooms, self.view, marks.select(list(rows.names)), through)
        purged = self.rooms.log.purges_after(self.view.name, since.position, log.position)
        return hidden + (hide_purged(self.rooms, self.view, through_of(purged)) if purged else 0)

    def _put(
        self, rows: ViewRows, batches: Iterator[pa.RecordBatch], seen: Seen | None, log: LogSlice, lease: Lease
    ) -> None:
        step = f"materialize {self.view.name}@{self.view.version}"
        for batch in batches:
            pairs = rows.encode(batch)
            placed = self.rooms.put_rows(self.view, pairs)
            kept_out = len(placed) - sum(placed)
            if seen is not None:
                seen.add(pairs)
                if kept_out:
                    missed = [pair for pair, put in zip(pairs, placed, strict=True) if not put]
                    kept_out -= replace_newer(self.rooms, missed, log.position)
            self._keys += len(pairs)
            self._superseded += kept_out
            self._applied += len(pairs) - kept_out
            self.rooms.observer(Progress(step, self._keys, unit="keys"))
            self._renew(lease)
        self.rooms.observer(Progress(step, self._counts.rows, finished=True))

    def _renew(self, lease: Lease) -> None:
        now = time.monotonic()
        if now - self._renewed > RENEW_AFTER:
            if not self.rooms.leases.renew(lease, lasts=self.rooms.lease_time):
                raise Unavailable(
                    f"materialize {lease.about}: held up for longer than {self.rooms.lease_time}; run it again"
                )
            self._renewed = now

    def _finish(self, reached: Watermark, log: LogSlice, began: float) -> Watermark:
        """Move the watermark, forward only and both parts together, once the rows are there."""
        late = self.rooms.log.purges_after(self.view.name, log.position, None)
        if late:
            hide_purged(self.rooms, self.view, through_of(late))
        # looked at again: another run may have moved it meanwhile
        since = self._since()
        # on a clock that stands still a run can reach later positions of the log at the same end
        ahead = reached.end > since.end if self.bounds.end is not None else reached.reaches(since) and reached != since
        if self.bounds.start is not None or self.keys is not None or not ahead:
            return since
        name, version = self.view.name, self.view.version
        self.rooms.online.put([], watermark_entry(self.rooms.project, name, version, reached))
        took = timedelta(seconds=time.monotonic() - began)
        self.rooms.registry.record_watermarks(
            {(name, version): reached}, now=self.rooms.clock(), rows=self._counts.rows, took=took
        )
        return reached

    def _report(self, deleted: int, removed: int, seconds: float, reached: Watermark) -> RunReport:
        return RunReport(
            view=self.view.name,
            version=self.view.version,
            rows=self._counts.rows,
            keys=self._keys,
            applied=self._applied,
            superseded=self._superseded,
            removed=removed,
            future=self._counts.future,
            null_keys=self._counts.null_keys,
            null_times=self._counts.null_times,
            skipped=self._counts.skipped,
            warnings=tuple(
                f"{self.view.name}@{self.view.version}: column {name!r} is missing in {files}: NULL in their rows"
                for name, files in self._counts.lacking.items()
            ),
            deleted=deleted,
            seconds=seconds,
            watermark=None if reached.end == MIN_MICROS else from_micros(reached.end),
        )
