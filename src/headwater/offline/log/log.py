"""The offline log: every row given to `write`, in one order, with the tombstones of what was deleted or purged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS
from headwater.errors import StoreError
from headwater.offline.base import LogSlice, Tombstone
from headwater.offline.log.checks import LogChecks
from headwater.offline.log.cleaning import empty_wal, overwrite_free_pages, remove_pending
from headwater.offline.log.deleted_keys import KeyNames, tombstones_after, unreadable_after
from headwater.offline.log.files import compact, hold_folder, leftovers, rewrite_aside, rewrite_files
from headwater.offline.log.left_out import all_left_out, drop_contents
from headwater.offline.log.parts import described, file_parts, table_part, unreadable_error
from headwater.offline.log.repair import ClockRepair, repair
from headwater.offline.log.requests import Recorded, Request, answer, check_new, in_progress, record, take_over
from headwater.offline.log.state import (
    LogTransaction,
    check_clock,
    checked_position,
)
from headwater.offline.log.tables import (
    deletes,
    head,
    overwrite_removed,
    purges,
    rewritten,
    rows_after,
    rows_by_shape,
    view_state,
    views,
)
from headwater.offline.log.tombstones import (
    all_purges,
    greatest,
    hidden_stamped,
    insert_deletes,
    insert_purges,
    lacking,
    mark_erased,
    purge_tombstones,
    purged_rows,
    tombstone_under,
)
from headwater.offline.log.write_buffer import between, insert_rows, rewrite_head, stamped
from headwater.planning.row_reading import RowReading

HEAD_ROWS = 50_000
"""How many rows the write buffer may hold before it is compacted into files."""
_VIEW = sa.select(views.c.rolled, views.c.epoch, views.c.purges).where(views.c.view == sa.bindparam("of_view"))

Check = Callable[[sa.Connection], None]
"""Looks at the registry within the log's own transaction; raises to undo it."""


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


@dataclass(frozen=True)
class Deleted:
    """The tombstones of a delete.

    Attributes:
        through: D of each key, microseconds.
        positions: P of each key: its tombstone's position in the log.
        arrival: the log's clock in its transaction, microseconds.
    """

    through: tuple[int, ...]
    positions: tuple[int, ...]
    arrival: int = MIN_MICROS

    @property
    def position(self) -> int:
        """The last position."""
        return self.positions[-1] if self.positions else 0


