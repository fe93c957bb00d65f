"""Rolled files of the offline log: the head's rows as Parquet, small files merged, what nobody names removed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from headwater.clock import MAX_MICROS
from headwater.errors import FormatError, LogMismatch, StorageFull, StoreError, StoreReadOnly
from headwater.offline.base import POSITION
from headwater.offline.log_head import Shapes, between, decode_rows
from headwater.offline.log_tables import counter, files, folders, head, views

SMALL_FILE_ROWS = 100_000
FILES_TO_MERGE = 8
KEPT_AFTER_MERGE = 86_400_000_000
"""How long (microseconds) a merged file stays, for results that still read it."""

FORMAT = 1
"""The version of the files and of `log.json` beside them."""

_IDENTITY = "log.json"


class LogFolder:
    """The folder that holds one log's Parquet files."""

    def __init__(self, path: Path, log_id: str) -> None:
        self.path = path
        self._log_id = log_id
        self._prefix = f"log-{log_id[:8]}-"

    def check(self, mark: str | None) -> str | None:
        """Check that the folder is this log's own.

        Args:
            mark: the one that the registry knows; None: no folder was marked yet.

        Returns:
            The mark that lies in it; None: it has none yet.

        Raises:
            LogMismatch: another log's files are in it, or this log's are in another folder.
            FormatError: a newer headwater wrote it.
        """
        found = self._identity()
        if found.get("log_id", self._log_id) != self._log_id:
            raise LogMismatch(
                f"{self.path}: the folder belongs to offline log {found['log_id']}, the registry's is {self._log_id}; "
                "point [registry] url and [offline] log at the same log"
            )
        lies: str | None = found.get("folder")
        if mark is not None and lies != mark:
            raise LogMismatch(
                f"{self.path}: is not the folder of offline log {self._log_id} ({self._named(lies)}): every host that "
                "writes needs the same one as [offline] log; if it was moved or lost, bring it here, or back from its "
                f"backup, with the {_IDENTITY} in it"
            )
        return lies

    def _identity(self) -> dict[str, Any]:
        identity = self.path / _IDENTITY
        try:
            found: dict[str, Any] = json.loads(identity.read_text(encoding="utf-8")) if identity.exists() else {}
        except OSError as bad:
            raise _disk_error(self.path, bad) from bad
        except ValueError as bad:
            raise FormatError(f"{identity}: not written by headwater: {bad}") from bad
        if found.get("format", FORMAT) > FORMAT:
            raise FormatError(
                f"{identity}: format {found['format']}, this headwater reads up to {FORMAT}: upgrade headwater"
            )
        return found

    @staticmethod
    def _named(lies: str | None) -> str:
        return f"there is no {_IDENTITY} in it" if lies is None else f"its {_IDENTITY} bears another mark"

    def mark(self) -> str:
        """Make the folder where there is none, and mark it as this log's; the new mark."""
        mark = str(uuid.uuid4())
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as bad:
            raise _disk_error(self.path, bad) from bad
        content = {"format": FORMAT, "log_id": self._log_id, "folder": mark}
        self._publish(self.path / _IDENTITY, json.dumps(content).encode())
        return mark

    def write(self, view: str, table: pa.Table) -> str:
        """Write stamped rows to a new file, safe on the disk before it has its name.

        Returns:
            The file's name in the folder.
        """
        positions = table.column(POSITION)
        name = f"{self._prefix}{view}-{positions[0].as_py()}-{positions[-1].as_py()}-{uuid.uuid4().hex[:8]}.parquet"
        sink = pa.BufferOutputStream()
        marked = table.replace_schema_metadata({"headwater_log_format": str(FORMAT)})
        # a dictionary of numbers that hardly repeat costs more than the writing
        texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
        pq.write_table(marked, sink, compression="zstd", compression_level=1, use_dictionary=texts)
        self._publish(self.path / name, sink.getvalue())
        return name

    def _publish(self, target: Path, content: bytes | pa.Buffer) -> None:
        """Write under another name, make it durable, then give it its name."""
        unnamed = target.with_name(target.name + ".tmp")
        try:
            with unnamed.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unnamed.replace(target)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as bad:
            unnamed.unlink(missing_ok=True)
            raise _disk_error(self.path, bad) from bad

    def read(self, name: str) -> pa.Table:
        """The stamped rows of a file.

        Raises:
            StoreError: the file is not there, or damaged.
        """
        try:
            table = pq.read_table(self.path / name, partitioning=None)
        except (OSError, pa.ArrowException) as bad:
            raise StoreError(f"{self.path / name}: a file of the offline log cannot be read: {bad}") from bad
        return table.replace_schema_metadata(None)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already are no error."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def set_aside(self, head: int) -> int:
        """Give other names to files with positions after the head's, so that they are never taken for a crash's.

        Returns:
            The greatest position in them; 0 where there are none.
        """
        greatest = 0
        for file in self.path.glob(self._prefix + "*.parquet"):
            last = int(file.name.removesuffix(".parquet").split("-")[-2])
            if last > head:
                greatest = max(greatest, last)
                file.rename(file.with_name(f"restored-{file.name}"))
        return greatest

    def remove_unnamed(self, known: Iterable[str]) -> None:
        """Remove this log's files that a crash left unregistered; only while the log's write lock is held."""
        named = set(known)
        for file in self.path.glob(self._prefix + "*"):
            if file.name not in named:
                file.unlink(missing_ok=True)


