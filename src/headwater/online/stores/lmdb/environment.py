"""The LMDB environment of a path: opened once a process, shared by its stores, opened again where it must be."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from headwater import forks
from headwater.deferred import deferred
from headwater.errors import StoreError, StoreReadOnly, Unavailable, UsageError
from headwater.file_lock import LockReplaced
from headwater.gate import Gate, Turns
from headwater.online.stores.lmdb.files import Settings, StoreDamaged, explained, take
from headwater.online.stores.lmdb.opened import SLOTS, Opened
from headwater.online.stores.lmdb.opening import open_folder

if TYPE_CHECKING:
    from headwater.online.stores.lmdb import scrub
else:
    scrub = deferred("headwater.online.stores.lmdb.scrub")

ATTEMPTS = 24

SLOT_CHECK = 0.01
"""Seconds after which a reader that waits to enter a slot looks whether another one is free."""

_CLOSED = "it was closed"
_GONE = (
    "the online store {} was removed or moved while this process had it open: put it back, or fill a new one with "
    "'headwater materialize'"
)
_IN_TRANSACTION = (
    "this process was forked within a transaction of its parent: fork outside of them, or start processes with "
    "multiprocessing's 'spawn' or 'forkserver'"
)
_UNANNOUNCED = (
    "this process was forked by a program that does not tell Python beforehand, as uWSGI does, and its parent had the "
    "store open: use the store in no process before it forks (uWSGI: `lazy-apps = true`), or take another online store"
)

_T = TypeVar("_T")


class Environment:
    """The one LMDB environment of a path in this process, shared by its stores.

    Order of locks: that of opening, then the gate; or the writer's, then the gate. Whoever holds the writer's lock, or
    is in the gate, opens nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self.path = settings.path
        self.stores = 0
        self._settings = settings
        self._opened: Opened | None = None
        self._refused: tuple[object, str] | None = None
        self._given_up = ""
        self._shut = self._idle = False
        self.gate, self._opening = Gate(), Turns()
        forks.after_fork(self, Environment._in_child, before=Environment._before_fork, in_parent=Environment._go_on)

    def _before_fork(self) -> None:
        self._shut = self.gate.shut(threading.get_ident(), forks.PATIENCE)
        self._idle = self._shut and (self._opened is None or self._opened.leave_slots())

    def _go_on(self) -> None:
        if self._opened is not None and self._idle:
            self._opened.enter_slot()
        self._shut = False
        self.gate.open(threading.get_ident(), None)

    def _in_child(self) -> None:
        """Open nothing that is the parent's; LMDB opens a path once in a process, so what was copied goes first."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.abandon(idle=self._idle)
            if not self._idle:
                self._given_up = _IN_TRANSACTION if forks.was_announced() else _UNANNOUNCED
        self.gate, self._opening, self._shut, self._idle = Gate(), Turns(), False, False

    @property
    def read_only(self) -> str:
        """Why nothing can be written; empty where it can, or is not open."""
        return "" if self._opened is None else self._opened.read_only

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The bytes under each key; as `read` would, on the shortest road while nothing is amiss."""
        opened = self._opened
        if opened is not None and opened.slots and opened.is_current():
            me = object()
            try:
                self.gate.enter(me)
                txn = opened.begin() if opened is self._opened else None
                if txn is not None:
                    try:
                        result = list(map(txn.get, keys))
                    finally:
                        txn.abort()
                    with opened.giving:
                        opened.slots.append(txn)
                        del txn
                    return result
            except lmdb.Error:
                pass  # explained, or mended, below
            finally:
                self.gate.leave(me, None)
        return self.read(lambda txn: list(map(txn.get, keys)))

    def is_there(self) -> bool:
        """Whether the folder is open in this process, or has a data file."""
        return self._opened is not None or self._settings.data.exists()

    def begin_again(self) -> None:
        """Make the folder again, empty, where it was removed while this process had it open.

        Raises:
            StoreError: it cannot be made.
        """
        opened = self._opened
        if opened is not None and not self._settings.data.exists():
            self._reopen(opened)

    def read(self, work: Callable[[Any], _T]) -> _T:
        """Run work in a read transaction.

        Raises:
            Unavailable: the folder was removed while this process had it open.
            StoreError: the environment cannot be opened or read.
        """
        return self._attempt(work, self._read)

    def write(self, work: Callable[[Any], _T]) -> _T:
        """Run work in a write transaction and commit it; it may run twice, where the map had to grow.

        Raises:
            Unavailable: another process or thread was in one for too long.
            StorageFull, StoreReadOnly, StoreError: nothing of the transaction is kept.
        """
        return self._attempt(work, self._write)

    def _attempt(self, work: Callable[[Any], _T], run: Callable[[Opened, Callable[[Any], _T]], _T]) -> _T:
        for _ in range(ATTEMPTS):
            opened = self._opened or self._open()
            try:
                return run(opened, work)
            except LockReplaced:
                continue
            except lmdb.MapResizedError:
                self._alone(opened, lambda env: env.set_mapsize(0))
            except lmdb.MapFullError:
                self._alone(opened, self._grow)
            except lmdb.ReadersFullError:
                self._free_slots(opened)
            except (lmdb.PanicError, lmdb.BadRslotError, _Moved):
                if run == self._read and not self._settings.data.exists():
                    raise Unavailable(_GONE.format(self.path)) from None
                self._reopen(opened)
            except lmdb.BadValsizeError as bad:
                raise UsageError(f"online store {self.path}: keys must have 1 to 511 bytes ({bad})") from bad
            except lmdb.Error as bad:
                raise explained(self._settings, bad) from bad
        raise Unavailable(
            f"the online store {self.path} could not be used: its reader table or its map stays full, or its files "
            "keep being replaced"
        )

    def _read(self, opened: Opened, work: Callable[[Any], _T]) -> _T:
        due = not opened.is_current()
        if due and opened.in_place() is None:
            raise _Moved
        until = time.monotonic() + self._settings.wait
        while True:
            me = object()
            try:
                self.gate.enter(me)
                if opened is not self._opened:
                    raise LockReplaced
                held = [opened.begin()]
                if held[0] is not None:
                    return self._run(opened, held, work, due)
            finally:
                self.gate.leave(me, None)
            # to enter a slot in the table of readers takes a lock of LMDB's that has no bound: so under one that has
            try:
                if time.monotonic() >= until and opened.writer is not None and not opened.readers.acquire(0):
                    return self._read_as_writer(opened, work)
                if time.monotonic() >= until:
                    take(opened.readers, self._settings, 0, "read")
                elif not opened.readers.acquire(SLOT_CHECK):
                    continue  # one may be given back meanwhile
                me = object()
                try:
                    self.gate.enter(me)
                    if opened is not self._opened:
                        raise LockReplaced
                    held = [opened.env.begin()]
                    opened.readers.release()
                    return self._run(opened, held, work, due)
                finally:
                    self.gate.leave(me, None)
            finally:
                opened.readers.release()

    def _read_as_writer(self, opened: Opened, work: Callable[[Any], _T]) -> _T:
        """Read where the table of readers is held up: a write transaction, which is not kept, needs no slot in it."""
        assert opened.writer is not None
        try:
            take(opened.writer, self._settings, self._settings.wait, "read")
            there = opened.in_place()
            if there is None:
                raise _Moved
            me = object()
            try:
                self.gate.enter(me)
                if opened is not self._opened:
                    raise LockReplaced
                txn = opened.env.begin(write=True)
                try:
                    if not opened.follows(txn, there):
                        raise _Moved
                    return work(txn)
                finally:
                    txn.abort()
            finally:
                self.gate.leave(me, None)
        finally:
            opened.writer.release()

    def _run(self, opened: Opened, held: list[Any], work: Callable[[Any], _T], due: bool) -> _T:
        """Run work in a transaction, the only reference to which is held: its slot is kept for the next one."""
        txn = held.pop()
        try:
            if due and opened.is_overwritten(txn):
                raise _Moved
            result = work(txn)
            # no lock file, so no writer knows of this reader: what it read is whole if nothing was committed since
            if opened.lockless and opened.env.info()["last_txnid"] != txn.id():
                raise _Moved
        finally:
            txn.abort()
        with opened.giving:
            if not opened.lockless and len(opened.slots) < SLOTS:
                opened.slots.append(txn)
            del txn
        return result

    def _write(self, opened: Opened, work: Callable[[Any], _T]) -> _T:
        if opened.writer is None:
            self._reopen(opened)
            if self.read_only:
                raise StoreReadOnly(self.read_only)
            raise LockReplaced
        try:
            take(opened.writer, self._settings, self._settings.wait, "written")
            there = opened.in_place()
            if there is None:
                raise _Moved
            me = object()
            try:
                self.gate.enter(me)
                return self._write_now(opened, work, there)
            finally:
                self.gate.leave(me, None)
        finally:
            try:
                opened.writer.release()
            except KeyboardInterrupt:  # that came before it was done: others would wait for an idle thread
                opened.writer.release()
                raise

    def _write_now(self, opened: Opened, work: Callable[[Any], _T], there: os.stat_result) -> _T:
        if opened is not self._opened:
            raise LockReplaced
        with opened.env.begin(write=True) as txn:
            if not opened.follows(txn, there):
                raise _Moved
            result, transaction = work(txn), txn.id()
        opened.committed(transaction)
        return result

    def erase_remains(self) -> None:
        """Overwrite what the data file still holds of rows that were replaced or removed (`lmdb_scrub`).

        Raises:
            Unavailable: another process is in a write transaction for too long, or a reader goes on with an old state.
            StorageFull, StoreReadOnly, StoreError: something may be left.
        """
        self._attempt(lambda txn: None, self._erase)

    def _erase(self, opened: Opened, work: Callable[[Any], _T]) -> _T:
        if opened.writer is None:
            raise StoreReadOnly(self.read_only or f"the online store {self.path} is read-only")
        try:
            take(opened.writer, self._settings, self._settings.wait, "written")
            if opened.in_place() is None:
                raise _Moved
            me = object()
            try:
                self.gate.enter(me)
                if opened is not self._opened:
                    raise LockReplaced
                scrub.erase_removed(self._settings.data, opened.env, self._settings.wait)
                opened.committed(opened.env.info()["last_txnid"])
                return work(None)
            finally:
                self.gate.leave(me, None)
        finally:
            opened.writer.release()

    # growing and reopening need all transactions of the process closed, else LMDB reads memory that is gone

    def _alone(self, opened: Opened, work: Callable[[lmdb.Environment], object]) -> None:
        with self._alone_inside():
            if opened is self._opened:
                opened.slots.clear()
                try:
                    work(opened.env)
                except lmdb.Error as bad:
                    raise explained(self._settings, bad) from bad

    def _grow(self, env: lmdb.Environment) -> None:
        self._settings.map_size = 2 * int(env.info()["map_size"])
        env.set_mapsize(self._settings.map_size)

    def _free_slots(self, opened: Opened) -> None:
        """Take the slots of readers that were killed; where there are none, wait a little for others to end."""
        try:
            take(opened.readers, self._settings, self._settings.wait, "read")
            me = object()
            try:
                self.gate.enter(me)
                freed = opened is not self._opened or opened.env.reader_check()
            finally:
                self.gate.leave(me, None)
        finally:
            opened.readers.release()
        if not freed:
            time.sleep(0.01)

    def _open(self) -> Opened:
        with self._opening_turn():
            if self._opened is None:
                self._opened = self._open_now()
            return self._opened

    def _reopen(self, opened: Opened) -> None:
        with self._opening_turn():
            if self._opened is opened:
                with self._alone_inside():
                    self._opened = None
                    opened.close()
                self._opened = self._open_now()

    def _open_now(self) -> Opened:
        """Open the folder; a damaged one is looked at again once its file has changed."""
        if self._given_up:
            bad = Unavailable(f"the online store {self.path}: {self._given_up}")
            bad.closed = self._given_up == _CLOSED
            raise bad
        try:
            there = self._settings.data.stat()
            state = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
        except OSError:
            state = None
        if self._refused is not None and self._refused[0] == state:
            raise StoreError(self._refused[1])
        self._refused = None
        try:
            return open_folder(self._settings)
        except StoreDamaged as bad:
            self._refused = state, str(bad)
            raise

    @contextmanager
    def _opening_turn(self) -> Iterator[None]:
        me = threading.Lock()
        try:
            if not self._opening.acquire(me, self._settings.wait):
                raise Unavailable(
                    f"the online store {self.path}: another thread of this process has not finished opening it"
                )
            yield
        finally:
            self._opening.release(me)

    @contextmanager
    def _alone_inside(self) -> Iterator[None]:
        me = object()
        try:
            if not self.gate.shut(me, self._settings.wait):
                raise Unavailable(f"the online store {self.path}: another thread has not ended its transaction")
            yield
        finally:
            self.gate.open(me, None)

    def note_end(self) -> None:
        """Note at the end of the process in which state the file is."""
        if self._opened is not None:
            self._opened.note_end()

    def release(self) -> None:
        """Close the environment for good, once its transactions are done."""
        with self._opening_turn(), self._alone_inside():
            self._given_up = _CLOSED
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.close()


class _Moved(Exception):
    """The files are not those that are open, or a reader without a lock file was overtaken by a writer."""


_ENVIRONMENTS: dict[str, Environment] = {}
_LOCK = forks.lock()


def share(settings: Settings) -> Environment:
    """The environment of a path, one more store using it; the first one's settings hold."""
    place = os.path.realpath(settings.path)
    with _LOCK:
        shared = _ENVIRONMENTS.get(place)
        if shared is None:
            shared = _ENVIRONMENTS[place] = Environment(settings.at(Path(place)))
        shared.stores += 1
    return shared


def release(shared: Environment) -> None:
    """Let go of an environment; the last of its stores closes it."""
    with _LOCK:
        shared.stores -= 1
        if not shared.stores:
            del _ENVIRONMENTS[str(shared.path)]
            shared.release()


@atexit.register
def _note_ends() -> None:
    for shared in _ENVIRONMENTS.values():
        shared.note_end()
