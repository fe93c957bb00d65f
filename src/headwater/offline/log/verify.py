"""Whether an offline log is whole: its files, the batches of the write buffer, its tombstones; and going on without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from headwater.errors import StoreError, UsageError, brief, nearest
from headwater.offline.base import POSITION, LeftOut
from headwater.offline.log.files import (
    VALUES,
    LogFile,
    drop_files,
    log_files,
    note_damage,
    pending_removals,
)
from headwater.offline.log.folder import GIVEN_UP, FoundFile, LogFolder, span_of
from headwater.offline.log.left_out import Unreadable, all_left_out, read_batches, stored_key, unreadable_values
from headwater.offline.log.tables import deletes, files, folders, head, left_out
from headwater.offline.log.write_buffer import Shapes, buffered_rows

_BATCHES = 100
_ROWS = 65_536


@dataclass(frozen=True)
class LogDamage:
    """Something in the offline log that cannot be read.

    Attributes:
        kind: `file`, `rows` (of a file or the write buffer, of values that nothing can read), `batch` (of the write
            buffer), `tombstone`, `folder`.
        view: whose; empty for the folder.
        name: of the file; empty for others.
        reason: what is wrong.
        rows: how many rows of the log that are.
        first, last: the positions of the first and last of them.
        arrived_from, arrived_to: they arrived between these instants, microseconds; None: not known.
    """

    kind: str
    view: str
    name: str
    reason: str
    rows: int = 0
    first: int = 0
    last: int = 0
    arrived_from: int | None = None
    arrived_to: int | None = None


@dataclass
class LogCheck:
    """What a check of the log came to.

    Attributes:
        damaged: what cannot be read.
        files, file_bytes, file_rows: compacted files, their bytes and rows.
        buffered: rows in the write buffer.
        tombstones: deletes whose keys are in clear.
        left_out: what histories and runs go on without already.
        set_aside: files in the folder that are kept beside the log.
        foreign: names of files in the folder that headwater did not write.
        to_remove: names of files that are still to be removed.
    """

    damaged: list[LogDamage] = field(default_factory=list)
    files: int = 0
    file_bytes: int = 0
    file_rows: int = 0
    buffered: int = 0
    tombstones: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    set_aside: list[FoundFile] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    to_remove: list[str] = field(default_factory=list)


def check_database(connection: sa.Connection, known: Shapes, check: LogCheck) -> None:
    """Check what is in the database: the write buffer and the tombstones. Bounded memory."""
    for view in connection.execute(sa.select(head.c.view).distinct().order_by(head.c.view)).scalars().all():
        for rows in _buffer_batches(connection, view):
            check.buffered += sum(row.rows for row in rows)
            for bad in read_batches(connection, known, rows)[1]:
                check.damaged.append(_unreadable(view, bad))
    check.damaged += _bad_tombstones(connection, known, check)
    check.left_out = all_left_out(connection)
    check.to_remove = pending_removals(connection)


def _buffer_batches(connection: sa.Connection, view: str) -> Iterator[Sequence[sa.Row[tuple[int, ...]]]]:
    after = 0
    while True:
        firsts = sa.select(head.c.first).where(head.c.view == view, head.c.first > after).order_by(head.c.first)
        found = list(connection.execute(firsts.limit(_BATCHES)).scalars())
        if not found:
            return
        yield buffered_rows(connection, view, head.c.first > after, head.c.first <= found[-1])
        after = found[-1]


def _unreadable(view: str, bad: Unreadable) -> LogDamage:
    span = (bad.rows, bad.first, bad.last, bad.arrived_from, bad.arrived_to)
    return LogDamage(bad.kind, view, "", bad.reason, *span)


def _bad_tombstones(connection: sa.Connection, known: Shapes, check: LogCheck) -> Iterator[LogDamage]:
    after = 0
    columns = (deletes.c.id, deletes.c.view, deletes.c.position, deletes.c.through, deletes.c.shape, deletes.c.key)
    while True:
        query = sa.select(*columns).where(deletes.c.id > after).order_by(deletes.c.id).limit(_BATCHES * 10)
        found = connection.execute(query).all()
        if not found:
            return
        for row in found:
            check.tombstones += 1
            if stored_key(connection, known, row.shape, row.key) is None:
                reason = "its key cannot be read; it is applied by the digest of the key"
                yield LogDamage("tombstone", row.view, "", reason, 0, row.position, row.position, row.through)
        after = found[-1].id


def check_folder(mark: str | None, folder: LogFolder, check: LogCheck) -> None:
    """Check the folder itself, and say what else is in it."""
    try:
        folder.check(mark)
        found = list(folder.found())
        check.foreign = folder.foreign()
    except StoreError as bad:
        check.damaged.append(LogDamage("folder", "", "", str(bad)))
        return
    check.set_aside = sorted((file for file in found if file.prefix), key=lambda file: file.name)


def folder_mark(connection: sa.Connection) -> str | None:
    """The mark of the folder that all hosts use; None: none was marked yet."""
    return connection.execute(sa.select(folders.c.id)).scalar_one_or_none()


def check_file(folder: LogFolder, file: LogFile) -> LogDamage | None:
    """What is wrong with a compacted file: its bytes, its content, or values in it. Bounded memory."""
    span = (file.rows, file.first, file.last, file.arrived_from, file.arrived_to)
    wrong = folder.damage(file.stored)
    if wrong is None:
        rows, bad = 0, 0
        spans: list[tuple[int, int]] = []
        ends: list[int] = []
        reason = ""
        try:
            with pq.ParquetFile(folder.path / file.name) as opened:
                for batch in opened.iter_batches(batch_size=_ROWS):
                    table = pa.Table.from_batches([batch])
                    positions = table.column(POSITION)
                    rows += len(positions)
                    spans.append(span_of(table))
                    ends += [positions[0].as_py(), positions[-1].as_py()]
                    unreadable = unreadable_values(table)
                    if unreadable is not None:
                        bad += int(unreadable[0].sum())
                        reason = reason or unreadable[1]
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            wrong = f"is damaged ({brief(str(error))})"
        else:
            first, last = min((low for low, _ in spans), default=0), max((high for _, high in spans), default=0)
            # earlier releases noted the positions of the first and the last row
            noted = [(first, last), (ends[0], ends[-1]) if ends else (0, 0)]
            if rows != file.rows or (file.first, file.last) not in noted:
                wrong = f"holds {rows:,} rows at positions {first} to {last}, not those that were written"
            elif bad:
                return LogDamage("rows", file.view, file.name, reason, bad, *span[1:])
    return None if wrong is None else LogDamage("file", file.view, file.name, wrong, *span)


def with_arrivals(damage: LogDamage, others: Iterable[LogFile]) -> LogDamage:
    """What is known of when the rows of a file of an earlier release arrived: between those of its neighbours."""
    if damage.kind != "file" or damage.arrived_from is not None:
        return damage
    before = [f.arrived_to for f in others if f.view == damage.view and f.last < damage.first and f.arrived_to]
    behind = [f.arrived_from for f in others if f.view == damage.view and f.first > damage.last and f.arrived_from]
    return replace(damage, arrived_from=max(before, default=None), arrived_to=min(behind, default=None))


def note_damaged(connection: sa.Connection, found: Iterable[tuple[LogFile, LogDamage | None]]) -> None:
    """Note what is wrong with files, and what is not any more, so that readers look closely at those alone."""
    for file, damage in found:
        noted = None if damage is None else VALUES if damage.kind == "rows" else damage.reason
        if noted != file.damage:
            note_damage(connection, file, noted)


def give_up(connection: sa.Connection, folder: LogFolder, names: Sequence[str], now: int) -> list[LogFile]:
    """Let the log go on without files that are damaged or missing, and note which rows these are.

    A file that is there keeps its bytes under another name (`forgotten-…`), which is not part of the log.

    Raises:
        UsageError: a name that is not a file of the log, or one that is whole.
    """
    live = {file.name: file for file in log_files(connection, files.c.replaced_at.is_(None))}
    chosen: list[tuple[LogFile, str]] = []
    for name in dict.fromkeys(names):
        file = live.get(name.rpartition("/")[2])
        if file is None:
            raise UsageError(f"{brief(name)} is not a file of the offline log{nearest(name, live)}")
        damage = check_file(folder, file)
        if damage is None or damage.kind == "rows":
            raise UsageError(f"{file.name}: is intact: only damaged or missing files can be given up")
        chosen.append((file, damage.reason))
    for file, reason in chosen:
        found = next((f for f in folder.found() if f.name == file.name), None)
        if found is not None:
            folder.rename(found, GIVEN_UP)
        connection.execute(
            left_out.insert().values(
                view=file.view,
                kind="file",
                name=file.name,
                first=file.first,
                last=file.last,
                rows=file.rows,
                arrived_from=file.arrived_from,
                arrived_to=file.arrived_to,
                reason=reason,
                noted_at=now,
            )
        )
    drop_files(connection, [file for file, _ in chosen])
    return [file for file, _ in chosen]
