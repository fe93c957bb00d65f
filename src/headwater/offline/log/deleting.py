"""Deletes and purges of the offline log: their tombstones, and the rows that purges erase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS
from headwater.offline.base import Tombstone
from headwater.offline.log.additions import Addition, Check
from headwater.offline.log.checks import LogChecks
from headwater.offline.log.cleaning import empty_wal, overwrite_free_pages, remove_pending
from headwater.offline.log.deleted_keys import KeyNames, tombstones_after, unreadable_after
from headwater.offline.log.files import rewrite_aside, rewrite_files
from headwater.offline.log.left_out import drop_contents
from headwater.offline.log.requests import Recorded, Request, check_new
from headwater.offline.log.state import (
    LogTransaction,
    check_clock,
    checked_position,
)
from headwater.offline.log.tables import (
    deletes,
    earliest_of,
    overwrite_removed,
    purges,
    rewritten,
    view_of,
    view_state,
    views,
)
from headwater.offline.log.tombstones import (
    greatest,
    hidden_stamped,
    insert_deletes,
    insert_purges,
    lacking,
    mark_erased,
    purge_tombstones,
    tombstone_under,
)
from headwater.offline.log.write_buffer import rewrite_head
from headwater.planning.row_reading import RowReading


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


class LogDeletes(LogChecks):
    """Deletes and purges of an offline log; see `OfflineLog`."""

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
            added = self._begin(log, view, check, request)
            now = added.now
            through = [max(now, at) for at in known]
            if windows is not None:
                through = [max(d, min(at, now + tolerance)) for d, at in zip(through, windows, strict=True)]
            check_clock(max(through, default=now), log.state.now, self._engine, "what is to be deleted")
            after = added.take(len(digests))
            positions = range(after + 1, log.position + 1)
            tombstones = list(zip(positions, through, strict=True))
            self._insert_tombstones(added, None if purge else keys, digests, tombstones, after, earlier)
        return Deleted(tuple(through), tuple(positions), now)

    def _begin(
        self, log: LogTransaction, view: str, check: Check | None = None, request: Request | None = None
    ) -> Addition:
        """Begin to add to a view.

        Raises:
            ClockError: the log's clock is more than an hour ahead of now.
            Repeated, RequestInProgress, IdempotencyKeyReused: of the request.
        """
        self._check_folder(log)
        if check is not None:
            check(log.connection)
        if request is not None:
            check_new(log.connection, request, log.state.now)
        state = view_state(log.connection, view)
        now = self._stamp(log.state, earliest_of(state), calls=2)
        return Addition(log, view, state.purges, now, request)

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
        added: Addition,
        keys: pa.Table | None,
        digests: Sequence[bytes],
        tombstones: Sequence[Tombstone],
        after: int,
        earlier: Iterable[bytes] = (),
    ) -> None:
        """Add tombstones; `keys`: in clear, None: by their digests alone (`earlier`: as in `insert_purges`)."""
        log, view, now = added.log, added.view, added.now
        if keys is not None:
            insert_deletes(log.connection, log.known.shapes, view, keys, digests, tombstones, after)
        else:
            overwrite_removed(log.connection)
            count = insert_purges(log.connection, view, digests, tombstones, after, now, earlier)
            if count > len(digests):
                rewritten(log.connection, view)
            more = views.update().where(views.c.view == view).values(purges=views.c.purges + count)
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
            added = self._begin(log, view)
            chosen = lacking(log.connection, view, wanted, purged=keys is None)
            again = [tombstones[i] for i in chosen]
            for before, _ in again:
                checked_position(before)
            check_clock(max((d for _, d in again), default=added.now), log.state.now, self._engine, "a delete")
            after = added.take(len(chosen))
            some = None if keys is None else keys.take(pa.array(chosen, pa.int64()))
            self._insert_tombstones(added, some, [digests[i] for i in chosen], again, after)
        return len(chosen)

    def purged(self, view: str, keys: pa.Table, names: Sequence[tuple[str, ...]] = ()) -> NDArray[np.int64]:
        """D of each key (`names`: their other names) that was purged, microseconds; the least int64 of the others."""
        digests = self.digests.all(keys, names)
        with self._reading() as (connection, _, _):
            _, _, count = view_of(connection, view)
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