class OfflineLog(LogChecks):
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
            self._check_folder(log)
            if check is not None:
                check(log.connection)
            if request is not None:
                check_new(log.connection, request, log.state.now)
            state = view_state(log.connection, view)
            log.clock = arrival = self._stamp(log.state, _earliest(state))
            log.clock += apart
            order = _order(groups)
            after = log.take(len(order))
            if request is not None:
                done = Recorded(after, len(order), arrival, _places(order), 0, None)
                record(log.connection, request, view, done, log.state.now)
            if state.purges:
                mine = list(readings)
                groups = [self._without_purged(log, view, g, arrival, mine, state.purges) for g in groups]
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

    def delete(
        self,
        view: str,
        keys: pa.Table,
        known: Sequence[int],
        *,
        purge: bool = False,
        names: Sequence[tuple[str, ...]] = (),
        check: Check | None = None,
        request: Request | None = None,
        windows: Sequence[int] | None = None,
        tolerance: int = 0,
    ) -> Deleted:
        """Add a tombstone for each key, with a position P of its own and D = the latest of the log's clock and `known`.

        Args:
            view: the view.
            keys: join keys by name, integers as int64.
            known: what D must reach for each key, microseconds; the least int64: nothing.
            purge: keep digests instead of the keys.
            names: the join keys' other names, by which tombstones of them may be kept in clear.
            check: called within the transaction before anything is stored.
            request: that the delete is of, which is done once.
            windows: when the newest event of each key in rows of window versions was known, microseconds: D reaches it
                where it is not later than `tolerance` after the log's clock, else that. None: there are none.
            tolerance: microseconds.

        Raises:
            ClockError: the log's clock, or a D, is more than an hour ahead of now; nothing was added.
            Repeated, RequestInProgress, IdempotencyKeyReused: of the request; nothing was added.
        """
        digests = self.digests(keys)
        earlier = self.digests.in_any_order(keys, names) if purge else set()
        with self._writing() as log:
            self._check_folder(log)
            if check is not None:
                check(log.connection)
            if request is not None:
                check_new(log.connection, request, log.state.now)
            state = view_state(log.connection, view)
            now = self._stamp(log.state, _earliest(state))
            through = [max(now, at) for at in known]
            if windows is not None:
                through = [max(d, min(at, now + tolerance)) for d, at in zip(through, windows, strict=True)]
            check_clock(max(through, default=now), log.state.now, self._engine, "what is to be deleted")
            after = log.take(len(digests))
            if request is not None:
                done = Recorded(after, len(digests), now, b"", 0, None)
                record(log.connection, request, view, done, log.state.now)
            positions = range(after + 1, log.position + 1)
            tombstones = list(zip(positions, through, strict=True))
            self._insert_tombstones(log, view, None if purge else keys, digests, tombstones, after, now, earlier)
        return Deleted(tuple(through), tuple(positions), now)

    def deleted_before(self, view: str, recorded: Recorded, *, purge: bool) -> Deleted:
        """The tombstones that `delete` added for the request that is repeated; none where some are gone."""
        table = purges if purge else deletes
        mine = (table.c.view == view) & table.c.position.between(recorded.after + 1, recorded.after + recorded.count)
        query = sa.select(table.c.position, sa.func.max(table.c.through)).where(mine).group_by(table.c.position)
        with self._reading() as (connection, _, _):
            found = sorted((int(position), int(through)) for position, through in connection.execute(query))
        if len(found) != recorded.count:  # by now runs have done what is left to do
            return Deleted((), ())
        through, positions = tuple(through for _, through in found), tuple(position for position, _ in found)
        return Deleted(through, positions, recorded.arrival)

    def _insert_tombstones(
        self,
        log: LogTransaction,
        view: str,
        keys: pa.Table | None,
        digests: Sequence[bytes],
        tombstones: Sequence[Tombstone],
        after: int,
        now: int,
        earlier: Iterable[bytes] = (),
    ) -> None:
        """Add tombstones; `keys`: in clear, None: by their digests alone (`earlier`: as in `insert_purges`)."""
        if keys is not None:
            insert_deletes(log.connection, log.known.shapes, view, keys, digests, tombstones, after)
        else:
            overwrite_removed(log.connection)
            added = insert_purges(log.connection, view, digests, tombstones, after, now, earlier)
            if added > len(digests):
                rewritten(log.connection, view)
            more = views.update().where(views.c.view == view).values(purges=views.c.purges + added)
            log.connection.execute(more)
        log.clock = max(now, *(through + 1 for _, through in tombstones)) if tombstones else now

    def append_again(
        self,
        view: str,
        keys: pa.Table | None,
        tombstones: Sequence[Tombstone],
        purge: Literal[False] | Sequence[bytes] = False,
    ) -> int:
        """Add tombstones that the online store has and the log has lost, with their own P and D.

        Each gets a new position in the log, so that runs apply it again. One that the log has another one for that
        hides as much is left out.

        Args:
            view: the view.
            keys: the join keys of each, as `delete` takes them; None where `purge` gives their digests.
            tombstones: (P, D) of each, D in microseconds.
            purge: the digests of purged keys; they count as asked for now. False: deletes.

        Returns:
            How many were added.

        Raises:
            ClockError: the log's clock, or a D, is more than an hour ahead of now; nothing was added.
        """
        digests = self.digests(keys) if keys is not None else list(purge or ())
        every = self.digests.all(keys) if keys is not None else [(digest,) for digest in digests]
        wanted = list(zip(every, tombstones, strict=True))
        with self._writing() as log:
            self._check_folder(log)
            state = view_state(log.connection, view)
            now = self._stamp(log.state, _earliest(state))
            chosen = lacking(log.connection, view, wanted, purged=keys is None)
            again = [tombstones[i] for i in chosen]
            for before, _ in again:
                checked_position(before)
            check_clock(max((d for _, d in again), default=now), log.state.now, self._engine, "a delete")
            after = log.take(len(chosen))
            some = None if keys is None else keys.take(pa.array(chosen, pa.int64()))
            self._insert_tombstones(log, view, some, [digests[i] for i in chosen], again, after, now)
        return len(chosen)

    def purged(self, view: str, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> NDArray[np.int64]:
        """D of each key (`names`: their other names) that was purged, microseconds; the least int64 of the others."""
        digests = self.digests.all(keys, names)
        with self._reading() as (connection, _, _):
            _, _, count = self._view(connection, view)
            mine = {digest for each in digests for digest in each}
            found = greatest(purge_tombstones(connection, view, digests=mine if len(mine) < count else None))
        return np.array([(tombstone_under(each, found) or (0, MIN_MICROS))[1] for each in digests], np.int64)

    def purges_after(self, view: str, position: int, until: int | None = None) -> dict[bytes, Tombstone]:
        """Digest → the greatest P and D of the purges after a position of the log, up to `until` (None: all)."""
        conditions = [purges.c.position > position] + ([] if until is None else [purges.c.position <= until])
        with self._reading() as (connection, _, _):
            return greatest(purge_tombstones(connection, view, *conditions))

    def open_purges(self, view: str) -> dict[bytes, Tombstone]:
        """Digest → the greatest P and D of the purges whose rows are not erased yet."""
        with self._reading() as (connection, _, _):
            return greatest(purge_tombstones(connection, view, purges.c.erased_at.is_(None)))

    def pending_purges(self) -> list[int]:
        """When each purge whose rows are not erased yet was asked for, by the log's clock, microseconds."""
        with self._reading() as (connection, _, _):
            rows = connection.execute(sa.select(purges.c.asked_at).where(purges.c.erased_at.is_(None)))
            return [int(at) for (at,) in rows]

    def purges_to_erase(self, view: str, before: int) -> dict[bytes, Tombstone]:
        """`open_purges` of those asked for before an instant, by the log's clock, microseconds."""
        due = (purges.c.erased_at.is_(None), purges.c.asked_at < before)
        with self._reading() as (connection, _, _):
            return greatest(purge_tombstones(connection, view, *due))

    def erase(
        self,
        view: str,
        tombstones: Mapping[bytes, Tombstone],
        readings: Sequence[RowReading],
        elsewhere: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """Take the rows that purges hide, by P or by D, out of the write buffer and the files, for good.

        Rows that are dated ahead go too. The purges count as erased once no file has the rows any more: what is in the
        way of that is given back, and the same call made again goes on from there, also after this process was killed.

        Args:
            view: the view.
            tombstones: digest → (P, D) of the purges, as `purges_to_erase` gave them.
            readings: how every version of the view, retired ones too, finds keys and times in a row.
            elsewhere: what is in the way of erasing other parts of the store: the purges do not count as erased then.

        Returns:
            What is in the way, `elsewhere` first: files that cannot be read or removed, a database that somebody reads;
            empty: nothing.
        """

        def keep(table: pa.Table) -> pa.Table:
            return table.filter(pa.array(~hidden_stamped(table, readings, self.digests, tombstones)))

        pending = list(elsewhere)
        with self._writing() as log:
            overwrite_removed(log.connection)
            log.buffered -= rewrite_head(log.connection, log.known.shapes, view, keep)
            drop_contents(log.connection, view)
            if self._folder is not None:
                pending += rewrite_files(log.connection, self._folder, view, keep, log.state.clock)
            rewritten(log.connection, view)
        blocked = overwrite_free_pages(self._engine) or empty_wal(self._engine)
        if blocked is not None:
            pending.append(blocked)
        if self._folder is not None:
            pending += rewrite_aside(self._folder, view, keep)
        pending += remove_pending(self._engine, self._folder)
        if not pending:
            with self._writing() as log:
                mark_erased(log.connection, view, tombstones, log.state.clock)
        return tuple(pending)

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
            compacted, epoch, purged = self._view(connection, view)
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

    def _view(self, connection: sa.Connection, view: str) -> tuple[int, int, int]:
        found = connection.execute(_VIEW, {"of_view": view}).one_or_none()
        return (0, 0, 0) if found is None else (int(found.rolled), int(found.epoch), int(found.purges))

    def deletes_after(self, view: str, keys: KeyNames, position: int, until: int) -> pa.Table | None:
        """The deletes after a position of the log, up to `until`.

        Returns:
            The join keys, the greatest D (`__through`) and P (`__position`), one row a key; None where there are none.
        """
        with self._reading() as (connection, _, known):
            return tombstones_after(connection, known.shapes, view, keys, position, until)

    def unreadable_deletes(self, view: str, position: int, until: int) -> dict[bytes, Tombstone]:
        """Digest → the greatest P and D of the deletes after a position, up to `until`, whose keys cannot be read."""
        with self._reading() as (connection, _, known):
            return unreadable_after(connection, known.shapes, view, position, until)

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


def _earliest(state: Any) -> int:
    """The least arrival by what a process of an earlier release, still running, noted with its view alone."""
    return int(max(state.arrival, state.through + 1))
