"""The LMDB environment of a path: opened once a process, shared by its stores, opened again where it must be."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from headwater import forks
from headwater.errors import StorageFull, StoreError, StoreReadOnly, Unavailable, UsageError
from headwater.gate import Gate
from headwater.online.stores.lmdb_rows import CHUNK_BYTES

MAX_READERS = 1_024
PLACE_CHECK = 0.1
ATTEMPTS = 24

_T = TypeVar("_T")


class Environment:
    """The one LMDB environment of a path in this process, shared by its stores."""

    def __init__(self, path: Path, map_size: int, sync: bool) -> None:
        self.path = path
        self.data = path / "data.mdb"
        self.stores = 0
        self.read_only = self._lockless = False
        self._map_size, self._sync = map_size, sync
        self._env: lmdb.Environment | None = None
        self._file = -1
        self._identity = (0, 0)
        self._checked = 0.0
        self._given_up = ""
        self._shut = False
        self.gate, self._opening = Gate(), forks.lock()
        forks.after_fork(self, Environment._in_child, before=Environment._before_fork, in_parent=Environment._go_on)

    def _before_fork(self) -> None:
        self._shut = self.gate.shut(forks.PATIENCE)

    def _go_on(self) -> None:
        if self._shut:
            self._shut = False
            self.gate.open()

    def _in_child(self) -> None:
        """Open nothing that is the parent's; LMDB opens a path once in a process, so what was copied goes first."""
        if self._shut or not self.gate.inside:
            # no transaction was open: what is closed are this process's own copies, not the parent's readers
            self._close()
        else:
            forks.abandon(self._env)
            self._env, self._file = None, -1
            self._given_up = (
                "this process was forked within a transaction of its parent: fork outside of them, or start processes "
                "with multiprocessing's 'spawn' or 'forkserver'"
            )
        self.gate, self._shut = Gate(), False

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The bytes under each key; what `read` would do, on the shortest road while nothing is amiss."""
        env = self._env
        if env is not None and not self._lockless and self._in_place():
            self.gate.enter()
            try:
                if env is self._env:
                    txn = env.begin()
                    try:
                        return list(map(txn.get, keys))
                    finally:
                        txn.abort()
            except lmdb.Error:
                pass  # told, or mended, below
            finally:
                self.gate.leave()
        return self.read(lambda txn: list(map(txn.get, keys)))

    def read(self, work: Callable[[Any], _T]) -> _T:
        """Run work in a read transaction.

        Raises:
            StoreError: the environment cannot be opened or read.
        """
        self._check_place(always=False)
        return self._attempt(work, write=False)

    def write(self, work: Callable[[Any], _T]) -> _T:
        """Run work in a write transaction and commit it; it may run twice, where the map had to grow.

        Raises:
            StorageFull, StoreReadOnly, StoreError: nothing of the transaction is kept.
        """
        self._check_place(always=True)
        if self.read_only:
            self._reopen()
        return self._attempt(work, write=True)

    def _attempt(self, work: Callable[[Any], _T], *, write: bool) -> _T:
        for _ in range(ATTEMPTS):
            try:
                return self._run(work, write)
            except lmdb.MapResizedError:
                self._alone(lambda env: env.set_mapsize(0))
            except lmdb.MapFullError:
                self._alone(self._grow)
            except lmdb.ReadersFullError:
                if not self._alone(lambda env: env.reader_check()):
                    time.sleep(0.01)
            except (lmdb.PanicError, lmdb.BadRslotError, _Overtaken):
                self._reopen()
            except lmdb.BadValsizeError as bad:
                raise UsageError(f"online store {self.path}: keys have 1 to 511 bytes ({bad})") from bad
            except lmdb.Error as bad:
                raise self._explained(bad) from bad
        raise Unavailable(f"the online store {self.path} could not be used: its reader table or its map stays full")

    def _run(self, work: Callable[[Any], _T], write: bool) -> _T:
        self.gate.enter()
        try:
            env = self._env or self._open()
            if write:
                if self.read_only:
                    raise StoreReadOnly(f"the online store {self.path} is read-only: {_MAKE_WRITABLE}")
                with env.begin(write=True) as txn:
                    return work(txn)
            txn = env.begin()
            try:
                result = work(txn)
                # no lock file, so no writer knows of this reader: what it read is whole if nothing was committed since
                if self._lockless and env.info()["last_txnid"] != txn.id():
                    raise _Overtaken
            finally:
                txn.abort()
            return result
        finally:
            self.gate.leave()

    # growing and reopening need all transactions of the process closed, else LMDB reads memory that is gone

    def _alone(self, work: Callable[[lmdb.Environment], _T]) -> _T | None:
        with self.gate.alone():
            try:
                return None if self._env is None else work(self._env)
            except lmdb.Error as bad:
                raise self._explained(bad) from bad

    def _grow(self, env: lmdb.Environment) -> None:
        self._map_size = 2 * int(env.info()["map_size"])
        env.set_mapsize(self._map_size)

    def _in_place(self) -> bool:
        """Whether the file is known to lie where it was opened: a deleted one is told at once, a moved one soon."""
        try:
            return time.monotonic() - self._checked < PLACE_CHECK and os.fstat(self._file).st_nlink > 0
        except OSError:
            return False

    def _check_place(self, *, always: bool) -> None:
        """Reopen where the folder was deleted or replaced."""
        if self._file < 0 or (not always and self._in_place()):
            return
        self._checked = time.monotonic()
        try:
            there = self.data.stat()
            same = (there.st_dev, there.st_ino) == self._identity
        except OSError:
            same = False
        if not same:
            self._reopen()

    def _reopen(self) -> None:
        with self.gate.alone():
            self._close()
            self._open()

    def release(self) -> None:
        """Close the environment for good, once its transactions are done."""
        with self.gate.alone():
            self._given_up = "it was closed"
            self._close()

    def _close(self) -> None:
        if self._env is not None:
            self._env.close()
        if self._file >= 0:
            os.close(self._file)
        self._env, self._file = None, -1

    def _open(self) -> lmdb.Environment:
        with self._opening:
            return self._env or self._open_first()

    def _open_first(self) -> lmdb.Environment:
        if self._given_up:
            raise Unavailable(f"the online store {self.path}: {self._given_up}")
        try:
            env = self._open_writable()
        except StoreReadOnly:
            if not self.data.exists():
                raise
            env, self.read_only = self._open_read_only(), True
        else:
            self.read_only = self._lockless = False
            env.reader_check()
        self._file = os.open(self.data, os.O_RDONLY | os.O_CLOEXEC)
        there = os.fstat(self._file)
        self._identity, self._env = (there.st_dev, there.st_ino), env
        self._checked = time.monotonic()
        return env

    def _open_writable(self) -> lmdb.Environment:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as bad:
            raise Unavailable(f"the online store {self.path} is no folder: {bad.strerror}") from bad
        except OSError as bad:
            raise StoreReadOnly(
                f"the online store {self.path} does not exist and cannot be made: {bad.strerror}"
            ) from bad
        if self.data.exists() and not os.access(self.data, os.W_OK):
            raise StoreReadOnly(f"the online store {self.data} is read-only")
        return self._open_with(readonly=False, lock=True)

    def _open_read_only(self) -> lmdb.Environment:
        self._lockless = False
        try:
            return self._open_with(readonly=True, lock=True)
        except StoreReadOnly:
            self._lockless = True
            return self._open_with(readonly=True, lock=False)

    def _open_with(self, **options: Any) -> lmdb.Environment:
        size = self._map_size
        while True:
            try:
                return lmdb.open(
                    str(self.path), map_size=size, sync=self._sync, max_readers=MAX_READERS, max_spare_txns=0, **options
                )
            except (lmdb.MemoryError, lmdb.InvalidParameterError) as bad:
                if size <= 1 << 24:
                    raise self._explained(bad) from bad
                size //= 4
            except lmdb.Error as bad:
                raise self._explained(bad) from bad

    def _explained(self, bad: lmdb.Error) -> StoreError:
        """An LMDB error as one of ours, with what to do."""
        text = str(bad)
        if (
            isinstance(bad, lmdb.DiskError)
            or any(sign in text for sign in _FULL)
            or (_IO_ERROR in text and self._is_full())
        ):
            advice = "make room and repeat; what was acknowledged is kept"
            return StorageFull(f"the online store {self.path} has no room left ({text}): {advice}")
        if isinstance(bad, lmdb.ReadonlyError) or any(sign in text for sign in _READ_ONLY):
            return StoreReadOnly(
                f"the online store {self.path} is read-only ({text}): make the folder and its files writable"
            )
        if isinstance(bad, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)):
            return StoreError(
                f"the online store {self.path} is damaged or no LMDB folder ({text}): delete it and run materialize"
            )
        return Unavailable(f"the online store {self.path}: {text}")

    def _is_full(self) -> bool:
        """Whether a short write, which LMDB reports as an I/O error, means a full disk or the largest file allowed."""
        try:
            room, size = os.statvfs(self.path), self.data.stat().st_size
        except OSError:
            return False
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        return room.f_bavail * room.f_frsize < CHUNK_BYTES or (limit >= 0 and size + CHUNK_BYTES > limit)


class _Overtaken(Exception):
    """A reader without a lock file was overtaken by a writer."""


_MAKE_WRITABLE = "make the folder and its files writable"
_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
_READ_ONLY = tuple(map(os.strerror, (errno.EROFS, errno.EACCES, errno.EPERM)))
_IO_ERROR = os.strerror(errno.EIO)

_ENVIRONMENTS: dict[str, Environment] = {}
_LOCK = forks.lock()


def share(path: Path, map_size: int, sync: bool) -> Environment:
    """The environment of a path, one more store using it; the first one's options hold."""
    place = os.path.realpath(path)
    with _LOCK:
        shared = _ENVIRONMENTS.get(place)
        if shared is None:
            shared = _ENVIRONMENTS[place] = Environment(Path(place), map_size, sync)
        shared.stores += 1
    return shared


def release(shared: Environment) -> None:
    """Let go of an environment; the last of its stores closes it."""
    with _LOCK:
        shared.stores -= 1
        if not shared.stores:
            del _ENVIRONMENTS[str(shared.path)]
            shared.release()
