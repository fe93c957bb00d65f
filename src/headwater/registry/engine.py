"""The engine of a registry's database: SQLite in a file or in memory, or a server."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool, QueuePool

from headwater import sql_transactions
from headwater.errors import ConfigError, MissingExtra, StoreReadOnly, Unavailable, needs_package
from headwater.sql_files import DatabaseFile, connect_immutable, connection_to, file_of, watch
from headwater.state_files import make_folder as make_folder_of
from headwater.urls import ESCAPED, scheme_of, without_password

MEMORY = "sqlite://"


def open_engine(url: str, folder: Path) -> sa.Engine:
    """The engine of a registry's database; nothing is connected yet.

    Args:
        url: an SQLAlchemy URL; a relative SQLite path is relative to `folder`; `sqlite://` lives in memory.
        folder: the project's folder.

    Raises:
        ConfigError: a URL that cannot be read.
        MissingExtra: its driver is not installed.
    """
    parsed = _parsed(url)
    if parsed is not None:
        try:
            with needs_package(parsed.drivername.rpartition("+")[2]):
                return _sqlite(parsed, folder) if _is_sqlite(parsed) else _server(parsed)
        except MissingExtra as missing:
            if not isinstance(missing.__cause__, sa.exc.ArgumentError | ValueError):
                raise
        except (sa.exc.ArgumentError, ValueError):
            pass
    # outside of any `except`: what SQLAlchemy says may hold the password
    raise ConfigError(
        f"[registry] url: {without_password(url)!r} is not a URL such as sqlite:///.headwater/registry.db "
        f"or postgresql+psycopg://user:password@host/db ({ESCAPED})"
    )


def _is_sqlite(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite"


_MAY_HAVE_AT = ("password", "sslpassword", "passfile", "user", "options", "service", "application_name")


def _parsed(url: str) -> sa.URL | None:
    """The parts of a URL; None where it is none, or an `@` shows that the end of its password was taken for a host."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return None
    if scheme_of(url).partition("+")[0] == "sqlite":
        return None if parsed.host or parsed.username else parsed
    if re.search(r"[?&]\w+=", parsed.password or ""):
        return None  # options, one of which holds an @
    values = (str(value) for name, value in parsed.query.items() if name not in _MAY_HAVE_AT)
    parts = (parsed.host or "", parsed.database or "", *parsed.query, *values)
    return None if any("@" in part for part in parts) else parsed


_QUICK = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""How libpq finds out, in seconds, that a server is out of reach; the URL's own options come first."""
_UNANSWERED = 30_000
"""How long (milliseconds) what was sent may stay unacknowledged before the connection counts as lost."""


def _server(url: sa.URL) -> sa.Engine:
    """An engine whose connections are tried before they are used, and wait for servers and others a bounded time."""
    if url.get_backend_name() != "postgresql":
        raise sa.exc.ArgumentError("no database that headwater knows")
    hidden = url.query.get("password")
    if isinstance(hidden, str):
        # where SQLAlchemy knows it for what it is
        url = url.set(password=hidden).difference_update_query(["password"])
    options = {**_QUICK, "tcp_user_timeout": _UNANSWERED} if url.get_driver_name() == "psycopg" else {}
    given = {name: value for name, value in options.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=sql_transactions.BUSY_SECONDS, connect_args=given)
    event.listen(engine, "connect", _bounded)
    return engine


def _bounded(connection: Any, _record: object) -> None:
    """Waiting for others' locks is bounded, and so is holding one for a host that stands still in mid-transaction."""
    wait = int(sql_transactions.BUSY_SECONDS * 1000)
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = {wait}; SET idle_in_transaction_session_timeout = {2 * wait}")
    cursor.close()
    connection.commit()


