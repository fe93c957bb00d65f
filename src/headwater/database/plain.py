"""Reads of a SQLite file without SQLAlchemy, whose import takes longer than all else that a serving process does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from headwater import forks
from headwater.database import sqlite
from headwater.database.files import DatabaseFile, connection_to
from headwater.deferred import deferred
from headwater.errors import Unavailable, was_closed

if TYPE_CHECKING:
    from headwater.database import said
else:
    said = deferred("headwater.database.said")

_TRIES = 20


class Reads(Protocol):
    """A transaction that sees a single state of a database.

    Attributes:
        generation: how often the database was found in another file than before.
    """

    generation: int

    def rows(self, sql: str) -> Sequence[Any]:
        """The rows of a query without parameters; their columns are attributes."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether there is a table."""
        ...


class _Transaction:
    """What one transaction reads; see `Reads`."""

    def __init__(self, connection: sqlite3.Connection, generation: int) -> None:
        self._connection = connection
        self.generation = generation

    def rows(self, sql: str) -> Sequence[Any]:
        with closing(self._connection.execute(sql)) as cursor:
            names = [column[0] for column in cursor.description]
            return [SimpleNamespace(**dict(zip(names, values, strict=True))) for values in cursor]

    def has_table(self, name: str) -> bool:
        return any(row.name == name for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'"))


class PlainReads(forks.OfOneProcess):
    """One connection to a SQLite file, for reads alone; those of several threads take turns.

    Args:
        file: the database's; it is there.
    """

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._place = str(file.path)
        self._lock = forks.rlock()
        self._connection: sqlite3.Connection | None = None
        self._generation = 0
        self._seen = self._closed = False
        forks.after_fork(self, PlainReads._in_child, before=PlainReads._before)

    @contextmanager
    def reading(self, what: str) -> Iterator[Reads]:
        """One transaction.

        Args:
            what: whose data it is, for errors.

        Raises:
            Unavailable, FormatError: what the database said; it was closed, or cannot be used in this process.
        """
        try:
            with self._lock, sqlite.transactions.one():
                self._check(what)
                connection = self._opened(what)
                connection.execute("BEGIN")
                try:
                    yield _Transaction(connection, self._generation)
                finally:
                    connection.rollback()
        except sqlite3.Error as bad:
            refused = isinstance(bad, (sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.NotSupportedError))
            raise said.store_error(f"{what} {self._place}", str(bad), refused=refused) from bad

    def close(self) -> None:
        """Close the connection for good; a transaction under way ends first."""
        with self._lock:
            self._closed = True
            self._end()

    def _check(self, what: str) -> None:
        if self._closed:
            raise was_closed(f"{what} {self._place}: was closed")
        sqlite.check_not_lost(self._place, what)

    def _opened(self, what: str) -> sqlite3.Connection:
        """The connection, to the file that is there now."""
        for _ in range(_TRIES):
            if self._connection is None:
                self._connect()
            if self._connection is not None:
                if self._generation == self._file.check():
                    return self._connection
                self._end()
        raise Unavailable(f"{what} {self._place}: the database file keeps being replaced; try again")

    def _connect(self) -> None:
        self._file.begin(seen=self._seen)
        before = self._file.identity()
        if self._file.read_only:
            connection = sqlite.connect_read_only(self._file)
        else:
            connection = sqlite3.connect(
                self._place,
                timeout=sqlite.BUSY_SECONDS,
                check_same_thread=False,
                isolation_level=None,
                factory=connection_to(self._file),
            )
            sqlite.prepare(connection)
        self._generation = self._file.opened(connection, before)
        self._seen, self._connection = True, connection

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._file.closed(connection)
            connection.close()

    def _before(self) -> None:
        if sqlite.transactions.shut:
            self._end()

    def _in_child(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if sqlite.transactions.alone:
            # a program that forks without Python's knowledge left it open: it is idle, and counted in SQLite's tables
            connection.close()
        else:
            sqlite.lost_files.add(self._place)
            forks.abandon(connection)
