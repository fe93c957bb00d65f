"""SQLAlchemy's connections to a SQLite file: used while the file is theirs, their write transactions counted."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from headwater.database.files import Count, DatabaseFile, next_stamp
from headwater.errors import StoreError, StoreReadOnly, Unavailable

CHECKPOINT = 4 << 20
"""Bytes of a write-ahead log from which its pages are moved into the file."""

_GENERATION = "headwater_generation"
_by_engine: weakref.WeakKeyDictionary[sa.Engine, DatabaseFile] = weakref.WeakKeyDictionary()


def watch(engine: sa.Engine, file: DatabaseFile) -> None:
    """Let an engine's connections be used only as long as the file is the one that they have open."""
    _by_engine[engine] = file
    here = threading.local()
    seen = False

    def begin(*_: Any) -> None:
        file.begin(seen=seen)
        here.identity = file.identity()

    def opened(connection: Any, record: Any) -> None:
        nonlocal seen
        seen = True
        record.info[_GENERATION] = file.opened(connection, getattr(here, "identity", None))

    def checkout(_: Any, record: Any, __: Any) -> None:
        if record.info.get(_GENERATION) != file.check():
            raise sa.exc.InvalidatePoolError(f"{file.path}: was replaced by another file")

    def closed(connection: Any, _: Any) -> None:
        file.closed(connection)

    event.listen(engine, "do_connect", begin)
    event.listen(engine, "connect", opened)
    event.listen(engine, "checkout", checkout)
    event.listen(engine, "close", closed)


def generation(engine: sa.Engine) -> int:
    """How often an engine's database was found to be in another file than before; 0 where it is not in a file.

    Raises:
        Unavailable, FormatError: the file is gone, or is not a whole database.
    """
    file = _by_engine.get(engine)
    return 0 if file is None else file.check()


def generation_of(connection: sa.Connection) -> int:
    """The generation of the database that a transaction sees."""
    found: int = connection.info.get(_GENERATION, 0)
    return found


class Counting:
    """Counts up a database's number in a write transaction that was just begun, if that changes anything.

    Args:
        connection: the transaction's; one to a database that is not in a file is left as it is.

    Raises:
        StoreReadOnly: the file was made read-only.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._file = _by_engine.get(connection.engine)
        self._number = 0
        if self._file is not None:
            if not self._file.is_writable():
                # whoever has it open could go on writing to it
                raise StoreReadOnly(
                    f"{self._file.path}: was made read-only while it was open; nothing was changed: check the "
                    "permissions of the file"
                )
            raw: Any = connection.connection.driver_connection
            self._raw = raw
            self._rows, self._schema = int(raw.total_changes), self._pragma("schema_version")
            self._before = Count(self._pragma("application_id"), self._pragma("user_version"))
            self._generation = generation_of(connection)

    def _pragma(self, what: str) -> int:
        try:
            # not by SQLAlchemy, which takes longer than the rest of a small transaction
            found = self._raw.execute(f"PRAGMA {what}").fetchone()
        except sqlite3.Error as bad:
            raise sa.exc.OperationalError(f"PRAGMA {what}", None, bad) from bad
        return 0 if found is None else int(found[0])

    def count(self) -> None:
        """Just before the commit."""
        # tables that were made or changed are not among the rows that SQLite counts
        if self._file is None:
            return
        if self._raw.total_changes == self._rows and self._pragma("schema_version") == self._schema:
            return
        self._number = self._before.number + 1
        self._pragma(f"user_version = {self._number}")
        self._pragma(f"application_id = {next_stamp(self._before.lineage)}")

    def check(self) -> None:
        """Just after the commit.

        Raises:
            Unavailable: the file was removed or replaced meanwhile, so that what was written may be lost.
        """
        if self._file is None or not self._number:
            return
        self._file.wrote(self._number, self._generation)
        lost = "what was just written may be lost: check before writing it again"
        try:
            kept = self._file.check() == self._generation
        except StoreError as bad:
            raise Unavailable(f"{bad}; {lost}") from bad
        if not kept:
            raise Unavailable(f"{self._file.path}: the database was replaced during the write; {lost}")
        if self._file.log_size() >= CHECKPOINT:
            # as SQLite does by itself: whoever reads an older state keeps its pages in the log. What was written is
            # safe there, also where the file cannot take it now
            with suppress(sa.exc.DBAPIError):
                self._connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            self._connection.rollback()