def _sqlite(url: sa.URL, folder: Path) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        # one connection, lent to one thread at a time
        kept = _Kept()
        engine = sa.create_engine(
            MEMORY,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            # threads take turns before they ask for it
            pool_timeout=1.0,
            creator=kept.connect,
        )
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "engine_disposed", lambda _: kept.close())
        return engine
    assert url.database is not None
    path = folder / url.database
    read_only = path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    file = file_of(path, read_only=read_only)
    if read_only:
        engine = sa.create_engine(
            url.set(database=str(path)), poolclass=NullPool, creator=lambda: _connect_read_only(file)
        )
    else:
        options = {"timeout": sql_transactions.BUSY_SECONDS, "check_same_thread": False, "factory": connection_to(file)}
        engine = sa.create_engine(url.set(database=str(path)), connect_args=options)
        event.listen(engine, "connect", _on_connect)
    watch(engine, file)
    return engine


class _Connection(sqlite3.Connection):
    """A connection whose database goes with it: a pool that gives it up, as after Ctrl-C, only undoes what is open."""

    def close(self) -> None:
        self.rollback()

    def end(self) -> None:
        super().close()


class _Kept:
    """The one connection of a database in memory."""

    def __init__(self) -> None:
        self._connection: _Connection | None = None

    def connect(self) -> _Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", check_same_thread=False, factory=_Connection)
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()


def exists(engine: sa.Engine) -> bool:
    """Whether there is a database to read; one that is no file of SQLite's is asked itself."""
    file = _file(engine)
    return file is None or file.exists()


def make_folder(engine: sa.Engine) -> None:
    """Make the folder of a SQLite file that is not there yet.

    Raises:
        StoreReadOnly: it cannot be made, or takes no files.
    """
    file = _file(engine)
    if file is None or file.exists():
        return
    try:
        make_folder_of(file.parent)
    except OSError as bad:
        raise StoreReadOnly(f"registry {file}: its folder cannot be made: {bad.strerror}") from bad
    if not os.access(file.parent, os.W_OK):
        raise StoreReadOnly(f"registry {file}: is not there, and its folder takes no writes")


def _file(engine: sa.Engine) -> Path | None:
    on_disk = engine.dialect.name == "sqlite" and engine.url.database
    return Path(engine.url.database or "") if on_disk else None


def _on_connect(connection: Any, _record: object) -> None:
    """SQLite alone: readers beside a writer, and waiting for other processes."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(sql_transactions.BUSY_SECONDS * 1000)}")
    _write_ahead(cursor)
    # what is removed is overwritten, so that no free page holds a key that was purged
    cursor.execute("PRAGMA secure_delete=ON")
    # pages are moved into the file once it was looked at, not by the commit that stands before that
    cursor.execute("PRAGMA wal_autocheckpoint=0")
    # opens the write-ahead log and its index: from here on they can be watched
    cursor.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch to the write-ahead log; SQLite does not wait for others at that, so that this does."""
    until = time.monotonic() + sql_transactions.BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as bad:
            if "locked" not in str(bad) or time.monotonic() > until:
                raise
            time.sleep(0.005)


def _connect_read_only(file: DatabaseFile) -> sqlite3.Connection:
    """A database in a folder where nothing can be written.

    Raises:
        Unavailable: a write that was interrupted has to be undone first, which takes a folder that can be written.
    """
    base = f"{file.path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(base, uri=True, timeout=sql_transactions.BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
        return connection
    except sqlite3.OperationalError:
        connection.close()
    if _size(file.path, "-journal"):
        raise Unavailable(
            f"registry {file.path}: an interrupted write has to be undone first: copy it and the file that ends "
            "in -journal into a folder that can be written, and open it there once"
        )
    # without an index of the log beside it nobody can be writing; SQLite can have one in memory, if it asks for no lock
    if _size(file.path, "-wal") and file.has_own_log():
        connection = sqlite3.connect(f"{base}&vfs=unix-none", uri=True, check_same_thread=False)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection
    return connect_immutable(file.path)


def _size(path: Path, end: str) -> int:
    try:
        return path.with_name(path.name + end).stat().st_size
    except OSError:
        return 0
