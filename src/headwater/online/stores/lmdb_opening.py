"""Opening an LMDB folder: made in one step, looked at before LMDB trusts it, locks that can be waited for with a bound.

LMDB's own locks are waited for without end, also where the process that has one stands still. So each of them is taken
under a lock of this module's kind: the writer's under one on `data.mdb`, that of its table of readers, and of opening,
under one on the folder.

Files beside LMDB's own `data.mdb` and `lock.mdb`: `checked` says in which state the data file was looked at, and
`waiting` is locked by who waits to write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from headwater.errors import StorageFull, StoreError, StoreReadOnly, Unavailable
from headwater.file_lock import FileLock, LockReplaced
from headwater.online.stores.lmdb_pages import Damaged, Meta, check_pages, read_metas
from headwater.online.stores.lmdb_rows import CHUNK_BYTES
from headwater.state_files import make_file, make_folder, narrow_all

MAX_READERS = 1_024

PLACE_CHECK = 0.1
"""Seconds after which a reader looks whether the files are still those that it has open."""

ALWAYS_CHECKED = 32 << 20
"""Bytes up to which the pages of a file are looked at although other processes have it open."""

NOTED_EVERY = 1.0
"""Seconds after which a writer notes again that the file is as LMDB left it."""

_TRIES = 20
_MAKE_WRITABLE = "make the folder and its files writable"


@dataclass
class Settings:
    """How a folder is opened.

    Attributes:
        path: the folder.
        map_size: bytes of address space to reserve.
        sync: whether a commit waits for the disk.
        wait: seconds to wait at most for another process.
    """

    path: Path
    map_size: int
    sync: bool
    wait: float

    def __post_init__(self) -> None:
        self.data = self.path / "data.mdb"
        """The file with the rows."""
        self.lock = self.path / "lock.mdb"
        """The file with LMDB's own locks and its table of readers."""
        self.checked = self.path / "checked"
        """The note of the state in which the data file was looked at."""
        self.waiting = self.path / "waiting"
        """The file that is locked by who waits to write."""


@dataclass(eq=False)
class Opened:
    """An environment that is open, and what it was opened on.

    Attributes:
        env: LMDB's.
        file: a descriptor of the data file.
        folder: the lock of the table of readers, and of opening.
        writer: the lock of the one writer; None where nothing can be written.
        read_only: why nothing can be written; empty where it can.
        lockless: whether there is no lock file, so that writers do not know of readers.
        spare: whether a reader's slot is at hand, so that a read takes none of LMDB's locks.
        writing: 1 while a thread of this process is in a write transaction.
    """

    settings: Settings
    env: lmdb.Environment
    file: int
    folder: FileLock
    writer: FileLock | None = None
    read_only: str = ""
    lockless: bool = False
    spare: bool = False
    writing: int = 0
    _data: tuple[int, int] = (0, 0)
    _lock: tuple[int, int, int] | None = None
    _size: int = 0
    _checked: float = 0.0
    _noted: float = 0.0
    _last: tuple[int, int, int] | None = None
    """This process's last commit: its transaction, and what it made of the file's size and time of change."""
    _trusted: bool = True
    """Whether the file was changed by LMDB alone, as far as this process can tell."""

    def __post_init__(self) -> None:
        there = os.fstat(self.file)
        self._data, self._size = (there.st_dev, there.st_ino), there.st_size
        self._lock = None if self.lockless else _identity(self.settings.lock)
        self._checked = self._noted = time.monotonic()

    def is_current(self) -> bool:
        """Whether the files are known to be those that were opened: a deleted or cut one shows at once, others soon."""
        return self._whole() is not None and time.monotonic() - self._checked < PLACE_CHECK

    def _whole(self) -> os.stat_result | None:
        try:
            there = os.fstat(self.file)
        except OSError:  # closed meanwhile
            return None
        if there.st_size < self._size or not there.st_nlink:
            return None
        self._size = there.st_size
        return there

    def in_place(self) -> os.stat_result | None:
        """The data file, if the files at the path are those that were opened."""
        now = time.monotonic()
        try:
            there = self.settings.data.stat()
            if (there.st_dev, there.st_ino) != self._data or there.st_size < self._size:
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
        """Whether a reader's transaction is later than all that the file has: that was overwritten as it was open."""
        return bool(txn.id() > self.env.info()["last_txnid"])

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
        self._last = transaction, there.st_size, there.st_mtime_ns
        if time.monotonic() - self._noted > NOTED_EVERY:
            self._note(there)

    def _note(self, there: os.stat_result) -> None:
        self._noted = time.monotonic()
        if self._trusted:
            with suppress(OSError):
                self.settings.checked.write_text(_state(there))

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
        self.spare = False
        self.note_end()
        self.env.close()
        if self.writer is not None:
            self.writer.close()
        self.folder.close()
        os.close(self.file)

    def abandon(self) -> None:
        """Close a child's copies of what is not LMDB's; the parent's other threads may have held its locks."""
        if self.writer is not None:
            self.writer.abandon()
        self.folder.abandon()
        os.close(self.file)


