"""Transactions on a SQL database, and what it says in headwater's errors: of the registry and the offline log alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from headwater.errors import FormatError, StorageFull, StoreError, StoreReadOnly, Unavailable

BUSY_SECONDS = 30.0
"""How long a transaction waits for another one of another process, before `Unavailable`."""


@contextmanager
def writing(engine: sa.Engine, what: str = "registry") -> Iterator[sa.Connection]:
    """One transaction that may write; committed at the end, undone on an error. On SQLite it holds the write lock.

    Args:
        engine: the database's.
        what: whose data it is, for errors.

    Raises:
        StorageFull, StoreReadOnly, Unavailable, FormatError, StoreError: what the database said.
    """
    with translated(engine, what), engine.connect() as connection:
        _begin(connection, "BEGIN IMMEDIATE")
        yield connection
        connection.commit()


@contextmanager
def reading(engine: sa.Engine, what: str = "registry") -> Iterator[sa.Connection]:
    """One transaction that sees a single state of the database; see `writing`."""
    with translated(engine, what), engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        _begin(connection, "BEGIN")
        yield connection
        connection.rollback()


def _begin(connection: sa.Connection, statement: str) -> None:
    """Begin now: Python's sqlite3 would wait for the first statement that writes."""
    connection.begin()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement)


@contextmanager
def translated(engine: sa.Engine, what: str = "registry") -> Iterator[None]:
    """What the database says, in headwater's errors; a key that is there already is left to the caller."""
    try:
        yield
    except sa.exc.TimeoutError as bad:
        raise Unavailable(f"{what} {place(engine)}: every connection is in use") from bad
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as bad:
        raise _error(f"{what} {place(engine)}", bad) from bad


def _error(where: str, bad: sa.exc.DBAPIError) -> StoreError:
    text = str(bad.orig).strip()
    said = text.casefold()
    if "readonly" in said or "read-only" in said or "permission denied" in said:
        return StoreReadOnly(f"{where}: takes no writes ({text}); check the permissions of the file and its folder")
    if "is full" in said or "no space" in said or ("disk i/o" in said and "full" in said):
        return StorageFull(f"{where}: no room left ({text}); everything acknowledged before is kept")
    if "not a database" in said or "malformed" in said:
        return FormatError(f"{where}: is no headwater database, or damaged ({text})")
    if "locked" in said:
        return Unavailable(f"{where}: another process held it for {BUSY_SECONDS:.0f} s ({text}); try again")
    if isinstance(bad, (sa.exc.DataError, sa.exc.ProgrammingError, sa.exc.NotSupportedError)):
        return StoreError(f"{where}: refused a statement ({text})")
    return Unavailable(f"{where}: cannot be used ({text})")


def place(engine: sa.Engine) -> str:
    """Where a database is, without its password."""
    return engine.url.database or "in memory" if engine.dialect.name == "sqlite" else engine.url.render_as_string()
