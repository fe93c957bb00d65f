"""What an erasure leaves to do once it is committed: files of the folder, SQLite's free pages and write-ahead log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from headwater.database import sqlite, transactions
from headwater.database.connections import connected
from headwater.errors import StoreError
from headwater.offline.log.files import forget_removals, pending_removals
from headwater.offline.log.folder import LogFolder
from headwater.offline.log.tables import reading, writing

_WHAT = "offline log in"
_WAIT_SECONDS = 2
"""How long cleaning waits for other connections: what it leaves to do, the next run does."""


def remove_pending(engine: sa.Engine, folder: LogFolder | None) -> list[str]:
    """Remove the files that earlier transactions left to be removed.

    Returns:
        What is in the way of those that are still there.
    """
    with reading(engine) as connection:
        names = pending_removals(connection)
    if not names:
        return []
    if folder is None:
        return [f"{len(names)} files of the offline log are to be removed, and no [offline] log folder is set"]
    left = set(folder.remove(names))
    done = [name for name in names if name not in left]
    if done:
        with writing(engine) as connection:
            forget_removals(connection, done)
    return [f"{folder.path / name}: cannot be removed; check the folder's permissions" for name in sorted(left)]


def overwrite_free_pages(engine: sa.Engine) -> str | None:
    """Rewrite a SQLite database, without the pages that deleted rows were in; `empty_wal` follows.

    Returns:
        What is in the way: another connection that writes; None: nothing.
    """
    if engine.dialect.name != "sqlite":
        return None
    try:
        with _impatient(engine) as connection:
            connection.exec_driver_sql("VACUUM")
    except StoreError as bad:
        return f"free pages of the database cannot be overwritten yet: {bad}"
    return None


def empty_wal(engine: sa.Engine) -> str | None:
    """Empty the write-ahead log of a SQLite database into it: it holds older states of its pages.

    Returns:
        What is in the way: another connection that reads or writes; None: the log is empty.
    """
    if engine.dialect.name != "sqlite":
        return None
    try:
        with _impatient(engine) as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
    except StoreError as bad:
        return f"the write-ahead log of the database cannot be emptied yet: {bad}"
    if busy:
        where = transactions.place(engine)
        return f"{where}: its write-ahead log cannot be emptied yet, since another connection uses the database"
    return None


@contextmanager
def _impatient(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection outside of transactions that waits for others for a moment only."""
    with transactions.translated(engine, _WHAT), connected(engine, _WHAT) as pooled:
        connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_WAIT_SECONDS * 1000}")
        try:
            yield connection
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(sqlite.BUSY_SECONDS * 1000)}")
