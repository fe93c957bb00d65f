"""Where a registry is: a copy of a project's folder has the same offline log id, and is not the registry."""

from __future__ import annotations

import os
from pathlib import Path

from headwater.database.database import Database
from headwater.errors import StoreError
from headwater.offline.files.local import this_host
from headwater.offline.log.log_id import read_log_id
from headwater.online.base import OnlineStore
from headwater.values import Value


class RegistryLocation(Value, frozen=True):
    """Where the file of a registry is.

    Attributes:
        host: in a digest.
        path: of its file, without links.
        device, inode: the file's.
        store: the folder of an online store on this host, without links; empty: a server's.
    """

    host: str
    path: str
    device: int
    inode: int
    store: str = ""

    def is_same_file(self, other: RegistryLocation) -> bool:
        """Whether both are of one file: a backup was put back, a volume was mounted, or it was renamed."""
        if (self.host, self.path) == (other.host, other.path):
            return True
        on = (self.host, self.device) == (other.host, other.device)
        return self.inode == other.inode and (on or self.path == other.path)


def location_of(database: Database, online: OnlineStore) -> RegistryLocation | None:
    """Where a registry is; None where it is on a server or in memory, or the online store is in memory."""
    if database.file is None:
        return None
    store = ""
    if online.capabilities.local:
        store = os.path.realpath(str(online.info()["place"]))
        if not Path(store).is_dir():
            return None
    path = os.path.realpath(database.file.path)
    try:
        there = Path(path).stat()
    except OSError:
        return None
    return RegistryLocation(this_host(), path, there.st_dev, there.st_ino, store)


def is_copy(mine: RegistryLocation | None, known: RegistryLocation | None, log_id: str) -> bool:
    """Whether a registry is another one than the one that an online store was written from, with the same log id.

    One on another host cannot be looked at. On this host it was moved where nothing is left at the other path.

    Args:
        mine: the registry's location; None: it has none.
        known: the location that the store has; None: it has none yet.
        log_id: the id of the registry's offline log.
    """
    if mine is None or known is None or mine.store != known.store or mine.is_same_file(known):
        return False
    return mine.host != known.host or _has_log(known.path, log_id)


def _has_log(path: str, log_id: str) -> bool:
    """Whether a file is a registry with this offline log, as far as it can be looked at."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    database = Database(f"sqlite:///{path}", Path("/"))
    try:
        return read_log_id(database) == log_id
    except StoreError:
        return True
    finally:
        database.close()
