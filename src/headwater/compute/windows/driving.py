"""Drives the work on window rows: what of a store, its log or a source answers each of its `requests`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from headwater.clock import duration_micros
from headwater.compute.context import StoreContext
from headwater.compute.windows import requests as asks
from headwater.compute.windows.history import WindowHistory
from headwater.compute.windows.putting import AT_ONCE
from headwater.compute.windows.statements import Statements
from headwater.compute.windows.stored_rows import decoded_rows
from headwater.compute.windows.work import Answers, Work, drive
from headwater.deferred import deferred
from headwater.forks import lazy
from headwater.online.base import Change
from headwater.online.meta import (
    fill_record_key,
    greatest_key,
    number_of,
    token_key,
    watermark_entry,
    window_run_key,
)
from headwater.online.powers import Movable, Parted
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import encode_row
from headwater.online.rows.windows.parts import part_record
from headwater.online.rows.windows.record import FillRecord, decode_record, encode_record
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark

if TYPE_CHECKING:
    from headwater.compute.windows import log_slices
    from headwater.compute.windows.log_slices import LogSlices
else:
    # what a process that only writes never needs
    log_slices = deferred("headwater.compute.windows.log_slices")

T = TypeVar("T")

Until = int | Callable[[], int]
"""The instant (microseconds) after which nothing must apply, or what gives it for each call of the store."""


def record_of(data: bytes | None) -> FillRecord | None:
    """A stored fill record; None where there is none, or nothing that can be read.

    Raises:
        FormatError: a newer headwater wrote it.
    """
    try:
        return None if data is None else decode_record(data)
    except Damaged:
        return None


class Driver:
    """Answers the requests of work on the rows of one window version.

    Args:
        context: the store's parts and settings.
        view: the version, whole.
        until: see `Until`.
        history: what the version's log and source have; None: the work is a writer's, which asks for the log alone.

    Attributes:
        version: what the work takes.
        statements: its rows as statements.
        number: of the run, once it has taken the lease.
        put: how many rows were replaced.
        elsewhere: lets the engine's processes put the rows of a fill: how many they put, and what they left; None where
            they cannot.
        peer: how far another version of the view has just been brought: this one's watermark says no more.
    """

    def __init__(
        self, context: StoreContext, view: ResolvedView, until: Until, history: WindowHistory | None = None
    ) -> None:
        assert view.windows is not None
        self.context = context
        self.view = view
        self.history = history if history is not None else WindowHistory(context, view)
        self.statements: Statements = self.history.statements
        self.version = asks.Version(view.windows, duration_micros(context.settings.tolerance))
        self.number = 0
        self._until = until
        self._token = token_key(context.project)
        self._record = fill_record_key(context.project, view.name, view.version)
        self._run = window_run_key(context.project, view.name, view.version)
        self._stored: bytes | None = None
        self.put = 0
        self.peer: Watermark | None = None
        self.elsewhere: Callable[[Driver, asks.FillElsewhere], tuple[int, set[bytes]] | None] | None = None

    def do(self, work: Work[T]) -> T:
        """Drive work to its end; what it comes to."""
        return drive(work, ANSWERS, self)

    @lazy
    def slices(self) -> LogSlices:
        """What folds take of the log."""
        return log_slices.LogSlices(self.history, self.context.engine.budget, self.version.tolerance)

    def _fill_elsewhere(self, request: asks.FillElsewhere) -> set[bytes] | None:
        # what has moved between parts of the store is refused there, and left to the run
        filled = None if self.elsewhere is None else self.elsewhere(self, request)
        if filled is None:
            return None
        put, left = filled
        self.put += put
        return left

    def _end(self) -> asks.End:
        start = self.context.log.begin_run()
        return asks.End(start.position, start.now)

    def _listed(self, request: asks.ListSource) -> asks.Listed:
        end = self._end()
        return asks.Listed(end, self.history.look(end.clock, request.since))

    # the online store

    def _read(self, request: asks.ReadRows) -> asks.Snapshot:
        online, keys = self.context.online, request.keys
        # read before the record and the rows: what came between is found by the compare
        epoch = online.epoch(self._token) if request.epoch else None
        self._stored, *rows = online.multi_get([self._record, *keys])
        decoded = decoded_rows(self.statements, keys, rows)
        if isinstance(self._stored, Parted):
            entry = self._stored
            return asks.Snapshot(epoch, None, decoded, {key: part_record(entry, key) for key in keys})
        return asks.Snapshot(epoch, record_of(self._stored), decoded)

    def _narrowed(self, request: asks.NarrowEpoch) -> tuple[bytes, set[bytes]] | None:
        online, within = self.context.online, (self._token, request.epoch)
        if not online.put_meta({}, epoch=within):
            return None
        return online.narrowed(request.keys, within) if isinstance(online, Movable) else (request.epoch, set())

    def _swap(self, request: asks.SwapRows) -> list[bool]:
        swaps = request.swaps
        done = [False] * len(swaps)
        layout, long = self.version.layout, self.statements.long
        calls = []
        for within in {swap.epoch for swap in swaps}:
            some = [i for i, swap in enumerate(swaps) if swap.epoch == within]
            calls += [(within, some[start : start + AT_ONCE]) for start in range(0, len(some), AT_ONCE)]
        for within, mine in calls:
            # few at once: `until` is asked for again, and few encoded rows are held
            those = [swaps[i] for i in mine]
            changes: list[Change] = [
                (each.key, each.sequence, encode_row(layout, each.row, key=long.get(each.key))) for each in those
            ]
            greatest = max(_greatest(each.row) for each in those)
            swapped = self.context.online.compare_and_put_all(
                changes,
                until=self._until if isinstance(self._until, int) else self._until(),
                high_water=(greatest_key(self.context.project), greatest),
                epoch=None if within is None else (self._token, within),
            )
            for i, each in zip(mine, swapped, strict=True):
                done[i] = each
        self.put += sum(done)
        return done

    def _write_record(self, request: asks.WriteRecord) -> asks.Written:
        online, where = self.context.online, (self._token, request.epoch)
        expected = self._stored if record_of(self._stored) == request.expected else _encoded(request.expected)
        record = self.history.closed(request.record)
        entries: dict[bytes, bytes | None] = {self._record: encode_record(record)}
        if record.fill:
            (token,) = online.multi_get([self._token])
            source = record.source_through
            end, low = source.known_at, record.low
            if self.peer is not None:
                end, low = min(end, self.peer.end), min(low, self.peer.position)
            reached = Watermark(end, low, token or b"", source.listed)
            entries |= watermark_entry(self.context.project, self.view.name, self.view.version, reached)
        written = online.put_meta(
            entries,
            expected={self._record: expected},
            epoch=where,
            high_water=(greatest_key(self.context.project), record.low),
        )
        if written:
            return asks.Written.DONE
        return asks.Written.CHANGED if online.put_meta({}, epoch=where) else asks.Written.EPOCH

    def _take_lease(self) -> int:
        # behind the epoch that a run reads next: a log that takes the store over from here on renews it
        self.context.claims.check_owner()
        self.number = self.context.log.take_number()
        self.context.online.put_meta({}, high_water=(self._run, self.number))
        return self.number

    def _holds_lease(self, request: asks.HoldsLease) -> bool:
        return number_of(self.context.online.multi_get([self._run])[0]) <= request.number


def _encoded(record: FillRecord | None) -> bytes | None:
    return None if record is None else encode_record(record)


def _greatest(row: WindowRow) -> int:
    """The greatest log position that a row has."""
    return max(row.applied_through, row.delete_position, *row.listed)


def fill_records(
    context: StoreContext, versions: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], FillRecord | None]:
    """The fill records of (view, version) pairs; None where the store has none."""
    stored = context.online.multi_get([fill_record_key(context.project, *pair) for pair in versions])
    return {pair: record_of(data) for pair, data in zip(versions, stored, strict=True)}


ANSWERS: Answers = {
    asks.ReadRows: Driver._read,
    asks.SwapRows: Driver._swap,
    asks.WriteRecord: Driver._write_record,
    asks.NarrowEpoch: Driver._narrowed,
    asks.LogEnd: lambda driver, _: driver._end(),
    asks.BatchesOf: lambda driver, r: driver.history.batches(r.keys, r.after, r.through),
    asks.SliceEnds: lambda driver, r: driver.slices.ends(r),
    asks.DueBatches: lambda driver, r: driver.slices.due(r),
    asks.KeysFarBehind: lambda driver, r: driver.slices.behind(r),
    asks.NextNumber: lambda driver, _: driver.context.log.take_number(),
    asks.LastRestore: lambda driver, _: driver.context.log.restored_at(),
    asks.ListSource: Driver._listed,
    asks.NewSourceKeys: lambda driver, r: driver.history.new_keys(r.since),
    asks.NamedKeys: lambda driver, r: driver.history.named(r.source, r.through),
    asks.PartsOf: lambda driver, r: driver.history.parts(r.keys, r.source, r.through),
    asks.RebuiltRows: lambda driver, r: driver.history.rebuilt(driver.version, r),
    asks.FillElsewhere: Driver._fill_elsewhere,
    asks.TakeLease: lambda driver, _: driver._take_lease(),
    asks.HoldsLease: Driver._holds_lease,
}
"""What answers each request: it is given the driver and the request."""
