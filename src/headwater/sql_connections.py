"""Connections to a SQL database: counted, so that a fork finds none of SQLite's open, and refused once it was closed.

SQLite keeps its locks in tables of the process, by file. A child inherits them without the locks themselves: it would
take itself for a reader that holds its lock and is not protected, or wait for ever for a writer that it has not
(sqlite.org/howtocorrupt.html, 2.6). So a fork waits for the transactions under way, which are short, and the parent's
idle connections are closed before it; both open new ones. A server's connections are left to the parent.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import sqlalchemy as sa

from headwater import forks
from headwater.errors import Unavailable, was_closed
from headwater.gate import Gate, Turns
from headwater.urls import without_password

_PATIENCE = 30.0
"""Seconds that a thread waits at most for the one connection of a database in memory."""
_COLLECT = 1.0
"""Seconds after which it looks whether an interrupted call left the connection to the garbage collector."""


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


class _Use:
    """What this process does with one engine.

    Attributes:
        connected: whether it was connected once.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.connected = False
        self._lock = forks.lock()
        self._users = 0
        self._closed = self._lost = False
        self._file = "" if _in_memory(engine) else engine.url.database or ""
        self._turns = Turns() if _in_memory(engine) else None

    def enter(self, engine: sa.Engine, what: str) -> None:
        """Count one that wants a connection."""
        self.check(engine, what)
        with self._lock:
            self._users += 1

    def check(self, engine: sa.Engine, what: str) -> None:
        """Refuse what was closed, or is not to be used in this process."""
        if self._closed:
            raise was_closed(f"{what} {place(engine)}: was closed")
        if self._lost or (_lost_files and self._file in _lost_files):
            raise Unavailable(
                f"{what} {place(engine)}: this process was forked within a transaction of its parent, so that SQLite "
                "cannot be used on it here: fork outside of transactions, or start processes with multiprocessing's "
                "'spawn' or 'forkserver'"
            )

    def leave(self, engine: sa.Engine) -> None:
        """Count one that has done; where it was closed meanwhile the last one ends the connections.

        Not earlier: those that wait for one would not learn that it is gone.
        """
        with self._lock:
            self._users -= 1
            last = self._closed and self._users <= 0
        if last:
            engine.dispose()

    def close(self, engine: sa.Engine) -> None:
        """Refuse all that comes."""
        with self._lock:
            self._closed = True
            idle = self._users <= 0
        if idle:
            engine.dispose()

    def lose(self) -> None:
        """Give the database up in this process."""
        self._lost = True
        if self._file:
            _lost_files.add(self._file)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The one connection of a database in memory is this thread's while the block runs.

        The pool alone gives it to whoever comes at the right moment: threads that never pause would starve others.
        """
        turns = self._turns
        if turns is None:
            yield
            return
        if not turns.acquire(_COLLECT) and not (gc.collect() >= 0 and turns.acquire(_PATIENCE)):
            raise sa.exc.TimeoutError("another thread has the one connection")
        try:
            yield
        finally:
            turns.release()

    def begin_child(self) -> None:
        """Forget those that were its parent's."""
        self._users = 0
        if self._turns is not None:
            self._turns = Turns()


_uses: weakref.WeakKeyDictionary[sa.Engine, _Use] = weakref.WeakKeyDictionary()
_making = forks.lock()
_lost_files: set[str] = set()


def _use_of(engine: sa.Engine) -> _Use:
    found = _uses.get(engine)
    if found is None:
        with _making:
            found = _uses.get(engine)
            if found is None:
                found = _uses[engine] = _Use(engine)
                forks.after_fork(engine, _in_child, before=_before)
    return found


@contextmanager
def connected(engine: sa.Engine, what: str) -> Iterator[sa.Connection]:
    """A connection, for one transaction.

    Args:
        engine: the database's.
        what: whose data it is, for errors.

    Raises:
        Unavailable: it was closed, or cannot be used in this process.
    """
    use = _use_of(engine)
    use.enter(engine, what)
    try:
        if engine.dialect.name == "sqlite":
            with use.turn(), _transactions.one(), _connect(engine, what) as connection:
                use.check(engine, what)
                yield connection
            return
        # SQLAlchemy holds a lock of its own at an engine's first connection
        with nullcontext() if use.connected else _transactions.one():
            connection = engine.connect()
        with connection:
            use.connected = True
            use.check(engine, what)
            yield connection
    finally:
        use.leave(engine)


def _connect(engine: sa.Engine, what: str) -> sa.Connection:
    try:
        try:
            return engine.connect()
        except sa.exc.TimeoutError:
            # those of interrupted calls are with the garbage collector
            gc.collect()
            return engine.connect()
    except sa.exc.InvalidRequestError as bad:
        raise Unavailable(
            f"{what} {place(engine)}: the database's file is being replaced again and again; try again"
        ) from bad


def place(engine: sa.Engine) -> str:
    """Where a database is, without its password."""
    if engine.dialect.name == "sqlite":
        return engine.url.database or "in memory"
    return without_password(engine.url.render_as_string())


def close(engine: sa.Engine) -> None:
    """Close a database's connections for good; a transaction under way ends, another is refused."""
    _use_of(engine).close(engine)


def _in_memory(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:")


def _before(engine: sa.Engine) -> None:
    if _transactions.shut and engine.dialect.name == "sqlite" and not _in_memory(engine):
        engine.dispose()


def _in_child(engine: sa.Engine) -> None:
    inherited, use = engine.pool, _uses[engine]
    use.begin_child()
    if engine.dialect.name != "sqlite":
        engine.dispose(close=False)
        forks.abandon(inherited)
    elif not _transactions.alone:
        use.lose()
        if not _in_memory(engine):
            engine.dispose(close=False)
        forks.abandon(inherited)
    elif not _in_memory(engine):
        # what a program that forks without Python's knowledge left open is idle, and only counted in SQLite's tables
        engine.dispose()
