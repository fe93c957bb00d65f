"""Compacted files as parts of a slice of the offline log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from headwater.errors import LogDamaged, StoreError
from headwater.offline.base import ARRIVAL, POSITION, LogPart
from headwater.offline.log.files import LogFile, cut_file, live_files
from headwater.offline.log.folder import LogFolder
from headwater.offline.log.write_buffer import Shapes, as_columns


@dataclass(frozen=True)
class UnreadableFile:
    """A file of the log that cannot be read.

    Attributes:
        file: what the log knows of it.
        reason: what is wrong with it.
    """

    file: LogFile
    reason: str


def file_parts(
    connection: sa.Connection, folder: LogFolder | None, known: Shapes, view: str, until: int | None
) -> tuple[list[LogPart], list[UnreadableFile]]:
    """The parts of a view that are in compacted files, up to a position; and the files that cannot be read.

    Raises:
        StoreError: rows are in files, and no folder is set.
    """
    found = live_files(connection, view, until)
    if not found:
        return [], []
    if folder is None:
        raise StoreError(f"offline log of view {view!r}: its rows are in files, and no [offline] log folder is set")
    parts: list[LogPart] = []
    whole: dict[int, list[Path]] = {}
    unreadable: list[UnreadableFile] = []
    for file in found:
        try:
            if until is not None and file.last > until:
                parts.append(table_part(cut_file(folder, file, until)))
                continue
        except LogDamaged as bad:
            unreadable.append(UnreadableFile(file, str(bad)))
            continue
        # a file that was damaged is looked at closely: somebody may have put it back
        wrong = folder.missing(file.stored) or (folder.damage(file.stored) if file.damage else None)
        if wrong:
            unreadable.append(UnreadableFile(file, f"{folder.path / file.name}: {wrong}"))
        else:
            whole.setdefault(file.shape, []).append(folder.path / file.name)
    for shape, paths in whole.items():
        schema = _schema(connection, known, shape, paths)
        parts.append(LogPart(as_columns(schema), files=tuple(paths), schema=schema))
    return parts, unreadable


def table_part(table: pa.Table) -> LogPart:
    """Rows in memory as a part."""
    schema = _users_columns(table.schema)
    return LogPart(as_columns(schema), table, schema=schema)


def unreadable_error(view: str, unreadable: list[UnreadableFile]) -> LogDamaged:
    """What a history says of files that it cannot read: which rows these are, and how to go on."""
    lines = [f"{bad.reason}; {described(bad.file)}" for bad in unreadable]
    names = " ".join(f"--forget {bad.file.name}" for bad in unreadable)
    return LogDamaged(
        f"the offline log of view {view!r} is incomplete: {'; '.join(lines)}. Restore "
        f"{'it' if len(unreadable) == 1 else 'them'} from a backup of the folder ([offline] log must be the one that "
        f"all hosts write to), or continue without: headwater verify {names}"
    )


def described(file: LogFile) -> str:
    """Which rows a file holds."""
    span = f"position {file.first}" if file.first == file.last else f"positions {file.first} to {file.last}"
    return f"it held {file.rows:,} row{'' if file.rows == 1 else 's'} ({span})"


def _schema(connection: sa.Connection, known: Shapes, shape: int, paths: list[Path]) -> pa.Schema:
    try:
        return known.schema(connection, shape)
    except ValueError:
        return _users_columns(pq.read_schema(paths[0]))


def _users_columns(schema: pa.Schema) -> pa.Schema:
    return pa.schema([column for column in schema if column.name not in (POSITION, ARRIVAL)])
