"""Compacted files as parts of a slice of the offline log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
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
    whole: dict[int, list[LogFile]] = {}
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
            whole.setdefault(file.shape, []).append(file)
    for shape, files in whole.items():
        paths = [folder.path / file.name for file in files]
        schema = _schema(connection, known, shape, paths)
        spans = tuple((file.first, file.last, file.rows) for file in files)
        parts.append(LogPart(as_columns(schema), files=tuple(paths), schema=schema, spans=spans))
    return parts, unreadable


def table_part(table: pa.Table) -> LogPart:
    """Rows in memory as a part."""
    schema = _users_columns(table.schema)
    return LogPart(as_columns(schema), table, schema=schema)


def between_positions(part: LogPart, after: int, through: int) -> LogPart | None:
    """A part without the files that have no row with after < position ≤ through; None: it has no other."""
    if part.table is not None:
        return part
    some = [i for i, (first, last, _) in enumerate(part.spans) if last > after and first <= through]
    if len(some) == len(part.files):
        return part
    files, spans = tuple(part.files[i] for i in some), tuple(part.spans[i] for i in some)
    return replace(part, files=files, spans=spans) if some else None


def rows_after(part: LogPart, position: int) -> int:
    """How many rows of a part have later positions; files are read only where some of their rows have, and others not.

    Of a file that cannot be read it is at most as many as positions are left in it.
    """
    count = 0 if part.table is None else int(np.sum(part.table.column(POSITION).to_numpy() > position))
    for path, (first, last, rows) in zip(part.files, part.spans, strict=True):
        if first > position:
            count += rows
        elif last > position:
            try:
                positions = pq.read_table(path, columns=[POSITION], partitioning=None).column(POSITION).to_numpy()
                count += int(np.sum(positions > position))
            except (OSError, pa.ArrowException):
                count += min(rows, last - position)
    return count


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
