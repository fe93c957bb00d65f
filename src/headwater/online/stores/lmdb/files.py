"""The files of an LMDB folder, locks on them that are waited for with a bound, and errors that say what to do."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec

from headwater.errors import StorageFull, StoreError, StoreReadOnly, Unavailable
from headwater.file_lock import FileLock
from headwater.online.stores.lmdb.rows import CHUNK_BYTES
from headwater.state_files import opener

MAKE_WRITABLE = "make the folder and its files writable"


class Settings(msgspec.Struct, dict=True):
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
        self.erased = self.path / "erased"
        """The file that changes when removed rows were overwritten: buffers of before may still hold them."""
        self.readers = self.path / "readers"
        """The file that is locked by who changes LMDB's table of readers."""

    def at(self, path: Path) -> Settings:
        """The same for another folder."""
        return Settings(path, self.map_size, self.sync, self.wait)


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
            f"the online store {settings.path}: its file system does not support file locks ({bad.strerror}): use a "
            "local disk"
        ) from bad
    advice = "resume or end that process" if "stopped" in holder else "try again, or end that process"
    raise Unavailable(
        f"the online store {settings.path} cannot be {what}: {holder} has held its lock for {settings.wait:g} s; "
        f"nothing was changed: {advice}"
    )


def _state(there: os.stat_result) -> str:
    """What changes with every write to a file, and with every boot, which may lose what was not yet on the disk."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {there.st_dev} {there.st_ino} {there.st_size} {there.st_mtime_ns}\n"


def note(settings: Settings, there: os.stat_result) -> None:
    """Note in which state the data file was looked at, or left by LMDB; where that cannot be written, it is not."""
    with suppress(OSError), open(settings.checked, "w", opener=opener) as file:
        file.write(_state(there))


def is_noted(settings: Settings, there: os.stat_result) -> bool:
    """Whether a state of the data file is the one that was noted."""
    try:
        return settings.checked.read_text() == _state(there)
    except (OSError, ValueError):
        return False


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
        advice = "free some space and retry; all acknowledged writes are kept"
        return StorageFull(f"the online store {path} has no space left ({text}): {advice}")
    if isinstance(bad, lmdb.ReadonlyError) or any(sign in text for sign in _READ_ONLY):
        return StoreReadOnly(f"the online store {path} is read-only ({text}): {MAKE_WRITABLE}")
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
