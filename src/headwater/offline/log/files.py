"""Compacted files of the offline log: the write buffer as Parquet, small files merged, what nobody needs removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MAX_MICROS
from headwater.errors import LogDamaged
from headwater.offline.base import POSITION
from headwater.offline.log.folder import (
    SET_ASIDE,
    FileUnreachable,
    FoundFile,
    LogFolder,
    StoredFile,
    arrivals_of,
    span_of,
)
from headwater.offline.log.left_out import Unreadable, leave_out, read_batches, unreadable_values
from headwater.offline.log.tables import counter, files, folders, gaps, head, removals, views
from headwater.offline.log.write_buffer import Shapes, between, buffered_rows

SMALL_FILE_ROWS = 100_000
FILES_TO_MERGE = 8
VALUES = "holds values that cannot be read"
"""What is noted of a file whose bytes are whole: compaction takes such rows out of it."""
KEPT_AFTER_MERGE = 86_400_000_000
"""How long (microseconds) a merged file stays, for results that still read it."""
_IN_ORDER = sa.select(files).order_by(files.c.view, files.c.first, files.c.id)
_LIVE = _IN_ORDER.where(
    files.c.view == sa.bindparam("of_view"), files.c.replaced_at.is_(None), files.c.first <= sa.bindparam("until")
)
"""Made once: to make a statement takes longer than to run it."""
_TO_REMOVE = sa.select(removals.c.name).order_by(removals.c.noted_at)


@dataclass(frozen=True)
class LogFile:
    """A compacted file as the log's database has it.

    Attributes:
        number: its row's.
        view: whose rows it holds.
        shape: their columns.
        stored: its name, size and checksum.
        first, last: the least and the greatest position in it.
        rows: how many.
        arrived_from, arrived_to: their least and greatest arrival, microseconds; None: an earlier release wrote it.
        replaced_at: since when (microseconds) its rows are in another file too; None: they are not.
        damage: what was wrong with it when it was read last.
    """

    number: int
    view: str
    shape: int
    stored: StoredFile
    first: int
    last: int
    rows: int
    arrived_from: int | None
    arrived_to: int | None
    replaced_at: int | None
    damage: str | None

    @property
    def name(self) -> str:
        """In the folder."""
        return self.stored.name


def log_files(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[LogFile]:
    """Files in order of view and position; all of them, the replaced ones too, unless conditions say which."""
    return [_log_file(row) for row in connection.execute(_IN_ORDER.where(*conditions))]


def _log_file(row: Any) -> LogFile:
    digest = None if row.checksum is None else bytes(row.checksum)
    return LogFile(
        row.id,
        row.view,
        row.shape,
        StoredFile(row.name, row.size, digest),
        row.first,
        row.last,
        row.rows,
        row.arrived_from,
        row.arrived_to,
        row.replaced_at,
        row.damage,
    )


def live_files(connection: sa.Connection, view: str, until: int | None) -> list[LogFile]:
    """The files that hold a view's rows, in order; `until`: those that begin at most there."""
    last = MAX_MICROS if until is None else until
    return [_log_file(row) for row in connection.execute(_LIVE, {"of_view": view, "until": last})]


def hold_folder(connection: sa.Connection, folder: LogFolder) -> None:
    """Check, within a write transaction, that the folder is the one that all hosts use; the first one marks it.

    Raises:
        LogMismatch: it is another one.
        StorageFull, StoreReadOnly, StoreError: it takes no files.
    """
    known = connection.execute(sa.select(folders.c.id)).scalar_one_or_none()
    mark = folder.check(known)
    if known is None:
        connection.execute(folders.insert().values(id=mark or folder.mark()))
    folder.checked()


# files that are not the log's (any more)


def set_aside(folder: LogFolder, last: int) -> int:
    """Give other names to files with positions after the log's last one, so that they are never taken for a crash's.

    Their rows were written before the registry was restored from an older copy, which does not name them.

    Returns:
        The greatest position in them, and in those set aside before; 0 where there are none.
    """
    greatest = 0
    for file in folder.found():
        if file.last > last and not file.temporary:
            if not file.prefix:
                folder.rename(file, SET_ASIDE)
            greatest = max(greatest, file.last)
    return greatest


def sweep(connection: sa.Connection, folder: LogFolder, position: int) -> None:
    """Remove what killed writers left: files that no transaction registered, under the log's write lock alone.

    Three kinds of such files may hold acknowledged rows that nothing else has, and are set aside instead: those that
    reach beyond the log's last position, or end at one that a restored database had lost; and those of a view that
    lacks a file which the log names, since then the database is an older copy, or the folder lost files.

    Args:
        connection: a write transaction.
        folder: of the files.
        position: the log's last one.
    """
    known = set(connection.execute(sa.select(files.c.name)).scalars())
    leftover: list[FoundFile] = []
    present: set[str] = set()
    for file in folder.found():
        if file.temporary:
            folder.remove([file.name])
        elif not file.prefix:
            present.add(file.name)
            if file.name not in known:
                leftover.append(file)
    if not leftover:
        return
    pending = set(connection.execute(sa.select(removals.c.name)).scalars())
    live = connection.execute(sa.select(files.c.name, files.c.view).where(files.c.replaced_at.is_(None)))
    incomplete = {view for name, view in live if name not in present}
    lost = [(int(lo), int(hi)) for lo, hi in connection.execute(sa.select(gaps.c.lo, gaps.c.hi))]
    lost.append((position, MAX_MICROS))
    for file in leftover:
        needed = file.view in incomplete or any(lo < file.last <= hi for lo, hi in lost)
        if needed and file.name not in pending:
            folder.rename(file, SET_ASIDE)
        else:
            folder.remove([file.name])