def _identity(path: Path) -> tuple[int, int, int]:
    there = path.stat()
    return there.st_dev, there.st_ino, there.st_size


def _state(there: os.stat_result) -> str:
    """What changes with every write to a file, and with every boot, which may lose what was not yet on the disk."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {there.st_dev} {there.st_ino} {there.st_size} {there.st_mtime_ns}\n"


def open_folder(settings: Settings) -> Opened:
    """Open an LMDB folder, made where there is none; only by one thread of this process at a time.

    Raises:
        StoreError: the data file is damaged.
        StoreReadOnly: there is none, and it cannot be made.
        Unavailable: the path is not a folder, or another process did not finish opening it in time.
    """
    read_only = ""
    try:
        make_folder(settings.path)
    except (FileExistsError, NotADirectoryError) as bad:
        raise Unavailable(f"the online store {settings.path} is not a folder: {bad.strerror}") from bad
    except OSError as bad:
        raise StoreReadOnly(
            f"the online store {settings.path} does not exist and cannot be made: {bad.strerror}"
        ) from bad
    with _folder_locked(settings) as folder:
        narrow_all(settings.path)
        try:
            return _open_writable(settings, folder)
        except StoreReadOnly as bad:
            if not settings.data.exists():
                raise
            read_only = str(bad)
        return _open_read_only(settings, folder, read_only)


@contextmanager
def _folder_locked(settings: Settings) -> Iterator[FileLock]:
    """The folder's lock, held while the block runs; closed where that fails."""
    try:
        folder = FileLock(os.open(settings.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as bad:
        raise Unavailable(f"the online store {settings.path} cannot be opened: {bad.strerror}") from bad
    try:
        take(folder, settings, settings.wait, "opened or read")
        yield folder
    except BaseException:
        folder.close()
        raise
    folder.release()


def take(lock: FileLock, settings: Settings, seconds: float, what: str) -> None:
    """Take a lock.

    Raises:
        Unavailable: somebody else held it for too long, or the file system has no locks.
        LockReplaced: it was closed.
    """
    try:
        if lock.acquire(seconds):
            return
        holder = lock.holder()
    except OSError as bad:
        raise Unavailable(
            f"the online store {settings.path}: its file system has no file locks ({bad.strerror}): use a local disk"
        ) from bad
    advice = "resume or end that process" if "stopped" in holder else "try again, or end that process"
    raise Unavailable(
        f"the online store {settings.path} cannot be {what}: {holder} has held its lock for {settings.wait:g} s; "
        f"nothing was changed: {advice}"
    )


def _open_writable(settings: Settings, folder: FileLock) -> Opened:
    data, lock = settings.data, settings.lock
    if data.exists() and not os.access(data, os.W_OK):
        raise StoreReadOnly(f"the online store {data} is read-only: {_MAKE_WRITABLE}")
    try:
        had_data, had_lock = data.exists(), lock.exists()
        _remove_unfinished(settings)
        if not had_data:
            _make_data(settings)
        make_file(settings.waiting)
    except OSError as bad:
        raise explained(settings, bad) from bad
    if had_data and not had_lock:
        _renew_lock(settings)
    else:
        with suppress(OSError):
            make_file(lock)
    for again in (True, False):
        opened = _opened(settings, folder, lockless=False, read_only="")
        if opened is not None:
            return opened
        if again:
            _renew_lock(settings)
    raise StoreError(
        f"the online store {settings.path} was overwritten while other processes have it open: end or restart them"
    )


def _open_read_only(settings: Settings, folder: FileLock, why: str) -> Opened:
    for lockless in (False, True):
        with suppress(StoreReadOnly):
            opened = _opened(settings, folder, lockless=lockless, read_only=why)
            if opened is not None:
                return opened
    raise StoreReadOnly(why)


def _opened(settings: Settings, folder: FileLock, *, lockless: bool, read_only: str) -> Opened | None:
    """The folder opened; None where LMDB's lock file is that of another state of the data file."""
    descriptors: list[int] = []
    env = None
    try:
        descriptors.append(os.open(settings.data, os.O_RDONLY | os.O_CLOEXEC))
        writer = None
        if not read_only:
            descriptors += [
                os.open(settings.data, os.O_RDONLY | os.O_CLOEXEC),
                os.open(settings.waiting, os.O_RDONLY | os.O_CLOEXEC),
            ]
            writer = FileLock(*descriptors[1:])
        read_metas(descriptors[0])
        used = not lockless and _is_used(settings)
        env = _open_lmdb(settings, readonly=bool(read_only), lock=not lockless)
        if not _look(settings, env, descriptors[0], used=used, lockless=lockless):
            env.close()
            env = None
            return None
        if not lockless:
            env.reader_check()
        opened = Opened(settings, env, descriptors[0], folder, writer, read_only, lockless, spare=not lockless)
        descriptors, env = [], None
        return opened
    except Damaged as bad:
        raise damaged(settings, str(bad)) from bad
    except OSError as bad:
        raise explained(settings, bad) from bad
    except lmdb.Error as bad:
        raise explained(settings, bad) from bad
    finally:
        if env is not None:
            env.close()
        for descriptor in descriptors:
            os.close(descriptor)


def _look(settings: Settings, env: lmdb.Environment, file: int, *, used: bool, lockless: bool) -> bool:
    """Look at the data file's pages where nobody is known to have done so.

    Returns:
        False where LMDB's lock file is that of another state of the data file.

    Raises:
        Damaged: the file is damaged.
    """
    for _ in range(_TRIES):
        before = os.fstat(file)
        txn = env.begin()
        try:
            meta = _meta_of(file, txn.id())
            if meta is not None:
                noted = _is_noted(settings, before)
                trusted = noted or (used and before.st_size > ALWAYS_CHECKED)
                if before.st_size < meta.size or not trusted:
                    try:
                        check_pages(file, meta)
                    except Damaged:
                        if not lockless or max(read_metas(file), key=_transaction) == meta:
                            raise
                        continue  # no writer knows of this reader: one may have used the pages again
                    if not noted and not used:
                        with suppress(OSError):
                            settings.checked.write_text(_state(before))
                return True
        finally:
            txn.abort()
            del txn
        time.sleep(0.005)
    return False


def _meta_of(file: int, transaction: int) -> Meta | None:
    """The meta page of a transaction that is the last one, or the one before that; None where there is none."""
    metas = sorted(read_metas(file), key=_transaction)
    known = [meta for meta in metas if meta.transaction == transaction]
    return known[0] if known and metas[1].transaction <= transaction + 1 else None


def _transaction(meta: Meta) -> int:
    return meta.transaction


def _is_noted(settings: Settings, there: os.stat_result) -> bool:
    try:
        return settings.checked.read_text() == _state(there)
    except (OSError, ValueError):
        return False


def _is_used(settings: Settings) -> bool:
    """Whether another process has the environment open: LMDB then holds a lock on the first byte of its lock file."""
    try:
        descriptor = os.open(settings.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open_lmdb(settings: Settings, **options: Any) -> lmdb.Environment:
    size = settings.map_size
    while True:
        try:
            return lmdb.open(
                str(settings.path),
                map_size=size,
                sync=settings.sync,
                max_readers=MAX_READERS,
                max_spare_txns=1,
                mode=0o600,
                **options,
            )
        except (lmdb.MemoryError, lmdb.InvalidParameterError):
            if size <= 1 << 24:
                raise
            size //= 4


def _make_data(settings: Settings) -> None:
    """Make an empty data file: whole, or not at all, whenever this is ended."""
    unfinished = settings.path / f"{_UNFINISHED}{secrets.token_hex(6)}"
    try:
        make_file(unfinished)
        lmdb.open(str(unfinished), subdir=False, lock=False, map_size=1 << 20).close()
        if not settings.data.exists():
            unfinished.rename(settings.data)
    except lmdb.Error as bad:
        raise explained(settings, bad) from bad
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


_UNFINISHED = "unfinished-"


def _remove_unfinished(settings: Settings) -> None:
    for left in settings.path.glob(f"{_UNFINISHED}*"):
        left.unlink(missing_ok=True)


def _renew_lock(settings: Settings) -> None:
    """Put a new lock file in the place of one that is gone, or is that of another state of the data file.

    Processes that have the environment open see that within `PLACE_CHECK`, and open it again once the folder's lock is
    free; until then nothing is written, so that what they read stays whole.
    """
    writer = FileLock(os.open(settings.data, os.O_RDONLY | os.O_CLOEXEC))
    try:
        take(writer, settings, settings.wait, "opened")
        settings.lock.unlink(missing_ok=True)
        make_file(settings.lock)
        time.sleep(2 * PLACE_CHECK)
    except OSError as bad:
        raise explained(settings, bad) from bad
    finally:
        writer.close()


class StoreDamaged(StoreError):
    """The data file cannot be used."""


def damaged(settings: Settings, text: str) -> StoreDamaged:
    """The error that says what can be done about a data file that cannot be used."""
    return StoreDamaged(
        f"the online store {settings.path} is damaged or not an LMDB folder ({text}): delete it and run materialize"
    )


def explained(settings: Settings, bad: lmdb.Error | OSError) -> StoreError:
    """An error of LMDB's or the system's as one of ours, with what to do."""
    path, text = settings.path, str(bad) if isinstance(bad, lmdb.Error) else bad.strerror or str(bad)
    if (
        isinstance(bad, lmdb.DiskError)
        or any(sign in text for sign in _FULL)
        or (_IO_ERROR in text and _is_full(settings))
    ):
        advice = "make room and repeat; what was acknowledged is kept"
        return StorageFull(f"the online store {path} has no room left ({text}): {advice}")
    if isinstance(bad, lmdb.ReadonlyError) or any(sign in text for sign in _READ_ONLY):
        return StoreReadOnly(f"the online store {path} is read-only ({text}): {_MAKE_WRITABLE}")
    if isinstance(bad, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)):
        return damaged(settings, text)
    return Unavailable(f"the online store {path}: {text}")


def _is_full(settings: Settings) -> bool:
    """Whether a short write, which LMDB reports as an I/O error, means a full disk or the largest file allowed."""
    try:
        room, size = os.statvfs(settings.path), settings.data.stat().st_size
    except OSError:
        return False
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return room.f_bavail * room.f_frsize < CHUNK_BYTES or (limit >= 0 and size + CHUNK_BYTES > limit)


_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))
_READ_ONLY = tuple(map(os.strerror, (errno.EROFS, errno.EACCES, errno.EPERM)))
_IO_ERROR = os.strerror(errno.EIO)
