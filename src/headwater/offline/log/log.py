"""The offline log: every row given to `write`, in one order, with the tombstones of what was deleted or purged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.errors import StoreError
from headwater.offline.base import LogSlice
from headwater.offline.log.additions import Check
from headwater.offline.log.cleaning import remove_pending
from headwater.offline.log.deleted_keys import KeyNames
from headwater.offline.log.deleting import LogDeletes
from headwater.offline.log.files import compact, hold_folder, leftovers
from headwater.offline.log.left_out import all_left_out
from headwater.offline.log.parts import described, file_parts, table_part, unreadable_error
from headwater.offline.log.repair import ClockRepair, repair
from headwater.offline.log.requests import Recorded, Request, answer, check_new, in_progress, take_over
from headwater.offline.log.state import (
    LogTransaction,
)
from headwater.offline.log.tables import (
    head,
    overwrite_removed,
    rows_after,
    rows_by_shape,
    view_of,
)
from headwater.offline.log.tombstones import (
    all_purges,
    purged_rows,
)
from headwater.offline.log.write_buffer import between, insert_rows, stamped
from headwater.planning.row_reading import RowReading

HEAD_ROWS = 50_000
"""How many rows the write buffer may hold before it is compacted into files."""


@dataclass(frozen=True)
class RowBatch:
    """Rows of one write that share a set of columns, and the versions that take them.

    Attributes:
        table: the rows, in the types the log keeps; of rows that the log took with `__position` and `__arrival`.
        rows: the index of each among all the rows of the write; ascending.
        versions: the indices of the versions that take them, among those that the write was checked for.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    versions: tuple[int, ...] = ()

    def only(self, keep: NDArray[np.bool_]) -> RowBatch:
        """Some of the rows."""
        return replace(self, table=self.table.filter(pa.array(keep)), rows=self.rows[keep])


def _order(groups: Sequence[RowBatch]) -> NDArray[np.int64]:
    """The rows of all groups: positions follow the order in which the user gave them, whatever their columns."""
    return np.sort(np.concatenate([group.rows for group in groups])) if groups else np.array([], np.int64)


def _positions(group: RowBatch, order: NDArray[np.int64], after: int) -> NDArray[np.int64]:
    return after + 1 + np.searchsorted(order, group.rows).astype(np.int64)


def _places(order: NDArray[np.int64]) -> bytes:
    return sha256(order.astype("<i8").tobytes()).digest()


