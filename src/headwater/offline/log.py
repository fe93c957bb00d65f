"""The offline log: every row given to `write`, in one order, with the marks of what was deleted or purged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater import forks
from headwater.clock import MIN_MICROS, Clock
from headwater.errors import LogMismatch, StoreError
from headwater.offline.base import ARRIVAL, POSITION, LogPart, LogSlice
from headwater.offline.log_files import LogFolder, cut_file, hold_folder, live_files, rewrite_files, roll_head
from headwater.offline.log_head import (
    HeadReader,
    Shapes,
    as_columns,
    between,
    insert_rows,
    rewrite_head,
    stamped,
)
from headwater.offline.log_marks import (
    Digests,
    RowReading,
    delete_marks,
    hidden,
    hidden_stamped,
    insert_deletes,
    insert_purges,
    purge_marks,
    purged_through,
)
from headwater.offline.log_tables import (
    counter,
    empty_wal,
    head,
    migrate,
    overwrite_removed,
    purges,
    reading,
    rows_after,
    view_state,
    views,
    writing,
)
from headwater.sql_transactions import now_micros

HEAD_ROWS = 50_000
"""How many rows the head may hold before it is rolled into files."""

Check = Callable[[sa.Connection], None]
"""Looks at the registry within the log's own transaction; raises to undo it."""


@dataclass(frozen=True)
class RowGroup:
    """Rows of one write that share a set of columns.

    Attributes:
        table: the rows, in the types the log keeps.
        rows: the place of each among all the rows of the write; ascending.
    """

    table: pa.Table
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Appended:
    """A group as the log took it.

    Attributes:
        table: the rows kept, with `__position` and `__arrival`.
        rows: the place of each kept row in the write; the others were at or below a purge.
    """

    table: pa.Table
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Deleted:
    """What a delete's mark says.

    Attributes:
        through: D of each key, microseconds.
        position: of the last mark.
    """

    through: tuple[int, ...]
    position: int


