"""Database: a registry's, in a SQLite file, in memory or on a server; SQLAlchemy is imported where it is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import forks
from headwater.database.files import DatabaseFile, file_of
from headwater.database.plain import PlainReads, Reads
from headwater.deferred import deferred
from headwater.errors import StoreReadOnly
from headwater.state_files import make_folder

if TYPE_CHECKING:
    import sqlalchemy as sa

    from headwater.database import connections, engine, transactions, watching
else:
    connections = deferred("headwater.database.connections")
    engine = deferred("headwater.database.engine")
    transactions = deferred("headwater.database.transactions")
    watching = deferred("headwater.database.watching")

_FILE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<path>[^?#%]+)")


class Database(forks.OfOneProcess):
    """A database; nothing is connected before it is used.

    Args:
        url: an SQLAlchemy URL; a relative SQLite path is relative to `folder`; `sqlite://` lives in memory.
        folder: the project's folder.

    Raises:
        ConfigError: a URL that cannot be read.
        MissingExtra: its driver is not installed.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._lock = forks.rlock()
        self._engine: sa.Engine | None = None
        self._closed = False
        named = _FILE.fullmatch(url)
        self.file: DatabaseFile | None = None
        """The file of a SQLite database that is not in memory."""
        if named is not None and named["path"] != ":memory:":
            self.file = file_of(folder / named["path"])
        else:
            made = self.engine
            if made.dialect.name == "sqlite" and made.url.database:
                self.file = file_of(Path(made.url.database))
        self._plain = None if self.file is None else PlainReads(self.file)

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's."""
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = engine.open_engine(self._url, self._folder)
                    if self._closed:
                        connections.close(self._engine)
        return self._engine

    @property
    def is_server(self) -> bool:
        """Whether others are asked for what is read, who may not answer."""
        return self.file is None and self.engine.dialect.name != "sqlite"

    @property
    def place(self) -> str:
        """Where it is, without its password."""
        return str(self.file.path) if self.file is not None else connections.place(self.engine)

    @property
    def generation(self) -> int:
        """How often the database was found in another file than before; 0 where it is not in a file.

        Raises:
            Unavailable, FormatError: the file is gone, or is not a whole database.
        """
        return 0 if self.file is None else self.file.check()

    def exists(self) -> bool:
        """Whether there is a database to read; one that is not a file of SQLite's is asked itself."""
        return self.file is None or self.file.path.exists()

    def make_folder(self) -> None:
        """Make the folder of a SQLite file that is not there yet.

        Raises:
            StoreReadOnly: it cannot be made, or is not writable.
        """
        if self.file is None or self.exists():
            return
        path = self.file.path
        try:
            make_folder(path.parent)
        except OSError as bad:
            raise StoreReadOnly(f"registry {path}: its folder cannot be created: {bad.strerror}") from bad
        if not os.access(path.parent, os.W_OK):
            raise StoreReadOnly(f"registry {path}: does not exist and its folder is not writable")

    @contextmanager
    def reads(self, what: str = "registry") -> Iterator[Reads]:
        """One transaction that sees a single state of the database, for plain statements.

        Args:
            what: whose data it is, for errors.

        Raises:
            Unavailable, FormatError: what the database said.
        """
        if self._plain is not None and self.exists():
            with self._plain.reading(what) as reads:
                yield reads
        else:
            with transactions.reading(self.engine, what) as connection:
                yield ReadsOf(connection)

    def close(self) -> None:
        """Close its connections for good; a transaction under way ends, another is refused."""
        with self._lock:
            self._closed = True
            made = self._engine
        if self._plain is not None:
            self._plain.close()
        if made is not None:
            connections.close(made)


class ReadsOf:
    """What a transaction of SQLAlchemy's reads; see `Reads`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.generation = watching.generation_of(connection)

    def rows(self, sql: str) -> Sequence[Any]:
        return self._connection.exec_driver_sql(sql).all()

    def has_table(self, name: str) -> bool:
        return transactions.has_table(self._connection, name)