class OfflineLog(LogDeletes):
    """The offline log of one registry.

    Its write buffer is a table of the registry's database, one row a batch; what is compacted is in Parquet files. A
    position is given within the transaction that adds the row, and one transaction runs at a time, so that no position
    becomes visible before a smaller one.

    One clock stamps arrivals, deletes and runs, and never goes back: it says the latest of now, the last arrival, the
    last D + 1 µs and the last `now` of a run. Where it is ahead of now a `UserWarning` says so, once until it is right
    again; by more than an hour writes, deletes and runs raise `ClockError`.

    Whatever writes first compares the log with what this process saw of it last. Where positions are gone, the database
    was restored from an older copy: what this process holds in memory is dropped, `generation` changes, and the call
    raises `LogRestored` and changes nothing, so that the caller claims the log again.

    Args:
        engine: of the registry's database; the caller disposes of it.
        folder: of the compacted files; None: everything stays in the write buffer.
        clock: stamps arrivals, where the database is this host's own.
        tolerance: how far the log's clock may be ahead of now before anybody is warned.

    Raises:
        FormatError: a newer headwater wrote the log.
    """

    def rows_after(self, view: str, position: int) -> int:
        """How many rows of a view have later positions."""
        with self._reading() as (connection, _, _):
            return rows_after(connection, view, position)

    def rows_by_schema(self, view: str) -> list[tuple[pa.Schema | None, int]]:
        """How many rows a view has of each set of columns; None: it cannot be read. No row is looked at."""
        with self._reading() as (connection, _, known):
            return [
                (known.shapes.schema_or_none(connection, shape), rows)
                for shape, rows in rows_by_shape(connection, view).items()
            ]

    def append(
        self,
        view: str,
        groups: Sequence[RowBatch],
        readings: Iterable[RowReading] = (),
        check: Check | None = None,
        request: Request | None = None,
        *,
        apart: bool = False,
    ) -> list[RowBatch]:
        """Add the rows of one write.

        Args:
            view: the view.
            groups: its rows, by their columns.
            readings: how the view's versions find keys and times, to leave out what was purged.
            check: called within the transaction before anything is stored.
            request: that the rows are of, which is done once.
            apart: let no later rows have the same arrival, so that it tells which rows came together.

        Returns:
            The batches with the rows that were kept; a purge hides the others.

        Raises:
            StorageFull, StoreReadOnly, Unavailable: nothing was added.
            ClockError: the log's clock is more than an hour ahead of now; nothing was added.
            Repeated, RequestInProgress, IdempotencyKeyReused: of the request; nothing was added.
        """
        with self._writing() as log:
            added = self._begin(log, view, check, request)
            arrival = added.now
            log.clock = arrival + apart
            order = _order(groups)
            after = added.take(len(order), b"" if request is None else _places(order))
            if added.purges:
                mine = list(readings)
                groups = [self._without_purged(log, view, g, arrival, mine, added.purges) for g in groups]
            appended = self._insert(log, view, groups, order, after, arrival)
            buffered = log.state.buffered + log.buffered
        if buffered > HEAD_ROWS:
            # the rows are safe in the write buffer; a folder that takes no files is reported by the next materialize
            with suppress(StoreError):
                self.roll()
        return appended

    def _without_purged(
        self, log: LogTransaction, view: str, group: RowBatch, arrival: int, readings: list[RowReading], purged: int
    ) -> RowBatch:
        gone = purged_rows(log.connection, view, group.table, arrival, readings, self.digests, purged)
        return group.only(~gone) if gone.any() else group

    def _insert(
        self,
        log: LogTransaction,
        view: str,
        groups: Sequence[RowBatch],
        order: NDArray[np.int64],
        after: int,
        arrival: int,
    ) -> list[RowBatch]:
        appended = []
        for group in groups:
            positions = _positions(group, order, after)
            if len(positions):
                shape = log.known.shapes.number(log.connection, view, group.table.schema)
                insert_rows(log.connection, view, shape, group.table, positions, arrival)
                log.buffered += len(positions)
            appended.append(replace(group, table=stamped(group.table, positions, arrival)))
        return appended

    @staticmethod
    def appended_before(groups: Sequence[RowBatch], recorded: Recorded) -> list[RowBatch]:
        """The batches as `append` gave them to the request that is repeated; none where they are not its rows."""
        order = _order(groups)
        if _places(order) != recorded.places:
            return []
        return [
            replace(g, table=stamped(g.table, _positions(g, order, recorded.after), recorded.arrival)) for g in groups
        ]

    def take_over(self, request: Request, seen: Recorded) -> None:
        """Go on with a request where whoever did it before stopped.

        Raises:
            RequestInProgress: somebody else has.
        """
        with self._writing() as log:
            if not take_over(log.connection, request, seen, log.state.now):
                raise in_progress()

    def check_request(self, request: Request) -> None:
        """Check a request that adds nothing.

        Raises:
            IdempotencyKeyReused, RequestInProgress, Repeated: its key stands for another one, or it was done before.
        """
        with self._writing() as log:
            check_new(log.connection, request, log.state.now)

    def answer(self, request: Request, text: str | None) -> None:
        """Note a request's report, as JSON; None: it failed after its rows were added."""
        with self._writing() as log:
            answer(log.connection, request, text)

    def repair_clock(self, readings: Mapping[str, Sequence[RowReading]] | None = None) -> ClockRepair:
        """Take now for right where the log's clock is ahead of it.

        Arrivals and Ds that are ahead become now + 1 µs, + 2 µs, … in their order, so that a D stays before what was
        written after it.

        Args:
            readings: view → how its versions, retired ones too, find keys in a row; of other views no keys of rows are
                reported.
        """
        with self._writing() as log:
            if self._folder is not None:
                hold_folder(log.connection, self._folder)
            return repair(log, self._folder, readings or {})

    def slice(self, view: str, keys: KeyNames, until: int | None = None, *, step_over: bool = False) -> LogSlice:
        """A view's part of the log, fixed.

        Args:
            view: the view.
            keys: its join keys, by name, or by name and the log's type of each: deletes of other keys are left out.
            until: only up to this position; None: all there is.
            step_over: leave out files that are missing or damaged, and say so in `unreadable`.

        Raises:
            LogDamaged: a compacted file is missing or damaged.
        """
        with self._reading() as (connection, state, known):
            until = None if until is None or until >= state.position else until
            compacted, epoch, purged = view_of(connection, view)
            parts, unreadable = file_parts(connection, self._folder, known.shapes, view, until)
            if unreadable and not step_over:
                raise unreadable_error(view, unreadable)
            names = tuple(file.name for part in parts for file in part.files)
            buffered = known.write_buffer.read(connection, view, compacted, epoch).values()
            cut = [table if until is None else between(table, 0, until) for table in buffered]
            parts += [table_part(table) for table in cut if table.num_rows]
            position = state.position if until is None else until
            deletes, unreadable_ones = known.tombstones.read(connection, view, keys, epoch, position)
            purged_ones = all_purges(connection, view, until) if purged else {}
            left_out = (*all_left_out(connection, view, until), *known.write_buffer.left_out(view, compacted, until))
            return LogSlice(
                parts=tuple(parts),
                deletes=deletes,
                purges={**purged_ones, **{d: (*purged_ones.get(d, ()), *some) for d, some in unreadable_ones.items()}},
                position=position,
                digests=self.digests.all,
                left_out=left_out,
                unreadable=tuple(f"{bad.reason}; {described(bad.file)}" for bad in unreadable),
                examine=partial(self.examine, view, names) if names else None,
            )

    def roll(self, names: Sequence[str] | None = None) -> None:
        """Compact the write buffer of some views (None: all) into Parquet files; nothing to do without a folder."""
        if self._folder is None:
            return
        remove_pending(self._engine, self._folder)
        with self._reading() as (connection, _, _):
            query = sa.select(head.c.first).limit(1)
            if names is not None:
                query = query.where(head.c.view.in_(names))
            buffered = connection.execute(query).one_or_none() is not None
            if not buffered and not leftovers(connection, self._folder):
                return
        with self._writing() as log:
            hold_folder(log.connection, self._folder)
            overwrite_removed(log.connection)
            compact(log.connection, self._folder, log.known.shapes, names, log.state.position, log.state.clock)
        remove_pending(self._engine, self._folder)