class OfflineLog(forks.OfOneProcess):
    """The offline log of one registry.

    Its head lies in the registry's database, one row a batch; what is rolled lies in Parquet files. A position is given
    within the transaction that adds the row, and one transaction runs at a time, so that no position becomes visible
    before a smaller one.

    Args:
        engine: of the registry's database; the caller disposes of it.
        folder: of the rolled files; None: everything stays in the head.
        clock: stamps arrivals, where the database is this host's own.

    Raises:
        FormatError: a newer headwater wrote the log.
    """

    def __init__(self, engine: sa.Engine, folder: Path | None, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = forks.rlock()
        migrate(engine)
        with reading(engine) as connection:
            found = connection.execute(sa.select(counter.c.log_id, counter.c.salt)).one()
        self.log_id: str = found.log_id
        self.digests = Digests(bytes(found.salt))
        self._shapes = Shapes()
        self._head = HeadReader(self._shapes)
        self._folder = None if folder is None else LogFolder(folder, self.log_id)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._lock, writing(self._engine) as connection:
            yield connection

    def head_position(self) -> int:
        """The position of the newest row or mark; 0 where nothing was written yet."""
        with reading(self._engine) as connection:
            return int(connection.execute(sa.select(counter.c.position)).scalar_one())

    def rows_after(self, view: str, position: int) -> int:
        """How many rows of a view lie after a position."""
        with reading(self._engine) as connection:
            return rows_after(connection, view, position)

    def claim(self, position: int) -> None:
        """Before this process's first write: check that the folder is this log's, and give no position twice.

        Where the registry was restored from an older copy, positions that an online store or the folder's files have
        seen are not given again, and those files, which the registry no longer names, are set aside.

        Args:
            position: the greatest that the online store has seen.

        Raises:
            LogMismatch: the folder belongs to another log, or is another one than this log's other hosts use.
        """
        with self._writing() as connection:
            head = int(connection.execute(sa.select(counter.c.position)).scalar_one())
            if self._folder is not None:
                try:
                    hold_folder(connection, self._folder)
                except LogMismatch:
                    raise
                except StoreError:
                    # it takes no files now: rows are safe in the head, the next roll tells
                    pass
                position = max(position, self._folder.set_aside(head))
            if position > head:
                connection.execute(counter.update().values(position=position))

    def now(self) -> int:
        """The log's clock, microseconds: the database's where several hosts share one, else the store's."""
        with reading(self._engine) as connection:
            return now_micros(connection, self._clock)

    def arrival(self, view: str) -> int:
        """The arrival that a row of a view would have now, microseconds: after every delete, not before another row."""
        with reading(self._engine) as connection:
            query = sa.select(views.c.arrival, views.c.through).where(views.c.view == view)
            found = connection.execute(query).one_or_none()
            return self._arrival(
                connection, *((MIN_MICROS, MIN_MICROS) if found is None else (found.arrival, found.through))
            )

    def _arrival(self, connection: sa.Connection, earlier: int, through: int) -> int:
        after = MIN_MICROS if through == MIN_MICROS else through + 1
        return max(now_micros(connection, self._clock), earlier, after)

    def append(
        self, view: str, groups: Sequence[RowGroup], readings: Iterable[RowReading] = (), check: Check | None = None
    ) -> list[Appended]:
        """Add the rows of one write.

        Args:
            view: the view.
            groups: its rows, by their columns.
            readings: how the view's versions find keys and times, to leave out what was purged.
            check: called within the transaction before anything is stored.

        Raises:
            StorageFull, StoreReadOnly, Unavailable: nothing was added.
        """
        count = sum(group.table.num_rows for group in groups)
        with self._writing() as connection:
            if check is not None:
                check(connection)
            after, head_rows = self._take(connection, count, count)
            state = view_state(connection, view)
            arrival = self._arrival(connection, state.arrival, state.through)
            if state.purges:
                groups, dropped = self._without_purged(connection, view, groups, list(readings), arrival)
                connection.execute(counter.update().values(head_rows=counter.c.head_rows - dropped))
            appended = self._insert(connection, view, groups, after, arrival)
            if arrival != state.arrival:
                connection.execute(views.update().where(views.c.view == view).values(arrival=arrival))
        if head_rows > HEAD_ROWS:
            # the rows are safe in the head; a folder that takes no files is told by the next materialize
            with suppress(StoreError):
                self.roll()
        return appended

    def _take(self, connection: sa.Connection, positions: int, rows: int) -> tuple[int, int]:
        """Take positions; the last one taken before, and the rows in the head now."""
        taken = counter.update().values(position=counter.c.position + positions, head_rows=counter.c.head_rows + rows)
        found = connection.execute(taken.returning(counter.c.position, counter.c.head_rows)).one()
        return int(found.position) - positions, int(found.head_rows)

    def _without_purged(
        self, connection: sa.Connection, view: str, groups: Sequence[RowGroup], readings: list[RowReading], arrival: int
    ) -> tuple[list[RowGroup], int]:
        through = purged_through(connection, view)
        kept, dropped = [], 0
        for group in groups:
            arrivals = np.full(group.table.num_rows, arrival, np.int64)
            gone = hidden(group.table, arrivals, readings, self.digests, through)
            dropped += int(gone.sum())
            kept.append(RowGroup(group.table.filter(pa.array(~gone)), group.rows[~gone]) if gone.any() else group)
        return kept, dropped

    def _insert(
        self, connection: sa.Connection, view: str, groups: Sequence[RowGroup], after: int, arrival: int
    ) -> list[Appended]:
        # positions follow the order in which the user gave the rows, whatever their columns
        places = np.sort(np.concatenate([group.rows for group in groups])) if groups else np.array([], np.int64)
        appended = []
        for group in groups:
            positions = after + 1 + np.searchsorted(places, group.rows).astype(np.int64)
            if len(positions):
                shape = self._shapes.number(connection, view, group.table.schema)
                insert_rows(connection, view, shape, group.table, positions, arrival)
            appended.append(Appended(stamped(group.table, positions, arrival), group.rows))
        return appended

    def delete(
        self, view: str, keys: pa.Table, known: Sequence[int], *, purge: bool = False, check: Check | None = None
    ) -> Deleted:
        """Mark keys as deleted through D = max(now, what is stored).

        Args:
            view: the view.
            keys: join keys, columns in the entity's order, integers as int64.
            known: known_at of what is stored online under each key, microseconds; the least int64 where nothing is.
            purge: keep digests instead of the keys.
            check: called within the transaction before anything is stored.
        """
        digests = self.digests(keys)
        with self._writing() as connection:
            if check is not None:
                check(connection)
            after, _ = self._take(connection, len(digests), 0)
            state = view_state(connection, view)
            # an arrival that was given already may be ahead of the clock: the delete comes after it all the same
            now = max(now_micros(connection, self._clock), state.arrival)
            through = [max(now, at) for at in known]
            if purge:
                overwrite_removed(connection)
                insert_purges(connection, view, digests, through, after + 1, now)
            else:
                insert_deletes(connection, self._shapes, view, keys, digests, through, after + 1)
            latest = max([state.through, *through])
            changed = {"through": latest, "purges": state.purges + (len(digests) if purge else 0)}
            connection.execute(views.update().where(views.c.view == view).values(**changed))
        return Deleted(tuple(through), after + len(digests))

    def purged(self, view: str, keys: pa.Table) -> NDArray[np.int64]:
        """D of each key that was purged, microseconds; the least int64 of the others."""
        with reading(self._engine) as connection:
            through = purged_through(connection, view)
        if not through:
            return np.full(keys.num_rows, MIN_MICROS, np.int64)
        return np.array([through.get(digest, MIN_MICROS) for digest in self.digests(keys)], np.int64)

    def purges_after(self, view: str, position: int, until: int | None) -> dict[bytes, int]:
        """Digest → D of the purges with `position` < theirs ≤ `until` (None: all)."""
        with reading(self._engine) as connection:
            return purged_through(connection, view, until, after=position)

    def purges_to_erase(self, view: str, before: int) -> Mapping[bytes, int]:
        """Digest → D of the purges asked for before an instant (microseconds) whose rows are not erased yet."""
        query = sa.select(purges.c.digest, sa.func.max(purges.c.through)).where(
            purges.c.view == view, purges.c.erased_at.is_(None), purges.c.asked_at < before
        )
        with reading(self._engine) as connection:
            return {
                bytes(digest): int(through) for digest, through in connection.execute(query.group_by(purges.c.digest))
            }

    def erase(self, view: str, through: Mapping[bytes, int], readings: Sequence[RowReading]) -> None:
        """Take the rows of purged keys at or below their D out of the head and the files, for good.

        Args:
            view: the view.
            through: digest → D of the purges, as `purges_to_erase` gave them.
            readings: how every version of the view, retired ones too, finds keys and times in a row.
        """

        def keep(table: pa.Table) -> pa.Table:
            return table.filter(pa.array(~hidden_stamped(table, readings, self.digests, through)))

        gone: list[str] = []
        with self._writing() as connection:
            overwrite_removed(connection)
            state = view_state(connection, view)
            removed = rewrite_head(connection, self._shapes, view, keep)
            connection.execute(counter.update().values(head_rows=counter.c.head_rows - removed))
            if self._folder is not None:
                gone = rewrite_files(connection, self._folder, view, keep)
            connection.execute(views.update().where(views.c.view == view).values(epoch=state.epoch + 1))
            connection.execute(
                purges.update()
                .where(purges.c.view == view, purges.c.digest.in_(list(through)), purges.c.erased_at.is_(None))
                .values(erased_at=now_micros(connection, self._clock))
            )
        empty_wal(self._engine)
        if self._folder is not None:
            self._folder.remove(gone)

    def slice(self, view: str, keys: Sequence[str], until: int | None = None) -> LogSlice:
        """A view's part of the log, fixed.

        Args:
            view: the view.
            keys: the names of its join keys: delete marks under other keys are left out.
            until: only up to this position; None: all there is.

        Raises:
            StoreError: a rolled file is missing or damaged.
        """
        with reading(self._engine) as connection:
            position = int(connection.execute(sa.select(counter.c.position)).scalar_one())
            until = None if until is None or until >= position else until
            rolled, epoch, purged = self._view(connection, view)
            parts = self._file_parts(connection, view, until) + self._head_parts(connection, view, rolled, epoch, until)
            return LogSlice(
                parts=tuple(parts),
                deletes=delete_marks(connection, self._shapes, view, keys, until, every=True),
                purges=purge_marks(connection, view, until) if purged else {},
                position=position if until is None else until,
                digests=self.digests,
            )

    def _view(self, connection: sa.Connection, view: str) -> tuple[int, int, int]:
        query = sa.select(views.c.rolled, views.c.epoch, views.c.purges).where(views.c.view == view)
        found = connection.execute(query).one_or_none()
        return (0, 0, 0) if found is None else (int(found.rolled), int(found.epoch), int(found.purges))

    def _file_parts(self, connection: sa.Connection, view: str, until: int | None) -> list[LogPart]:
        found = live_files(connection, view, until)
        if not found:
            return []
        if self._folder is None:
            raise StoreError(f"offline log of view {view!r}: its rows are in files, and no [offline] log folder is set")
        parts: list[LogPart] = []
        whole: dict[int, list[Path]] = {}
        for shape, name, last in found:
            if until is not None and last > until:
                table = cut_file(self._folder, name, until)
                parts.append(_table_part(table))
                continue
            path = self._folder.path / name
            if not path.exists():
                raise StoreError(
                    f"{path}: a file of the offline log is missing; [offline] log must be the folder that all hosts "
                    "write to: point it there, or restore it from its backup"
                )
            whole.setdefault(shape, []).append(path)
        for shape, paths in whole.items():
            schema = self._shapes.schema(connection, shape)
            parts.append(LogPart(as_columns(schema), files=tuple(paths), schema=schema))
        return parts

    def _head_parts(
        self, connection: sa.Connection, view: str, rolled: int, epoch: int, until: int | None
    ) -> list[LogPart]:
        tables = self._head.read(connection, view, rolled, epoch).values()
        cut = [table if until is None else between(table, 0, until) for table in tables]
        return [_table_part(table) for table in cut if table.num_rows]

    def deletes_after(self, view: str, keys: Sequence[str], position: int, until: int) -> pa.Table | None:
        """Delete marks with `position` < theirs ≤ `until`: the keys and `__through`, one row a key; None: none."""
        with reading(self._engine) as connection:
            return delete_marks(connection, self._shapes, view, keys, until, after=position)

    def roll(self, names: Sequence[str] | None = None) -> None:
        """Move the head's rows of some views (None: all) into Parquet files; nothing to do without a folder."""
        if self._folder is None:
            return
        with reading(self._engine) as connection:
            query = sa.select(head.c.first).limit(1)
            if names is not None:
                query = query.where(head.c.view.in_(names))
            if connection.execute(query).one_or_none() is None:
                return
        with self._writing() as connection:
            hold_folder(connection, self._folder)
            overwrite_removed(connection)
            roll_head(connection, self._folder, self._shapes, names, now_micros(connection, self._clock))


def _table_part(table: pa.Table) -> LogPart:
    schema = pa.schema([column for column in table.schema if column.name not in (POSITION, ARRIVAL)])
    return LogPart(as_columns(schema), table, schema=schema)
