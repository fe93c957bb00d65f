"""The engine of a registry's database: SQLite in a file or in memory, or a server."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool, QueuePool

from headwater.database import sqlite
from headwater.database.files import connection_to, file_of
from headwater.database.watching import watch
from headwater.deferred import deferred
from headwater.errors import ConfigError, MissingExtra, needs_package
from headwater.urls import ESCAPED, scheme_of, without_password

if TYPE_CHECKING:
    from headwater.database import postgres
else:
    postgres = deferred("headwater.database.postgres")

MEMORY = "sqlite://"


class _Compiled(sa.util.LRUCache[Any, Any]):
    """Statements as SQLAlchemy compiled them, shared by all SQLite engines of a process: whoever opens many stores, as
    tests do, compiles each once. SQLAlchemy's own keys name the engine's dialect, of which each engine has another.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_of_any_engine(key), compiled)


def _of_any_engine(key: Any) -> Any:
    return tuple(type(part) if isinstance(part, sa.Dialect) else part for part in key)


_SHARED = {"compiled_cache": _Compiled(500)}


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
    if parsed.drivername == "postgresql":
        # SQLAlchemy 2.0 would take psycopg2
        parsed = parsed.set(drivername="postgresql+psycopg")
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
        raise sa.exc.ArgumentError("a database that headwater does not support")
    hidden = url.query.get("password")
    if isinstance(hidden, str):
        # where SQLAlchemy knows it for what it is
        url = url.set(password=hidden).difference_update_query(["password"])
    options = {**_QUICK, "tcp_user_timeout": _UNANSWERED} if url.get_driver_name() == "psycopg" else {}
    given = {name: value for name, value in options.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=sqlite.BUSY_SECONDS, connect_args=given)
    event.listen(engine, "connect", _bounded)
    if options:
        event.listen(engine, "do_connect", lambda *given: postgres.connect(*given))
    return engine


def _bounded(connection: Any, _record: object) -> None:
    """Waiting for others' locks is bounded, and so is holding one for a host that stands still in mid-transaction."""
    wait = int(sqlite.BUSY_SECONDS * 1000)
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
            execution_options=_SHARED,
        )
        event.listen(engine, "connect", sqlite.prepare)
        event.listen(engine, "engine_disposed", lambda _: kept.close())
        return engine
    assert url.database is not None
    path = folder / url.database
    file = file_of(path)
    if file.read_only:
        engine = sa.create_engine(
            url.set(database=str(path)),
            poolclass=NullPool,
            creator=lambda: sqlite.connect_read_only(file),
            execution_options=_SHARED,
        )
    else:
        options = {"timeout": sqlite.BUSY_SECONDS, "check_same_thread": False, "factory": connection_to(file)}
        engine = sa.create_engine(url.set(database=str(path)), connect_args=options, execution_options=_SHARED)
        event.listen(engine, "connect", sqlite.prepare)
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
        # whoever had it before was interrupted
        self._connection.rollback()
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()
