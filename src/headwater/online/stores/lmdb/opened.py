"""An open LMDB environment: what it was opened on, its locks, and the slots that its readers keep."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from headwater import forks
from headwater.file_lock import FileLock, LockReplaced
from headwater.online.stores.lmdb.files import Settings, note

SLOTS = 16
"""How many slots of LMDB's table of readers a process keeps for its threads."""

PLACE_CHECK = 0.1
"""Seconds after which a reader looks whether the files are still those that it has open."""

NOTED_EVERY = 1.0
"""Seconds after which a writer notes again that the file is as LMDB left it."""


class Opened(msgspec.Struct, eq=False):
    """An environment that is open, and what it was opened on.

    Attributes:
        env: LMDB's.
        file: a descriptor of the data file.
        page_size: of the data file, in bytes.
        readers: the lock of LMDB's table of readers.
        writer: the lock of the one writer; None where nothing can be written.
        read_only: why nothing can be written; empty where it can.
        lockless: whether there is no lock file, so that writers do not know of readers.
        slots: readers' transactions that ended and kept their slots in LMDB's table, for `begin`.
        giving: held by who gives or takes one of them, with the last reference to it.
    """

    settings: Settings
    env: lmdb.Environment
    file: int
    page_size: int
    readers: FileLock
    writer: FileLock | None = None
    read_only: str = ""
    lockless: bool = False
    slots: list[Any] = msgspec.field(default_factory=list)
    giving: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _data: tuple[int, int] = (0, 0)
    _lock: tuple[int, int, int] | None = None
    _size: int = 0
    _erased: tuple[int, int] = (0, 0)
    _checked: float = 0.0
    _noted: float = 0.0
    _last: tuple[int, int, int] | None = None
    """This process's last commit: its transaction, and what it made of the file's size and time of change."""
    _trusted: bool = True
    """Whether the file was changed by LMDB alone, as far as this process can tell."""

    def __post_init__(self) -> None:
        there = os.fstat(self.file)
        self._data, self._size = (there.st_dev, there.st_ino), there.st_size
        self._erased = _changed_at(self.settings.erased)
        self._lock = None if self.lockless else _identity(self.settings.lock)
        self._checked = self._noted = time.monotonic()

    def begin(self) -> Any:
        """A reader's transaction, begun without any lock of LMDB's; None where no slot is at hand."""
        if self.lockless:
            return self.env.begin()
        with self.giving:
            if not self.slots:
                return None
            # gone, it leaves its slot to the next one that begins
            self.slots.pop()
            return self.env.begin()

    def enter_slot(self) -> None:
        """Have one slot at hand, where its lock is free."""
        try:
            if not self.lockless and self.readers.acquire(0):
                with suppress(lmdb.Error):
                    held = [self.env.begin()]
                    held[0].abort()
                    self.slots += held
        except OSError:
            pass
        finally:
            self.readers.release()

    def leave_slots(self) -> bool:
        """Give back all slots, with every transaction ended; whether that was possible.

        A child process would give back its parent's, which may be in use again by then, as it closes its copy.
        """
        self.slots.clear()
        try:
            # the last one, which py-lmdb keeps, goes with the map
            self.env.set_mapsize(self.env.info()["map_size"])
        except lmdb.Error:
            return False
        return True

    def is_current(self) -> bool:
        """Whether the files are known to be those that were opened: a deleted or cut one shows at once, others soon."""
        # every read asks: the whole of it in one call, the time first
        if time.monotonic() - self._checked >= PLACE_CHECK:
            return False
        known = self._size
        try:
            there = os.fstat(self.file)
        except OSError:  # closed meanwhile
            return False
        size = there.st_size
        if size < known or not there.st_nlink:
            return False
        self._size = size
        return True

    def in_place(self) -> os.stat_result | None:
        """The data file, if the files at the path are those that were opened."""
        now, known = time.monotonic(), self._size
        try:
            there = self.settings.data.stat()
            if (there.st_dev, there.st_ino) != self._data or there.st_size < known:
                return None
            if _changed_at(self.settings.erased) != self._erased:
                # LMDB's buffers go with the environment: what was erased would come back from them
                return None
            if now - self._checked > PLACE_CHECK:
                if not self._is_locked_by(self.settings.lock):
                    return None
                self._checked = now
        except OSError:
            return None
        self._size = there.st_size
        return there

    def _is_locked_by(self, lock: Path) -> bool:
        if self._lock is None:
            return True
        there = _identity(lock)
        # one that grew was opened by a process that has room for more readers
        return there[:2] == self._lock[:2] and there >= self._lock

    def is_overwritten(self, txn: Any) -> bool:
        """Whether a reader's transaction is later than all that the file has, or the file has not all of its pages."""
        info = self.env.info()
        return bool(txn.id() > info["last_txnid"] or self._size < (info["last_pgno"] + 1) * self.page_size)

    def follows(self, txn: Any, there: os.stat_result) -> bool:
        """Whether a write transaction follows the last one that the file has: else that was overwritten.

        Args:
            txn: just begun.
            there: the file, from `in_place` under the writer's lock.
        """
        transaction: int = txn.id()
        if self._last == (transaction - 1, there.st_size, there.st_mtime_ns):
            return True
        last = self.env.info()["last_txnid"]
        self._trusted &= self._last is None or self._last[0] != last
        return bool(transaction == last + 1)

    def committed(self, transaction: int) -> None:
        """Note what a commit of this process made of the file; only by who still holds the writer's lock."""
        there = os.fstat(self.file)
        self._last, self._size = (transaction, there.st_size, there.st_mtime_ns), there.st_size
        if time.monotonic() - self._noted > NOTED_EVERY:
            self._note(there)

    def _note(self, there: os.stat_result) -> None:
        self._noted = time.monotonic()
        if self._trusted:
            note(self.settings, there)

    def note_end(self) -> None:
        """Note at the end of this process's work that the file is as LMDB left it, where this process wrote to it."""
        if self.writer is None or self._last is None:
            return
        try:
            if self.writer.acquire(0):
                there = self.in_place()
                if there is not None:
                    last = self.env.info()["last_txnid"], there.st_size, there.st_mtime_ns
                    self._trusted &= self._last[0] != last[0] or self._last == last
                    self._note(there)
        except (OSError, LockReplaced, lmdb.Error):
            pass
        finally:
            self.writer.release()

    def close(self) -> None:
        """Close it all; only with every transaction ended."""
        self.slots.clear()
        self.note_end()
        self.env.close()
        if self.writer is not None:
            self.writer.close()
        self.readers.close()
        os.close(self.file)

    def abandon(self, *, idle: bool) -> None:
        """Close a child's copies; where a transaction was open, LMDB's are kept, since they are the parent's.

        Args:
            idle: whether no transaction and no slot was open at the fork.
        """
        # the parent's other threads may have held the locks
        if self.writer is not None:
            self.writer.abandon()
        self.readers.abandon()
        os.close(self.file)
        if idle:
            self.env.close()
        else:
            forks.abandon(self.env, self.slots)


def _changed_at(path: Path) -> tuple[int, int]:
    """What tells that a file was changed; that it is not there is a state of its own."""
    try:
        there = path.stat()
    except OSError:
        return 0, 0
    return there.st_ino, there.st_mtime_ns


def _identity(path: Path) -> tuple[int, int, int]:
    there = path.stat()
    return there.st_dev, there.st_ino, there.st_size
