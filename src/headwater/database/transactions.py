"""Transactions on a SQL database, and what it says in headwater's errors: of all that shares the registry's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import sqlalchemy as sa

from headwater import interrupts
from headwater.clock import Clock, to_micros
from headwater.database.connections import connected
from headwater.database.connections import place as place
from headwater.database.said import store_error
from headwater.database.watching import Counting
from headwater.errors import StoreError, Unavailable


@contextmanager
def writing(engine: sa.Engine, what: str = "registry", *, single_state: bool = False) -> Iterator[sa.Connection]:
    """One transaction that may write; committed at the end, undone on an error. On SQLite it holds the write lock.

    Args:
        engine: the database's.
        what: whose data it is, for errors.
        single_state: all its reads see the database as it was at the first, as they do on SQLite. Else each sees what
            others have committed by then.

    Raises:
        StorageFull, StoreReadOnly, Unavailable, FormatError, StoreError: what the database said.
    """
    with translated(engine, what), connected(engine, what) as connection:
        if single_state:
            connection = _of_one_state(connection)
        _begin(connection, "BEGIN IMMEDIATE")
        counting = Counting(connection)
        yield connection
        counting.count()
        _commit(connection, f"{what} {place(engine)}")
        counting.check()


def _commit(connection: sa.Connection, where: str) -> None:
    try:
        connection.commit()
    except sa.exc.DBAPIError as bad:
        if not bad.connection_invalidated:
            raise
        raise Unavailable(
            f"{where}: connection lost during COMMIT: the outcome is unknown; check before retrying (rows that "
            "carry a created time may safely be written again)"
        ) from bad


@contextmanager
def writing_alone(engine: sa.Engine, what: str = "registry") -> Iterator[sa.Connection]:
    """`writing` that of several processes one does at a time, the others wait: steps that make or change tables, or
    rules over rows that are not there yet.
    """
    with writing(engine, what) as connection:
        if connection.dialect.name == "postgresql":
            # there may be no table or row yet to lock; the number is arbitrary
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(6837264)"))
        yield connection


@contextmanager
def reading(engine: sa.Engine, what: str = "registry") -> Iterator[sa.Connection]:
    """One transaction that sees a single state of the database; see `writing`."""
    with translated(engine, what), connected(engine, what) as connection:
        connection = _of_one_state(connection)
        _begin(connection, "BEGIN")
        yield connection
        connection.rollback()


def _of_one_state(connection: sa.Connection) -> sa.Connection:
    if connection.dialect.name == "sqlite":
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


@contextmanager
def writing_rows(engine: sa.Engine, what: str) -> Iterator[sa.Connection]:
    """`writing` where a row that is there already is nobody's to expect."""
    try:
        with writing(engine, what) as connection:
            yield connection
    except sa.exc.IntegrityError as bad:
        raise StoreError(f"{what} {place(engine)}: rejected a row: {bad.orig}") from bad


def upsert(dialect: sa.Dialect, table: sa.Table) -> Any:
    """An INSERT into the table that can say ON CONFLICT: each dialect has its own."""
    # only the one in use is imported: PostgreSQL's takes a tenth of a second
    return import_module(f"sqlalchemy.dialects.{dialect.name}").insert(table)


def has_table(connection: sa.Connection, name: str) -> bool:
    """Whether the database has a table."""
    return sa.inspect(connection).has_table(name)


def now_micros(connection: sa.Connection, clock: Clock) -> int:
    """The one clock of all who share a database, microseconds: its own, or a clock of this host where it is SQLite."""
    if connection.dialect.name == "sqlite":
        return to_micros(clock())
    return int(connection.execute(sa.select(now_expression())).scalar_one())


def now_expression() -> sa.ColumnElement[int]:
    """`now_micros` of a database with a clock of its own, as a column of a statement that asks for more than that."""
    return sa.cast(sa.func.floor(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000), sa.BigInteger)


def _begin(connection: sa.Connection, statement: str) -> None:
    """Begin now: Python's sqlite3 would wait for the first statement that writes."""
    connection.begin()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(statement)


@contextmanager
def translated(engine: sa.Engine, what: str = "registry") -> Iterator[None]:
    """What the database says, in headwater's errors; a key that is there already is left to the caller."""
    outer = sys.exception()
    try:
        yield
    except sa.exc.TimeoutError as bad:
        raise Unavailable(f"{what} {place(engine)}: all connections are in use") from bad
    except sa.exc.IntegrityError:
        raise
    except sa.exc.DBAPIError as bad:
        interrupt = interrupts.behind(bad, outer)
        if interrupt is not None:
            raise interrupt from None
        refused = isinstance(bad, (sa.exc.DataError, sa.exc.ProgrammingError, sa.exc.NotSupportedError))
        code = getattr(bad.orig, "sqlstate", None) or ""
        raise store_error(f"{what} {place(engine)}", str(bad.orig), code, refused=refused) from bad
