"""The file of a SQLite database: whether it is still the one that this process knows, and what it may open beside it.

A database is restored by putting another file in its place, or by copying over it. SQLite notices neither: connections
go on in the file that is gone, or mix its cached pages and its write-ahead log with a file that is another. So each
transaction first compares the file with what was seen of it before, and each write does so again after its commit.

Nothing but SQLite changes a database's file in place, and only by moving pages from the write-ahead log into it. To
tell that from a copy, every write transaction counts up a number in the header of the file (`user_version`), beside one
that tells databases apart (`application_id`): the number in the file is then among those of the log's pages, or one
below the first of them. Where it is not, the log belongs to a file that is gone, and must not be applied to this one.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from headwater import forks
from headwater.errors import FormatError, StoreError, Unavailable
from headwater.file_lock import FileLock

WAIT = 30.0
"""Seconds to wait at most for another process that opens the database, or copies over it."""

_GENERATION = "headwater_generation"
_TRIES = 20
_PAUSE = 0.01


@dataclass(frozen=True)
class Count:
    """What a database's header says of its state.

    Attributes:
        lineage: a random number that tells databases apart; 0 where nobody has given one yet.
        number: of the last write transaction.
    """

    lineage: int
    number: int


_NOT = Count(-1, -1)


@dataclass(frozen=True)
class _State:
    """What the file system says of a database's file and of those that SQLite keeps beside it.

    Attributes:
        identity: of the file: its device and inode.
        written: its size, and when it was changed last.
        log, index: the inodes of the write-ahead log and of its index; 0 where there is none.
    """

    identity: tuple[int, int]
    written: tuple[int, int]
    log: int
    index: int


class DatabaseFile:
    """A SQLite database's file, as the connections of this process know it.

    Args:
        path: the file.
        read_only: whether nothing can be changed in its folder.

    Attributes:
        generation: how often the file was found to be another one: what was read of it before is void.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.generation = 0
        self._log, self._index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
        self._read_only = read_only
        self._lock = forks.rlock()
        self._known: _State | None = None
        self._count: Count | None = None
        self._greatest = 0
        self._open: set[int] = set()
        self._lost = ""
        self.engines: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
        forks.after_fork(self, DatabaseFile._in_child)

    def _in_child(self) -> None:
        self._open = set()

    def check(self) -> int:
        """Compare the file with what is known of it.

        Returns:
            The generation.

        Raises:
            Unavailable: it was removed.
            FormatError: it was copied over with something that is not a whole database.
        """
        if self._lost or (self._known is not None and self._look() != self._known):
            with self._lock:
                self._take(self._look())
        return self.generation

    def begin(self, *, seen: bool) -> None:
        """Before a connection is opened: see to it that the write-ahead log beside the file is the file's own.

        Args:
            seen: whether the database was there before for who opens it, so that it must not be made again.

        Raises:
            Unavailable, FormatError: as `check`.
        """
        with self._lock:
            state = self._look()
            if state is not None or seen:
                self._take(state)

    def opened(self, connection: Any, before: tuple[int, int] | None) -> int:
        """Note a connection that was opened.

        Args:
            connection: the driver's.
            before: the file's identity before it was opened; None where there was none.

        Returns:
            The generation that it belongs to; -1 where the file was replaced meanwhile.
        """
        with self._lock:
            state = self._look()
            self._take(state)
            self._open.add(id(connection))
            return self.generation if state is not None and before in (None, state.identity) else -1

    def closed(self, connection: Any) -> None:
        """Note a connection that is closed."""
        self._open.discard(id(connection))

    def wrote(self, number: int) -> None:
        """Note the number of a committed write transaction."""
        self._greatest = max(self._greatest, number)

    def identity(self) -> tuple[int, int] | None:
        """The file's identity; None where there is none."""
        state = self._look()
        return None if state is None else state.identity

    def has_own_log(self) -> bool:
        """Whether the write-ahead log beside the file is the file's own."""
        return self._belongs(self.read_count(), None)

    def _look(self) -> _State | None:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as bad:
            raise Unavailable(f"{self.path}: cannot be looked at: {bad.strerror}") from bad
        written = there.st_size, there.st_mtime_ns
        return _State((there.st_dev, there.st_ino), written, _inode(self._log), _inode(self._index))

    def _take(self, state: _State | None) -> None:
        """Take a state of the file for the one that is known, once it is sure to be one that SQLite can go on from."""
        known = self._known
        if self._lost:
            raise Unavailable(self._lost)
        if state is None:
            raise Unavailable(
                f"{self.path}: the database's file was removed or moved while it was open: put it back or restore it "
                "from a backup; to begin with an empty one, open the store again"
            )
        if state == known:
            return
        replaced = known is not None and state.identity != known.identity
        if known is not None and self._open and not replaced and not self._read_only:
            self._check_beside(known, state)
        count = self._goes_on(None if replaced else known, state)
        if count is _NOT:
            replaced = known is not None
            if not self._read_only:
                self._renew(state)
                state = self._look()
            count = self.read_count()
        if replaced:
            self.generation += 1
            self._greatest = 0
        self._known, self._count = state, count

    def _check_beside(self, known: _State, state: _State) -> None:
        """Give up where a file that SQLite has open beside the database is another one: others may use that already."""
        another_log = state.log and known.log and state.log != known.log
        another_index = state.log == known.log and known.index and state.index != known.index
        if another_log or another_index:
            self._lost = (
                f"{self.path}: the file that ends in {'-wal' if another_log else '-shm'} was removed or replaced while "
                "the database was open: end all processes that use it, this one too"
            )
            for engine in self.engines:
                pool = engine.pool
                engine.dispose(close=False)
                # to close what is open could move pages of the log that is gone into the database
                forks.abandon(pool)
            raise Unavailable(self._lost)

    def _goes_on(self, known: _State | None, state: _State) -> Count | None:
        """The file's count, if it goes on from what is known of it, and its write-ahead log from the file; else `_NOT`.

        It is looked at again and again: others may move pages from the log to the file between two looks.
        """
        if known is not None and known.log and not state.log and self._open:
            return _NOT  # the log that is open is gone: what it holds nobody else can read
        for _ in range(_TRIES):
            count = self.read_count()
            if self._belongs(count, None if known is None else self._count):
                return count
            time.sleep(_PAUSE)
        return _NOT

    def _belongs(self, count: Count | None, known: Count | None) -> bool:
        if known is not None:
            same = count is not None and known.lineage in (0, count.lineage)
            if count is None or not same or count.number < known.number:
                return False
        logged = log_counts(self._log)
        if not logged or count is None or not logged[-1].number:
            # all that was written is in the file; or an earlier release, which does not count, writes to it
            return bool(logged) or known is None or count is None or count.number >= self._greatest
        first, last = logged[0], logged[-1]
        unstamped = count == Count(0, 0) and first.number <= 1
        return (count.lineage == last.lineage or unstamped) and first.number - 1 <= count.number <= last.number

    def read_count(self) -> Count | None:
        """What the file's own header says, whatever its write-ahead log says; None where that cannot be read."""
        try:
            with closing(connect_immutable(self.path)) as connection:
                (number,) = connection.execute("PRAGMA user_version").fetchone()
                (lineage,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error:
            return None
        return Count(lineage, number)

    def _renew(self, state: _State) -> None:
        """Put the file's content into a new file in its place, without the write-ahead log of the one that is gone.

        Whoever still has the file open then finds another one in its place, and applies no log to it.
        """
        lock = FileLock(os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC))
        try:
            if not lock.acquire(WAIT):
                raise Unavailable(f"{self.path}: {lock.holder()} has held the lock of its folder for {WAIT:g} s")
            if self.identity() == state.identity:
                self._copy()
        except OSError as bad:
            raise Unavailable(f"{self.path}: was copied over while it was open, and cannot be used: {bad}") from bad
        finally:
            lock.close()

    def _copy(self) -> None:
        copy = self.path.with_name(f"{self.path.name}-{secrets.token_hex(6)}")
        try:
            self._wait_until_whole()
            with closing(connect_immutable(self.path)) as source, closing(sqlite3.connect(copy)) as target:
                copy.chmod(self.path.stat().st_mode & 0o777)
                source.backup(target)
                target.execute("PRAGMA journal_mode=WAL")
                found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
            for name in ("-wal", "-shm"):
                self.path.with_name(self.path.name + name).unlink(missing_ok=True)
            copy.replace(self.path)
        except sqlite3.Error as bad:
            raise FormatError(
                f"{self.path}: was copied over while it was open, and is not a whole database now ({bad}): stop what "
                "uses it, remove the files that end in -wal and -shm, and restore it again"
            ) from bad
        finally:
            for name in ("", "-wal", "-shm", "-journal"):
                copy.with_name(copy.name + name).unlink(missing_ok=True)

    def _wait_until_whole(self) -> None:
        """Wait for who is still copying."""
        until, before = time.monotonic() + WAIT, None
        while time.monotonic() < until:
            there = self.path.stat()
            state = there.st_size, there.st_mtime_ns
            if state == before and there.st_size:
                return
            before = state
            time.sleep(5 * _PAUSE)


