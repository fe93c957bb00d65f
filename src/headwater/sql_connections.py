"""Connections to a SQL database: counted, so that a fork finds none of SQLite's open, and refused once it was closed.

SQLite keeps its locks in tables of the process, by file. A child inherits them without the locks themselves: it would
take itself for a reader that holds its lock and is not protected, or wait for ever for a writer that it has not
(sqlite.org/howtocorrupt.html, 2.6). So a fork waits for the transactions under way, which are short, and the parent's
idle connections are closed before it; both open new ones. A server's connections are left to the parent.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from headwater import forks
from headwater.errors import Unavailable
from headwater.gate import Gate
from headwater.urls import without_password


class _Transactions:
    """The transactions of SQLite under way in this process, and what the last fork found of them."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.here = threading.local()
        self.shut = False
        self.alone = True
        """Whether no transaction was under way at the fork that made this process."""
        forks.after_fork(self, _Transactions._in_child, before=_Transactions._before, in_parent=_Transactions._go_on)

    @property
    def depth(self) -> int:
        """How many transactions this thread has under way, one within the other."""
        found: int = getattr(self.here, "depth", 0)
        return found

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while the block runs."""
        depth = self.depth
        if not depth:
            self.gate.enter()
        self.here.depth = depth + 1
        try:
            yield
        finally:
            self.here.depth = depth
            if not depth:
                self.gate.leave()

    def _before(self) -> None:
        # a thread that forks within a transaction cannot wait for itself
        self.shut = not self.depth and self.gate.shut(forks.PATIENCE)

    def _go_on(self) -> None:
        if self.shut:
            self.shut = False
            self.gate.open()

    def _in_child(self) -> None:
        self.alone = self.shut or not self.gate.inside
        self.gate, self.shut = Gate(inside=1 if self.depth else 0), False


_transactions = _Transactions()
_watched: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
_closed: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
_lost: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
_lost_files: set[str] = set()


@contextmanager
def connected(engine: sa.Engine, what: str) -> Iterator[sa.Connection]:
    """A connection, for one transaction.

    Args:
        engine: the database's.
        what: whose data it is, for errors.

    Raises:
        Unavailable: it was closed, or cannot be used in this process.
    """
    if engine.dialect.name == "sqlite":
        with _transactions.one():
            _check(engine, what)
            with engine.connect() as connection:
                yield connection
        return
    if engine in _watched:
        _check(engine, what)
        connection = engine.connect()
    else:
        # SQLAlchemy holds a lock of its own at an engine's first connection
        with _transactions.one():
            connection = engine.connect()
            _check(engine, what)
    with connection:
        yield connection


def _check(engine: sa.Engine, what: str) -> None:
    if engine not in _watched:
        _watched.add(engine)
        forks.after_fork(engine, _in_child, before=_before)
    if engine in _closed:
        raise Unavailable(f"{what} {place(engine)}: was closed")
    if engine in _lost or (_lost_files and engine.url.database in _lost_files):
        raise Unavailable(
            f"{what} {place(engine)}: this process was forked within a transaction of its parent, so that SQLite "
            "cannot be used on it here: fork outside of transactions, or start processes with multiprocessing's "
            "'spawn' or 'forkserver'"
        )


def place(engine: sa.Engine) -> str:
    """Where a database is, without its password."""
    if engine.dialect.name == "sqlite":
        return engine.url.database or "in memory"
    return without_password(engine.url.render_as_string())


def close(engine: sa.Engine) -> None:
    """Close a database's connections for good; a transaction under way ends, another is refused."""
    _closed.add(engine)
    engine.dispose()


def _in_memory(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:")


def _before(engine: sa.Engine) -> None:
    if _transactions.shut and engine.dialect.name == "sqlite" and not _in_memory(engine):
        engine.dispose()


def _in_child(engine: sa.Engine) -> None:
    inherited = engine.pool
    if engine.dialect.name != "sqlite":
        engine.dispose(close=False)
        forks.abandon(inherited)
    elif not _transactions.alone:
        _lost.add(engine)
        if not _in_memory(engine):
            _lost_files.add(engine.url.database or "")
            engine.dispose(close=False)
        forks.abandon(inherited)
    elif not _in_memory(engine):
        # what a program that forks without Python's knowledge left open is idle, and only counted in SQLite's tables
        engine.dispose()