def leftovers(connection: sa.Connection, folder: LogFolder) -> bool:
    """Whether there may be something to sweep or take out, as a transaction without the lock sees it."""
    if connection.execute(sa.select(files.c.id).where(files.c.damage == VALUES).limit(1)).first() is not None:
        return True
    known = set(connection.execute(sa.select(files.c.name)).scalars())
    return any(file.temporary or (not file.prefix and file.name not in known) for file in folder.found())


def note_removals(connection: sa.Connection, names: Iterable[str], now: int) -> None:
    """Note, in the transaction that drops files from the log, that they are to be removed from the folder."""
    rows = [{"name": name, "noted_at": now} for name in dict.fromkeys(names)]
    if rows:
        connection.execute(removals.insert(), rows)


def pending_removals(connection: sa.Connection) -> list[str]:
    """The names of files that are still to be removed."""
    return list(connection.execute(_TO_REMOVE).scalars())


def forget_removals(connection: sa.Connection, names: Sequence[str]) -> None:
    """Note that files were removed."""
    for start in range(0, len(names), 500):
        connection.execute(removals.delete().where(removals.c.name.in_(names[start : start + 500])))


# compaction


def compact(
    connection: sa.Connection, folder: LogFolder, known: Shapes, names: Sequence[str] | None, position: int, now: int
) -> None:
    """Move the write buffer's rows of some views (None: all) into files, within a write transaction.

    Files are complete on the disk before the transaction ends, so that a crash leaves the buffer as it was and a file
    that nobody registered, which the next compaction removes. Rows that nothing can read are left out.

    Args:
        connection: the transaction.
        folder: of the files.
        known: the columns of batches.
        names: of the views.
        position: the log's last one.
        now: by the log's clock, microseconds.
    """
    sweep(connection, folder, position)
    noted = sa.select(files.c.view).where(files.c.damage == VALUES).distinct()
    for view in connection.execute(noted).scalars().all():
        if names is None or view in names:
            take_out_values(connection, folder, view, now)
    pending = connection.execute(sa.select(head.c.view).distinct()).scalars().all()
    for view in pending:
        if names is None or view in names:
            _compact_view(connection, folder, known, view, now)
    stale = log_files(connection, files.c.replaced_at < now - KEPT_AFTER_MERGE)
    if stale:
        note_removals(connection, (file.name for file in stale), now)
        drop_files(connection, stale)


def drop_files(connection: sa.Connection, some: Iterable[LogFile]) -> None:
    """Take files out of the log; their rows in `removals` or the folder are the caller's."""
    for file in some:
        connection.execute(files.delete().where(files.c.id == file.number))


def _compact_view(connection: sa.Connection, folder: LogFolder, known: Shapes, view: str, now: int) -> None:
    rows = buffered_rows(connection, view)
    tables, bad = read_batches(connection, known, rows)
    for shape, table in tables.items():
        try:
            _compact_shape(connection, folder, view, shape, table, now)
        except pa.ArrowException:
            mine = [row for row in rows if row.shape == shape]
            bad += _compact_one_by_one(connection, folder, known, view, mine)
    leave_out(connection, view, bad, now)
    compacted = max(row.last for row in rows)
    count = sum(row.rows for row in rows)
    connection.execute(head.delete().where(head.c.view == view))
    connection.execute(views.update().where(views.c.view == view).values(rolled=compacted))
    connection.execute(counter.update().values(head_rows=counter.c.head_rows - count))


def _compact_shape(
    connection: sa.Connection, folder: LogFolder, view: str, shape: int, table: pa.Table, now: int
) -> None:
    merged, replaced = _with_small_files(connection, folder, view, shape, table)
    register_file(connection, folder, view, shape, merged)
    if replaced:
        numbers = [file.number for file in replaced]
        connection.execute(files.update().where(files.c.id.in_(numbers)).values(replaced_at=now))


def _compact_one_by_one(
    connection: sa.Connection, folder: LogFolder, known: Shapes, view: str, rows: Sequence[Any]
) -> list[Unreadable]:
    """Where rows cannot be written together: each batch by itself, and those that Parquet cannot hold left out."""
    bad = []
    for row in rows:
        for shape, table in read_batches(connection, known, [row])[0].items():
            try:
                register_file(connection, folder, view, shape, table)
            except pa.ArrowException as error:
                bad.append(Unreadable.batch(row, f"Parquet cannot hold it: {error}"))
    return bad