def _disk_error(path: Path, bad: OSError) -> StoreError:
    if bad.errno in (28, 122):
        return StorageFull(f"{path}: no room left for the offline log; everything acknowledged before is kept")
    if bad.errno in (1, 13, 30):
        return StoreReadOnly(
            f"{path}: the offline log's folder takes no writes ({bad.strerror}); check its permissions"
        )
    return StoreError(f"{path}: the offline log's folder cannot be used: {bad}")


def hold_folder(connection: sa.Connection, folder: LogFolder) -> None:
    """Check, within a write transaction, that the folder is the one that all hosts use; the first one marks it.

    Raises:
        LogMismatch: it is another one.
        StorageFull, StoreReadOnly, StoreError: it takes no files.
    """
    known = connection.execute(sa.select(folders.c.id)).scalar_one_or_none()
    lies = folder.check(known)
    if known is None:
        connection.execute(folders.insert().values(id=lies or folder.mark()))


def roll_head(
    connection: sa.Connection, folder: LogFolder, known: Shapes, names: Sequence[str] | None, now: int
) -> None:
    """Move the head's rows of some views (None: all) into files, within a write transaction.

    Files are complete on the disk before the transaction ends, so that a crash leaves the head as it was and a file
    that nobody registered, which the next roll removes.
    """
    registered = connection.execute(sa.select(files.c.name)).scalars().all()
    folder.remove_unnamed(registered)
    pending = connection.execute(sa.select(head.c.view).distinct()).scalars().all()
    for view in pending:
        if names is None or view in names:
            _roll_view(connection, folder, known, view, now)
    stale = (
        connection.execute(sa.select(files.c.name).where(files.c.replaced_at < now - KEPT_AFTER_MERGE)).scalars().all()
    )
    if stale:
        connection.execute(files.delete().where(files.c.name.in_(stale)))
        folder.remove(stale)


def _roll_view(connection: sa.Connection, folder: LogFolder, known: Shapes, view: str, now: int) -> None:
    columns = (head.c.first, head.c.last, head.c.shape, head.c.rows, head.c.arrival, head.c.offsets, head.c.batch)
    rows = connection.execute(sa.select(*columns).where(head.c.view == view).order_by(head.c.first)).all()
    for shape, tables in decode_rows(connection, known, rows).items():
        merged, replaced = _with_small_files(connection, folder, view, shape, pa.concat_tables(tables))
        register_file(connection, folder, view, shape, merged)
        if replaced:
            connection.execute(files.update().where(files.c.name.in_(replaced)).values(replaced_at=now))
    rolled = max(row.last for row in rows)
    count = sum(row.rows for row in rows)
    connection.execute(head.delete().where(head.c.view == view))
    connection.execute(views.update().where(views.c.view == view).values(rolled=rolled))
    connection.execute(counter.update().values(head_rows=counter.c.head_rows - count))


def register_file(connection: sa.Connection, folder: LogFolder, view: str, shape: int, table: pa.Table) -> None:
    """Write stamped rows to a file and name it in the log."""
    name = folder.write(view, table)
    positions = table.column(POSITION)
    first, last = positions[0].as_py(), positions[-1].as_py()
    connection.execute(
        files.insert().values(view=view, shape=shape, name=name, first=first, last=last, rows=table.num_rows)
    )


def _with_small_files(
    connection: sa.Connection, folder: LogFolder, view: str, shape: int, table: pa.Table
) -> tuple[pa.Table, list[str]]:
    """The rows with those of earlier small files, where these have become many; and the files they replace."""
    small = (
        connection.execute(
            sa.select(files.c.name)
            .where(
                files.c.view == view,
                files.c.shape == shape,
                files.c.replaced_at.is_(None),
                files.c.rows < SMALL_FILE_ROWS,
            )
            .order_by(files.c.first)
        )
        .scalars()
        .all()
    )
    if len(small) < FILES_TO_MERGE:
        return table, []
    earlier = [folder.read(name).cast(table.schema) for name in small]
    return pa.concat_tables([*earlier, table]).sort_by(POSITION), list(small)


def live_files(connection: sa.Connection, view: str, until: int | None) -> list[Any]:
    """(shape, name, last position) of the files that hold a view's rows, in order."""
    query = (
        sa.select(files.c.shape, files.c.name, files.c.last)
        .where(
            files.c.view == view,
            files.c.replaced_at.is_(None),
            files.c.first <= (MAX_MICROS if until is None else until),
        )
        .order_by(files.c.first)
    )
    return list(connection.execute(query).all())


def cut_file(folder: LogFolder, name: str, until: int) -> pa.Table:
    """A file's rows up to a position."""
    return between(folder.read(name), 0, until)


def rewrite_files(
    connection: sa.Connection, folder: LogFolder, view: str, keep: Callable[[pa.Table], pa.Table]
) -> list[str]:
    """Replace each file of a view by the rows that `keep` leaves; the files to remove once that is committed."""
    query = sa.select(files.c.id, files.c.shape, files.c.name, files.c.replaced_at).where(files.c.view == view)
    gone: list[str] = []
    for number, shape, name, replaced_at in connection.execute(query).all():
        before = folder.read(name)
        after = keep(before)
        if after.num_rows == before.num_rows:
            continue
        if after.num_rows and replaced_at is None:
            register_file(connection, folder, view, shape, after)
        connection.execute(files.delete().where(files.c.id == number))
        gone.append(name)
    return gone
