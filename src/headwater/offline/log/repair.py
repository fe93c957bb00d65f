"""Repair of the offline log's clock: now is right, and what the log has stamped ahead of it becomes now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.errors import StoreError
from headwater.offline.base import ARRIVAL
from headwater.offline.log.files import LogFile, log_files, register_file
from headwater.offline.log.folder import LogFolder
from headwater.offline.log.left_out import read_batches, stored_key
from headwater.offline.log.state import LogTransaction
from headwater.offline.log.tables import deletes, files, gaps, head, left_out, purges, removals, rewritten, views
from headwater.planning.row_reading import RowReading


@dataclass(frozen=True)
class Moved:
    """Instants that were ahead of now, and what they became: now + 1 µs, + 2 µs, …, in their order.

    Attributes:
        now: the instant taken for right, microseconds.
        before: the instants that were ahead, ascending, each once.
    """

    now: int
    before: NDArray[np.int64]

    def __call__(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """What instants became (microseconds); one that is not ahead stays as it is.

        One that the log did not have becomes what the last one not after it became, so that the order holds.
        """
        return np.where(instants > self.now, self.now + np.searchsorted(self.before, instants, "right"), instants)

    def one(self, instant: int) -> int:
        """What one instant became."""
        return int(self(np.array([instant], np.int64))[0])

    def since(self, instant: int, now: int) -> int:
        """What an instant became that was stored elsewhere, where others have gone on since.

        Args:
            instant: microseconds.
            now: the log's clock by now: what is not later, and was not in the log, was given since.
        """
        at = int(np.searchsorted(self.before, instant))
        had = at < len(self.before) and int(self.before[at]) == instant
        return self.one(instant) if had or instant > now else instant

    @property
    def end(self) -> int:
        """The least instant after all of them."""
        # also where nothing was ahead: a D may be now itself, and what is written next comes after it
        return self.now + len(self.before) + 1


@dataclass
class ViewRepair:
    """What was changed of one view.

    Attributes:
        rows: how many rows have another arrival now.
        tombstones: how many tombstones have another D now.
        keys: how a version reads the rows that were changed → their keys, as the log holds them: tables whose columns
            are the source's, in the order of the join keys; each key at least once.
        deleted: the keys of the deletes that were changed: tables of join keys by name.
        purged: the digests of the purges that were changed, and of deletes whose keys cannot be read.
    """

    rows: int = 0
    tombstones: int = 0
    keys: dict[RowReading, list[pa.Table]] = field(default_factory=dict)
    deleted: list[pa.Table] = field(default_factory=list)
    purged: set[bytes] = field(default_factory=set)


@dataclass(frozen=True)
class ClockRepair:
    """What a repair of the log's clock changed.

    Attributes:
        clock: what the log's clock said before, microseconds.
        moved: the instants that were ahead, and what they became.
        views: the views of which anything was changed.
        unread: files of the log that could not be read, and were left as they are.
    """

    clock: int
    moved: Moved
    views: Mapping[str, ViewRepair]
    unread: tuple[str, ...] = ()


def repair(log: LogTransaction, folder: LogFolder | None, readings: Mapping[str, Sequence[RowReading]]) -> ClockRepair:
    """Set the log's clock to now, and what is ahead of it behind one another, in a write transaction.

    Args:
        log: the transaction.
        folder: of the compacted files.
        readings: view → how its versions find keys in a row.
    """
    now = log.state.now
    listed, unread = _files_ahead(log, folder, now)
    ahead = [_ahead(log, column, now) for column in (head.c.arrival, deletes.c.through, purges.c.through)]
    ahead += [some for _, some in listed]
    moved = Moved(now, np.unique(np.array([instant for some in ahead for instant in some], np.int64)))
    found: dict[str, ViewRepair] = {}

    def of(view: str) -> ViewRepair:
        return found.setdefault(view, ViewRepair())

    keys = _Keys(readings)
    _move_buffered(log, moved, keys, of)
    for file, _ in listed:
        assert folder is not None
        _move_file(log, folder, file, moved, keys, of)
    keys.give(of)
    _move_deletes(log, moved, of)
    _move_purges(log, moved, of)
    for view in found:
        rewritten(log.connection, view)
    _move_notes(log, moved)
    log.clock = moved.end
    return ClockRepair(log.state.clock, moved, found, tuple(unread))


_Of = Callable[[str], ViewRepair]


class _Keys:
    """The keys of changed rows, each once, by how a version reads them."""

    def __init__(self, readings: Mapping[str, Sequence[RowReading]]) -> None:
        self._readings = readings
        self._found: dict[tuple[str, RowReading, pa.Schema], list[pa.Table]] = {}

    def add(self, view: str, table: pa.Table) -> None:
        """Take note of the keys of rows."""
        for reading in self._readings.get(view, ()):
            if reading.fits(table.schema):
                mine = table.select(reading.keys)
                self._found.setdefault((view, reading, mine.schema), []).append(_distinct(mine))

    def give(self, of: _Of) -> None:
        """Hand over what was found."""
        for (view, reading, _), tables in self._found.items():
            of(view).keys.setdefault(reading, []).append(_distinct(pa.concat_tables(tables)))


def _distinct(table: pa.Table) -> pa.Table:
    names = table.column_names
    return table.group_by(names).aggregate([]).select(names) if names else table.slice(0, 1)


def _ahead(log: LogTransaction, column: sa.Column[int], now: int) -> list[int]:
    return list(log.connection.execute(sa.select(column).where(column > now).distinct()).scalars())


def _files_ahead(
    log: LogTransaction, folder: LogFolder | None, now: int
) -> tuple[list[tuple[LogFile, list[int]]], list[str]]:
    """The files that hold arrivals ahead of now, with these; and those that cannot be read."""
    found: list[tuple[LogFile, list[int]]] = []
    unread: list[str] = []
    for file in log_files(log.connection, files.c.replaced_at.is_(None)) if folder is not None else ():
        assert folder is not None
        if file.arrived_to is not None and file.arrived_to <= now:
            continue
        try:
            arrivals = folder.read(file.stored).column(ARRIVAL).to_numpy()
        except StoreError:
            unread.append(file.name)
            continue
        some = np.unique(arrivals[arrivals > now])
        if len(some):
            found.append((file, some.tolist()))
    return found, unread


def _move_buffered(log: LogTransaction, moved: Moved, keys: _Keys, of: _Of) -> None:
    columns = (head.c.first, head.c.last, head.c.shape, head.c.rows, head.c.arrival, head.c.offsets, head.c.batch)
    query = sa.select(*columns, head.c.view).where(head.c.arrival > moved.now)
    changes = []
    for row in log.connection.execute(query).all():
        of(row.view).rows += row.rows
        for table in read_batches(log.connection, log.known.shapes, [row])[0].values():
            keys.add(row.view, table)
        changes.append({"batch_first": row.first, "new": moved.one(row.arrival)})
    if changes:
        mine = head.c.first == sa.bindparam("batch_first")
        log.connection.execute(head.update().where(mine).values(arrival=sa.bindparam("new")), changes)


def _move_file(log: LogTransaction, folder: LogFolder, file: LogFile, moved: Moved, keys: _Keys, of: _Of) -> None:
    table = folder.read(file.stored)
    arrivals = table.column(ARRIVAL).to_numpy()
    ahead = arrivals > moved.now
    keys.add(file.view, table.filter(pa.array(ahead)))
    of(file.view).rows += int(ahead.sum())
    index = table.schema.get_field_index(ARRIVAL)
    changed = table.set_column(index, table.schema.field(index), pa.array(moved(arrivals), pa.int64()))
    register_file(log.connection, folder, file.view, file.shape, changed)
    # results that still read the old file may go on
    replaced = files.update().where(files.c.id == file.number).values(replaced_at=moved.now)
    log.connection.execute(replaced)


def _move_deletes(log: LogTransaction, moved: Moved, of: _Of) -> None:
    columns = (deletes.c.id, deletes.c.view, deletes.c.digest, deletes.c.shape, deletes.c.key, deletes.c.through)
    found = log.connection.execute(sa.select(*columns).where(deletes.c.through > moved.now)).all()
    batches: dict[tuple[str, int], list[pa.RecordBatch]] = {}
    for row in found:
        of(row.view).tombstones += 1
        batch = stored_key(log.connection, log.known.shapes, row.shape, row.key)
        if batch is None:
            of(row.view).purged.add(bytes(row.digest))
        else:
            batches.setdefault((row.view, row.shape), []).append(batch)
    for (view, _), some in batches.items():
        of(view).deleted.append(_distinct(pa.Table.from_batches(some)))
    _move_through(log, deletes, found, moved)


def _move_purges(log: LogTransaction, moved: Moved, of: _Of) -> None:
    columns = (purges.c.id, purges.c.view, purges.c.digest, purges.c.through)
    found = log.connection.execute(sa.select(*columns).where(purges.c.through > moved.now)).all()
    for row in found:
        of(row.view).tombstones += 1
        of(row.view).purged.add(bytes(row.digest))
    _move_through(log, purges, found, moved)


def _move_through(log: LogTransaction, table: sa.Table, found: Sequence[Any], moved: Moved) -> None:
    changes = [{"number": row.id, "new": moved.one(row.through)} for row in found]
    if changes:
        mine = table.c.id == sa.bindparam("number")
        log.connection.execute(table.update().where(mine).values(through=sa.bindparam("new")), changes)


def _move_notes(log: LogTransaction, moved: Moved) -> None:
    """What only says when something was done, or comes from an earlier release: ahead of now it becomes now."""
    for column in (
        purges.c.asked_at,
        purges.c.erased_at,
        files.c.replaced_at,
        gaps.c.noted_at,
        removals.c.noted_at,
        left_out.c.noted_at,
        left_out.c.arrived_from,
        left_out.c.arrived_to,
        views.c.arrival,
        views.c.through,
    ):
        log.connection.execute(column.table.update().where(column > moved.now).values({column.name: moved.now}))
