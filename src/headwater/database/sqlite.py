"""SQLite in this process: how its connections are opened, and the transactions under way that a fork waits for.

SQLite keeps its locks in tables of the process, by file. A child inherits them without the locks themselves: it would
take itself for a reader that holds its lock and is not protected, or wait for ever for a writer that it has not
(sqlite.org/howtocorrupt.html, 2.6). So a fork waits for the transactions under way, which are short, and the parent's
idle connections are closed before it; both open new ones.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater import forks
from headwater.database.files import DatabaseFile, connect_immutable
from headwater.errors import Unavailable
from headwater.gate import Gate

BUSY_SECONDS = 30.0
"""How long a transaction waits for another one of another process, before `Unavailable`."""

lost_files: set[str] = set()
"""Databases that cannot be used in this process: it was forked within a transaction of its parent."""


class Transactions:
    """The transactions of SQLite under way in this process, and what the last fork found of them."""

    def __init__(self) -> None:
        self.gate = Gate()
        self._here = threading.local()
        self.shut = False
        self.alone = True
        """Whether no transaction was under way at the fork that made this process."""
        forks.after_fork(self, Transactions._in_child, before=Transactions._before, in_parent=Transactions._go_on)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while the block runs; within another one of this thread it is that one."""
        if self._is_in_one():
            yield
            return
        self._here.latest = me = object()
        try:
            self.gate.enter(me)
            yield
        finally:
            self.gate.leave(me, None)

    def _is_in_one(self) -> bool:
        """Whether this thread has a transaction under way."""
        return getattr(self._here, "latest", None) in self.gate

    def _before(self) -> None:
        # a thread that forks within a transaction cannot wait for itself
        self.shut = not self._is_in_one() and self.gate.shut(threading.get_ident(), forks.PATIENCE)

    def _go_on(self) -> None:
        self.shut = False
        self.gate.open(threading.get_ident(), None)

    def _in_child(self) -> None:
        self.alone = self.shut or not self.gate.inside
        # of the parent's threads only this one is here
        self.gate, self.shut = Gate(self._here.latest) if self._is_in_one() else Gate(), False


transactions = Transactions()


def check_not_lost(place: str, what: str) -> None:
    """Refuse a database that is not to be used in this process.

    Raises:
        Unavailable: this process was forked within a transaction of its parent.
    """
    if lost_files and place in lost_files:
        raise lost(place, what)


def lost(place: str, what: str) -> Unavailable:
    """The error of a process that was forked within a transaction of its parent."""
    return Unavailable(
        f"{what} {place}: this process was forked within a transaction of its parent, so SQLite cannot be used in "
        "it: fork outside of transactions, or start processes with multiprocessing's 'spawn' or 'forkserver'"
    )


def prepare(connection: Any, _record: object = None) -> None:
    """Set a connection up: readers beside a writer, and waiting for other processes."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
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
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as bad:
            if "locked" not in str(bad) or time.monotonic() > until:
                raise
            time.sleep(0.005)


def connect_read_only(file: DatabaseFile) -> sqlite3.Connection:
    """A database in a folder where nothing can be written.

    Raises:
        Unavailable: a write that was interrupted has to be undone first, which takes a folder that can be written.
    """
    base = f"{file.path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(base, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
        return connection
    except sqlite3.OperationalError:
        connection.close()
    if _size(file.path, "-journal"):
        raise Unavailable(
            f"registry {file.path}: an interrupted write must be rolled back first: copy it and its -journal file "
            "to a writable folder, and open it there once"
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
