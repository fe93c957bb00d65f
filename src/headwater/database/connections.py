"""Connections to a SQL database: counted, so that a fork finds none of SQLite's open, and refused once it was closed.

A server's connections are left to the parent of a fork.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import sqlalchemy as sa

from headwater import forks
from headwater.database.sqlite import check_not_lost, lost, lost_files, transactions
from headwater.errors import Unavailable, was_closed
from headwater.gate import Turns
from headwater.urls import without_password

_PATIENCE = 30.0
"""Seconds that a thread waits at most for the one connection of a database in memory."""
_COLLECT = 1.0
"""Seconds after which it looks whether an interrupted call left the connection to the garbage collector."""


class _Use:
    """What this process does with one engine.

    Attributes:
        connected: whether it was connected once.
        users: who has a connection or wants one.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.connected = False
        self.users: dict[object, None] = {}
        self._closed = self._lost = False
        self._file = "" if _in_memory(engine) else engine.url.database or ""
        self._turns = Turns() if _in_memory(engine) else None

    def check(self, engine: sa.Engine, what: str) -> None:
        """Refuse what was closed, or is not to be used in this process."""
        if self._closed:
            raise was_closed(f"{what} {place(engine)}: was closed")
        if self._lost:
            raise lost(place(engine), what)
        check_not_lost(self._file, what)

    def leave(self, me: object, engine: sa.Engine) -> None:
        """Count one that has done; where it was closed meanwhile the last one ends the connections.

        Not earlier: those that wait for one would not learn that it is gone.
        """
        self.users.pop(me, None)
        if self._closed and not self.users:
            engine.dispose()

    def fewer_than_lent(self, engine: sa.Engine) -> bool:
        """Whether fewer want or have a connection than the engine's pool, which has none left, counts as lent."""
        pool = engine.pool
        return self._turns is not None or (isinstance(pool, sa.QueuePool) and len(self.users) <= pool.size())

    def close(self, engine: sa.Engine) -> None:
        """Refuse all that comes."""
        self._closed = True
        if not self.users:
            engine.dispose()

    def lose(self) -> None:
        """Give the database up in this process."""
        self._lost = True
        if self._file:
            lost_files.add(self._file)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The one connection of a database in memory is this thread's while the block runs.

        The pool alone gives it to whoever comes at the right moment: threads that never pause would starve others.
        """
        turns = self._turns
        if turns is None:
            yield
            return
        me = threading.Lock()
        try:
            if not turns.acquire(me, _COLLECT) and not (gc.collect() >= 0 and turns.acquire(me, _PATIENCE)):
                raise sa.exc.TimeoutError("another thread holds the only connection")
            yield
        finally:
            turns.release(me)

    def begin_child(self) -> None:
        """Forget those that were its parent's."""
        self.users.clear()
        if self._turns is not None:
            self._turns = Turns()


_uses: weakref.WeakKeyDictionary[sa.Engine, _Use] = weakref.WeakKeyDictionary()
_making = forks.lock()


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
    use, me = _use_of(engine), object()
    use.check(engine, what)
    try:
        use.users[me] = None
        if engine.dialect.name == "sqlite":
            with use.turn(), transactions.one(), _connect(use, engine, what) as connection:
                use.check(engine, what)
                yield connection
            return
        # SQLAlchemy holds a lock of its own at an engine's first connection
        with nullcontext() if use.connected else transactions.one():
            connection = _connect(use, engine, what)
        with connection:
            use.connected = True
            use.check(engine, what)
            yield connection
    finally:
        use.leave(me, engine)


def _connect(use: _Use, engine: sa.Engine, what: str) -> sa.Connection:
    try:
        with suppress(sa.exc.TimeoutError):
            return engine.connect()
        # those of interrupted calls are with the garbage collector
        gc.collect()
        try:
            return engine.connect()
        except sa.exc.TimeoutError:
            # an interrupt within the pool itself: it counts a connection as lent that nobody has
            if not use.fewer_than_lent(engine):
                raise
        engine.pool = engine.pool.recreate()
        return engine.connect()
    except sa.exc.InvalidRequestError as bad:
        raise Unavailable(f"{what} {place(engine)}: the database file keeps being replaced; try again") from bad


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
    if transactions.shut and engine.dialect.name == "sqlite" and not _in_memory(engine):
        engine.dispose()


def _in_child(engine: sa.Engine) -> None:
    inherited, use = engine.pool, _uses[engine]
    use.begin_child()
    if engine.dialect.name != "sqlite":
        engine.dispose(close=False)
        forks.abandon(inherited)
    elif not transactions.alone:
        use.lose()
        if not _in_memory(engine):
            engine.dispose(close=False)
        forks.abandon(inherited)
    elif not _in_memory(engine):
        # what a program that forks without Python's knowledge left open is idle, and only counted in SQLite's tables
        engine.dispose()
