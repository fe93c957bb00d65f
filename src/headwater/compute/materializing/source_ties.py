"""Ties of a run: source rows of the same key and times as the stored one; what the source says now decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.compute.context import StoreContext
from headwater.compute.inputs import with_log
from headwater.compute.materializing.lease import RunLease
from headwater.compute.materializing.sink import tied_rows
from headwater.compute.writing.swap import swap_all
from headwater.offline.base import ChangeCounts, ChangesRequest, LogSlice
from headwater.online.base import Change, PutOutcome
from headwater.online.meta import greatest_key
from headwater.online.rows.codec import (
    HEADER_SIZE,
    ORDER,
    SEQUENCE,
    current,
    header,
    is_row,
    replaced,
    sequence_of,
    without_tombstone,
)
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolved import ResolvedView
from headwater.planning.watermark import Watermark


class Ties:
    """The ties of one version's run.

    Args:
        context: the store's parts and settings.
        view: the version.
        log: its slice of the offline log.

    Attributes:
        count: how many there were.
        undecided: of how many of those settled last only the features decided.
    """

    def __init__(self, context: StoreContext, view: ResolvedView, log: LogSlice) -> None:
        self._context = context
        self._view = view
        self._log = log
        self._batches: list[pa.RecordBatch] = []
        self.count = self.undecided = 0

    def add(self, rows: RowEncoder, batch: pa.RecordBatch, outcomes: list[PutOutcome]) -> None:
        """Take note of a batch's ties.

        Args:
            rows: how the version's rows are packed.
            batch: as it was encoded.
            outcomes: of its rows with a key, in order.
        """
        tied = tied_rows(rows, batch, outcomes)
        if tied is not None:
            self.note(pa.Table.from_batches([tied]))

    def note(self, tied: pa.Table) -> None:
        """Take note of ties by their join keys and times."""
        self._batches += tied.to_batches()
        self.count += tied.num_rows

    @property
    def table(self) -> pa.Table:
        """Join keys and times of all of them."""
        return pa.Table.from_batches(self._batches) if self._batches else pa.table({})

    def settle(self, rows: RowEncoder, lease: RunLease) -> int:
        """Put history's choice among the source's rows of each key and time; how many rows were changed.

        The stored rows are read first, then the source, once for all of them; where a row was written meanwhile both
        are done again. The stored value has no vote: the source may have been corrected.
        """
        changed = 0
        left = self.table
        while left.num_rows:
            places = {key: i for i, key in enumerate(rows.stored_keys(left)) if key is not None}
            stored = dict(zip(places, self._context.online.multi_get(list(places)), strict=True))
            changes = list(self._changes(stored, self._chosen(rows, left)))
            done = swap_all(self._context.online, changes, lease.until, (greatest_key(self._context.project), 0))
            changed += sum(done)
            again = [places[key] for (key, _, _), swapped in zip(changes, done, strict=True) if not swapped]
            left = left.take(pa.array(again, pa.int64()))
        return changed

    def _changes(self, stored: Mapping[bytes, bytes | None], chosen: Mapping[bytes, bytes]) -> Iterator[Change]:
        """Of the rows that were stored, those of the same times whose values the source says otherwise."""
        for key, row in stored.items():
            new = chosen.get(key)
            if new is None or same_values(row, new) is not False:
                continue
            wanted = replaced(row, new)
            if self._context.online.capabilities.takes(key, wanted):
                yield key, sequence_of(row), wanted

    def _chosen(self, rows: RowEncoder, at: pa.Table) -> dict[bytes, bytes]:
        """Stored key → what history has of the source at these keys and times now."""
        found: dict[bytes, bytes] = {}
        counts = ChangeCounts()
        for batch in self._context.engine.changes(self.request(at), counts):
            found |= dict(rows.encode(batch))
        self.undecided = counts.ties
        return found

    def request(self, at: pa.Table) -> ChangesRequest:
        """Ask for what history has of the source at these keys and times."""
        view = with_log(self._context, self._view, self._log, at)
        return ChangesRequest(view, 2**63 - 1, MIN_MICROS, Watermark(), self._log.position, at=at)


def same_values(stored: bytes | None, new: bytes) -> bool | None:
    """Whether a stored row has the values of another one of its times; None where its times are others by now."""
    if stored is None or not is_row(stored):
        return None
    row = without_tombstone(current(stored))
    if row[ORDER] != new[ORDER]:
        return None
    return row[: SEQUENCE.start] == new[: SEQUENCE.start] and row[HEADER_SIZE:] == new[HEADER_SIZE:]


def is_source_row_of(stored: bytes | None, event: int, created: int) -> bool:
    """Whether what is stored is a row of the source with these times (microseconds)."""
    known = None if stored is None else header(stored)
    return known is not None and (known.event, known.created, known.origin, known.position) == (event, created, 0, 0)