def log_counts(log: Path) -> list[Count]:
    """The counts that the pages of a write-ahead log hold, in order, since it was begun again last."""
    counts: list[Count] = []
    with suppress(OSError), log.open("rb", buffering=0) as file:
        begin = os.pread(file.fileno(), 32, 0)
        size, at = int.from_bytes(begin[8:12], "big"), 32
        while size:
            # each page is preceded by its number, its place in a transaction, the log's salts and a checksum
            page = os.pread(file.fileno(), 24 + 100, at)
            if len(page) < 24 or page[8:16] != begin[16:24]:
                break
            if int.from_bytes(page[:4], "big") == 1:
                counts.append(Count(int.from_bytes(page[92:96], "big"), int.from_bytes(page[84:88], "big")))
            at += 24 + size
    return counts


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def connect_immutable(path: Path) -> sqlite3.Connection:
    """The file as it is, without its write-ahead log and without locks.

    By SQLite's own hand: to open and close the file beside it would free the locks of this process's connections.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


_by_path: weakref.WeakValueDictionary[str, DatabaseFile] = weakref.WeakValueDictionary()
_by_engine: weakref.WeakKeyDictionary[sa.Engine, DatabaseFile] = weakref.WeakKeyDictionary()
_making = forks.lock()


def file_of(path: Path, *, read_only: bool = False) -> DatabaseFile:
    """The one object of a database's file in this process; the first one's settings hold."""
    place = os.path.realpath(path)
    with _making:
        file = _by_path.get(place)
        if file is None:
            file = _by_path[place] = DatabaseFile(path, read_only=read_only)
        return file


def watch(engine: sa.Engine, file: DatabaseFile) -> None:
    """Let an engine's connections be used only as long as the file is the one that they have open."""
    _by_engine[engine] = file
    file.engines.add(engine)
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
            raise sa.exc.InvalidatePoolError(f"{file.path}: is another file now")

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
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._file = _by_engine.get(connection.engine)
        self._number = 0
        if self._file is not None:
            self._changes = self._total_changes()
            self._before = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            self._generation = generation_of(connection)

    def _total_changes(self) -> int:
        raw: Any = self._connection.connection.driver_connection
        return int(raw.total_changes)

    def count(self) -> None:
        """Just before the commit."""
        if self._file is None or self._total_changes() == self._changes:
            return
        self._number = self._before + 1
        self._connection.exec_driver_sql(f"PRAGMA user_version = {self._number}")
        if not self._connection.exec_driver_sql("PRAGMA application_id").scalar_one():
            self._connection.exec_driver_sql(f"PRAGMA application_id = {secrets.randbits(31) | 1}")

    def check(self) -> None:
        """Just after the commit.

        Raises:
            Unavailable: the file was removed or replaced meanwhile, so that nothing is kept of what was written.
        """
        if self._file is None or not self._number:
            return
        self._file.wrote(self._number)
        lost = "what was just written is not kept"
        try:
            kept = self._file.check() == self._generation
        except StoreError as bad:
            raise Unavailable(f"{bad}; {lost}") from bad
        if not kept:
            raise Unavailable(
                f"{self._file.path}: the database was replaced while it was written to; {lost}: try again"
            )