def register_file(connection: sa.Connection, folder: LogFolder, view: str, shape: int, table: pa.Table) -> None:
    """Write stamped rows to a file and name it in the log."""
    stored = folder.write(view, table)
    first, last = span_of(table)
    arrived_from, arrived_to = arrivals_of(table)
    connection.execute(
        files.insert().values(
            view=view,
            shape=shape,
            name=stored.name,
            first=first,
            last=last,
            rows=table.num_rows,
            size=stored.size,
            checksum=stored.checksum,
            arrived_from=arrived_from,
            arrived_to=arrived_to,
        )
    )


def _with_small_files(
    connection: sa.Connection, folder: LogFolder, view: str, shape: int, table: pa.Table
) -> tuple[pa.Table, list[LogFile]]:
    """The rows with those of earlier small files, where these have become many; and the files they replace."""
    mine = (files.c.view == view, files.c.shape == shape, files.c.replaced_at.is_(None), files.c.damage.is_(None))
    small = log_files(connection, *mine, files.c.rows < SMALL_FILE_ROWS)
    if len(small) < FILES_TO_MERGE:
        return table, []
    tables, replaced = [table], []
    for file in small:
        try:
            earlier = folder.read(file.stored).cast(table.schema)
        except LogDamaged as bad:
            # it stays as it is: histories name it, and `verify` says how to go on
            note_damage(connection, file, str(bad))
            continue
        if unreadable_values(earlier) is not None:
            note_damage(connection, file, VALUES)
            continue
        tables.append(earlier)
        replaced.append(file)
    return pa.concat_tables(tables).sort_by(POSITION), replaced


def take_out_values(connection: sa.Connection, folder: LogFolder, view: str, now: int) -> None:
    """Rewrite those files of a view that were found to hold values that nothing can read, without these rows."""
    mine = (files.c.view == view, files.c.replaced_at.is_(None), files.c.damage == VALUES)
    gone: list[LogFile] = []
    for file in log_files(connection, *mine):
        try:
            table = folder.read(file.stored)
        except LogDamaged as bad:
            note_damage(connection, file, str(bad))
            continue
        unreadable = unreadable_values(table)
        if unreadable is None:
            note_damage(connection, file, None)
            continue
        mask, reason = unreadable
        leave_out(connection, view, [Unreadable.some(_chosen(table, mask), file.shape, reason)], now)
        if not mask.all():
            register_file(connection, folder, view, file.shape, _chosen(table, ~mask))
        gone.append(file)
    note_removals(connection, (file.name for file in gone), now)
    drop_files(connection, gone)


def _chosen(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    return table.filter(pa.array(mask)).combine_chunks()


def note_damage(connection: sa.Connection, file: LogFile, damage: str | None) -> None:
    """Note what is wrong with a file; None: nothing (any more)."""
    connection.execute(files.update().where(files.c.id == file.number).values(damage=damage))


def cut_file(folder: LogFolder, file: LogFile, until: int) -> pa.Table:
    """A file's rows up to a position.

    Raises:
        LogDamaged: the file is missing or damaged.
    """
    return between(folder.read(file.stored), 0, until)


def rewrite_files(
    connection: sa.Connection, folder: LogFolder, view: str, keep: Callable[[pa.Table], pa.Table], now: int
) -> list[str]:
    """Replace each file of a view by the rows that `keep` leaves; the old ones are noted as to be removed.

    Returns:
        What was wrong with files that cannot be read, which stay as they are.
    """
    gone: list[LogFile] = []
    unreadable: list[str] = []
    for file in log_files(connection, files.c.view == view):
        try:
            before = folder.read(file.stored)
        except LogDamaged as bad:
            if file.replaced_at is not None:
                gone.append(file)
            else:
                unreadable.append(str(bad))
            continue
        after = keep(before)
        if after.num_rows == before.num_rows:
            continue
        if after.num_rows and file.replaced_at is None:
            register_file(connection, folder, view, file.shape, after)
        gone.append(file)
    note_removals(connection, (file.name for file in gone), now)
    drop_files(connection, gone)
    return unreadable


def rewrite_aside(folder: LogFolder, view: str, keep: Callable[[pa.Table], pa.Table]) -> list[str]:
    """Take out of the files that are kept beside the log what `keep` does not leave; a damaged one goes altogether.

    Returns:
        What was wrong with files that could be neither read nor removed.
    """
    left: list[str] = []
    for file in list(folder.found()):
        if not file.prefix or file.view != view:
            continue
        try:
            before = folder.read(StoredFile(file.name))
            after = keep(before)
        except FileUnreachable as bad:
            left.append(str(bad))
            continue
        except LogDamaged:
            # nobody can tell whether it holds the keys
            before = after = None
        if before is not None and after.num_rows == before.num_rows:
            continue
        if after is not None and after.num_rows:
            folder.write(view, after, file.prefix)
        left += [f"{folder.path / name}: cannot be removed" for name in folder.remove([file.name])]
    return left
