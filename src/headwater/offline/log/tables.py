"""Tables of the offline log in the registry's database, their migrations, and the two kinds of transaction on them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.database.table_sets import TableSet
from headwater.offline.log.migrations import MIGRATIONS

_WHAT = "offline log in"
"""What errors say of the database."""

metadata = sa.MetaData()

formats = sa.Table("log_format", metadata, sa.Column("version", sa.Integer, nullable=False))

counter = sa.Table(
    "log_counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("log_id", sa.String(36), nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("head_rows", sa.BigInteger, nullable=False),
    sa.Column("clock", sa.BigInteger, nullable=False),
    sa.Column("generation", sa.String(36), nullable=False),
)
"""One row; `clock`: the least that the log's clock may say; `generation`: random, another one after a restore."""

views = sa.Table(
    "log_views",
    metadata,
    sa.Column("view", sa.String(255), primary_key=True),
    sa.Column("arrival", sa.BigInteger, nullable=False),
    sa.Column("through", sa.BigInteger, nullable=False),
    sa.Column("rolled", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("purges", sa.Integer, nullable=False),
)

shapes = sa.Table(
    "log_shapes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("schema", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("view", "columns"),
)

head = sa.Table(
    "log_head",
    metadata,
    sa.Column("first", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("shape", sa.Integer, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("arrival", sa.BigInteger, nullable=False),
    sa.Column("offsets", sa.LargeBinary),
    sa.Column("batch", sa.LargeBinary, nullable=False),
    sa.Index("log_head_view", "view", "first"),
)

files = sa.Table(
    "log_files",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("shape", sa.Integer, nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("replaced_at", sa.BigInteger),
    sa.Column("size", sa.BigInteger),
    sa.Column("checksum", sa.LargeBinary),
    sa.Column("arrived_from", sa.BigInteger),
    sa.Column("arrived_to", sa.BigInteger),
    sa.Column("damage", sa.Text),
    sa.Index("log_files_view", "view"),
)
"""Compacted files. `size` (bytes), `checksum` and the range of arrivals: NULL in rows of earlier releases; `damage`:
what was wrong with the file when it was read last."""

removals = sa.Table(
    "log_removals",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
)
"""Files of the folder that no transaction needs any more: noted in the one that dropped them, then removed."""

left_out = sa.Table(
    "log_left_out",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("arrived_from", sa.BigInteger),
    sa.Column("arrived_to", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
    sa.Column("shape", sa.Integer),
    sa.Column("content", sa.LargeBinary),
    sa.Index("log_left_out_view", "view"),
)
"""Rows that histories and runs go on without. `kind`: `file` (given up by somebody, `name` is the file's), `rows` (of
values that nothing can read; `content`: as Arrow IPC) or `batch` (that cannot be decoded; `content`: its bytes)."""

deletes = sa.Table(
    "log_deletes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("through", sa.BigInteger, nullable=False),
    sa.Column("shape", sa.Integer, nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("hides_before", sa.BigInteger),
    sa.Index("log_deletes_view", "view", "digest"),
    sa.Index("log_deletes_position", "view", "position"),
)

purges = sa.Table(
    "log_purges",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("through", sa.BigInteger, nullable=False),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Column("erased_at", sa.BigInteger),
    sa.Column("hides_before", sa.BigInteger),
    sa.Index("log_purges_view", "view", "digest"),
    sa.Index("log_purges_position", "view", "position"),
)

requests = sa.Table(
    "log_requests",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("request", sa.LargeBinary, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("view", sa.String(255), nullable=False),
    sa.Column("after_position", sa.BigInteger, nullable=False),
    sa.Column("positions", sa.BigInteger, nullable=False),
    sa.Column("arrival", sa.BigInteger, nullable=False),
    sa.Column("places", sa.LargeBinary, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
    sa.Index("log_requests_noted", "noted_at"),
)
"""Writes and deletes with a key of their sender's, which are done once; by digests, kept for a day."""

folders = sa.Table("log_folder", metadata, sa.Column("id", sa.String(36), primary_key=True))
"""The mark of the folder that holds the log's files; no row until a folder was marked."""

gaps = sa.Table(
    "log_gaps",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("lo", sa.BigInteger, nullable=False),
    sa.Column("hi", sa.BigInteger, nullable=False),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
)
"""Positions lo < p ≤ hi were given by a registry that was then restored from an older copy."""


_TABLES = TableSet(_WHAT, MIGRATIONS)
migrate, writing, reading = _TABLES.migrate, _TABLES.writing, _TABLES.reading
_VIEW = sa.select(views.c.rolled, views.c.epoch, views.c.purges).where(views.c.view == sa.bindparam("of_view"))


def overwrite_removed(connection: sa.Connection) -> None:
    """Let what this connection removes be overwritten, so that nothing of it stays in SQLite's free pages."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def view_state(connection: sa.Connection, view: str) -> Any:
    """(arrival, through, rolled, epoch, purges) of a view, made where there is none: in a write transaction."""
    query = sa.select(views.c.arrival, views.c.through, views.c.rolled, views.c.epoch, views.c.purges).where(
        views.c.view == view
    )
    found = connection.execute(query).one_or_none()
    if found is None:
        connection.execute(
            views.insert().values(view=view, arrival=MIN_MICROS, through=MIN_MICROS, rolled=0, epoch=0, purges=0)
        )
        found = connection.execute(query).one()
    return found


def view_of(connection: sa.Connection, view: str) -> tuple[int, int, int]:
    """Of a view: up to which position it is compacted, its epoch, and how many purges it has."""
    found = connection.execute(_VIEW, {"of_view": view}).one_or_none()
    return (0, 0, 0) if found is None else (int(found.rolled), int(found.epoch), int(found.purges))


def earliest_of(state: Any) -> int:
    """The least arrival by what a process of an earlier release, still running, noted with its view alone."""
    return int(max(state.arrival, state.through + 1))


def rewritten(connection: sa.Connection, view: str) -> None:
    """Note that rows of a view were changed: what processes have read of its write buffer is void."""
    connection.execute(views.update().where(views.c.view == view).values(epoch=views.c.epoch + 1))


def rows_by_shape(connection: sa.Connection, view: str) -> dict[int, int]:
    """How many of a view's rows have each shape, in the head and in files."""
    found: dict[int, int] = {}
    live = (files.c.view == view) & files.c.replaced_at.is_(None)
    for table, condition in ((head, head.c.view == view), (files, live)):
        count = sa.func.sum(table.c.rows)
        for row in connection.execute(sa.select(table.c.shape, count).where(condition).group_by(table.c.shape)):
            found[row.shape] = found.get(row.shape, 0) + int(row[1])
    return found


def rows_after(connection: sa.Connection, view: str, position: int) -> int:
    """How many of a view's rows lie after a position, in the head and in files."""
    after = sa.func.coalesce(sa.func.sum(head.c.rows), 0)
    found = int(connection.execute(sa.select(after).where(head.c.view == view, head.c.first > position)).scalar_one())
    live = (files.c.view == view) & files.c.replaced_at.is_(None) & (files.c.last > position)
    for file in connection.execute(sa.select(files.c.last, files.c.rows).where(live)):
        # a file that begins before the position holds at most as many rows after it as there are positions
        found += min(file.rows, file.last - position)
    return found
