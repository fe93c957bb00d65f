"""Opening an LMDB folder: made in one step, looked at before LMDB trusts it, locks that can be waited for with a bound.

LMDB's own locks are waited for without end, also where the process that has one stands still. So each of them is taken
under a lock that is not: the writer's under one on `data.mdb`, that of the table of readers under one on `readers`, and
those of opening under one on the folder.

Files beside LMDB's own `data.mdb` and `lock.mdb`: `checked` says in which state the data file was looked at, `waiting`
is locked by who waits to write, `readers` as said above.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb

from headwater.errors import StoreError, StoreReadOnly, Unavailable
from headwater.file_lock import FileLock
from headwater.online.stores.lmdb.files import MAKE_WRITABLE, Settings, damaged, explained, is_noted, note, take
from headwater.online.stores.lmdb.opened import PLACE_CHECK, Opened
from headwater.online.stores.lmdb.pages import Damaged, Meta, check_pages, read_metas
from headwater.state_files import make_file, make_folder, narrow_all

MAX_READERS = 1_024

ALWAYS_CHECKED = 32 << 20
"""Bytes up to which the pages of a file are looked at although other processes have it open."""

_TRIES = 20


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
            f"the online store {settings.path} does not exist and cannot be created: {bad.strerror}"
        ) from bad
    with _folder_locked(settings):
        narrow_all(settings.path)
        try:
            return _open_writable(settings)
        except StoreReadOnly as bad:
            if not settings.data.exists():
                raise
            read_only = str(bad)
        return _open_read_only(settings, read_only)


@contextmanager
def _folder_locked(settings: Settings) -> Iterator[None]:
    """The folder's lock, held while the block runs."""
    folder = _lock_on(settings, settings.path)
    try:
        take(folder, settings, settings.wait, "opened")
        yield
    finally:
        folder.close()


def _lock_on(settings: Settings, *paths: Path) -> FileLock:
    """A lock on a file or folder, and on a second one where who waits for it shows that."""
    descriptors: list[int] = []
    try:
        for path in paths:
            descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as bad:
        for descriptor in descriptors:
            os.close(descriptor)
        raise explained(settings, bad) from bad
    return FileLock(*descriptors)


def _open_writable(settings: Settings) -> Opened:
    data, lock = settings.data, settings.lock
    if data.exists() and not os.access(data, os.W_OK):
        raise StoreReadOnly(f"the online store {data} is read-only: {MAKE_WRITABLE}")
    try:
        had_data, had_lock = data.exists(), lock.exists()
        _remove_unfinished(settings)
        if not had_data:
            _make_data(settings)
        for file in (settings.checked, settings.readers, settings.waiting):
            make_file(file)
    except OSError as bad:
        raise explained(settings, bad) from bad
    if had_data and not had_lock:
        _renew_lock(settings)
    else:
        with suppress(OSError):
            make_file(lock)
    for again in (True, False):
        opened = _opened(settings, lockless=False, read_only="")
        if opened is not None:
            return opened
        if again:
            _renew_lock(settings)
    raise StoreError(
        f"the online store {settings.path} was overwritten while other processes have it open: end or restart them"
    )


def _open_read_only(settings: Settings, why: str) -> Opened:
    for lockless in (False, True):
        with suppress(StoreReadOnly):
            opened = _opened(settings, lockless=lockless, read_only=why)
            if opened is not None:
                return opened
    raise StoreReadOnly(why)


def _opened(settings: Settings, *, lockless: bool, read_only: str) -> Opened | None:
    """The folder opened; None where LMDB's lock file is that of another state of the data file."""
    with ExitStack() as undo:
        try:
            file = os.open(settings.data, os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, file)
            writer = None if read_only else _lock_on(settings, settings.data, settings.waiting)
            if writer is not None:
                undo.callback(writer.close)
            readers = _lock_on(settings, settings.readers if settings.readers.exists() else settings.path)
            undo.callback(readers.close)
            page_size = read_metas(file)[0].page_size
            used = not lockless and _is_used(settings)
            env = _open_lmdb(settings, readonly=bool(read_only), lock=not lockless)
            undo.callback(env.close)
            if not lockless:
                with _taken(settings, readers):
                    env.reader_check()
            slots = _look(settings, env, file, readers, writer, used=used, lockless=lockless)
            if slots is None:
                return None
            opened = Opened(settings, env, file, page_size, readers, writer, read_only, lockless, slots)
        except Damaged as bad:
            raise damaged(settings, str(bad)) from bad
        except (OSError, lmdb.Error) as bad:
            raise explained(settings, bad) from bad
        undo.pop_all()
        return opened


@contextmanager
def _taken(settings: Settings, lock: FileLock) -> Iterator[None]:
    try:
        take(lock, settings, settings.wait, "opened")
        yield
    finally:
        lock.release()


def _look(
    settings: Settings,
    env: lmdb.Environment,
    file: int,
    readers: FileLock,
    writer: FileLock | None,
    *,
    used: bool,
    lockless: bool,
) -> list[Any] | None:
    """Look at the data file's pages where nobody is known to have done so.

    Returns:
        A reader's transaction that has ended, with its slot; None where LMDB's lock file is that of another state of
        the data file.

    Raises:
        Damaged: the file is damaged.
    """
    for _ in range(_TRIES):
        before = os.fstat(file)
        held: list[Any] = []
        try:
            with _taken(settings, readers):
                held = [env.begin()]
            meta = _meta_of(file, held[0].id())
            # behind the newest is one whose commit is not yet complete, or was never under this lock file
            behind = meta is not None and meta != _newest(file)
            if behind and writer is not None and _has_another_lock(settings, env, file, readers, writer):
                return None
            if meta is not None and _is_whole(settings, file, before, meta, used=used, lockless=lockless):
                return [] if lockless else held
        except lmdb.MapResizedError:
            held = _ended(held)
            env.set_mapsize(0)
        finally:
            _ended(held)
        time.sleep(0.005)
    return None


def _ended(held: list[Any]) -> list[Any]:
    for txn in held:
        txn.abort()
    return []


def _has_another_lock(
    settings: Settings, env: lmdb.Environment, file: int, readers: FileLock, writer: FileLock
) -> bool:
    """Whether LMDB's lock file is that of another state of the data file, also while nobody commits."""
    try:
        if not writer.acquire(10 * PLACE_CHECK):
            return False
        with _taken(settings, readers):
            txn = env.begin()
        try:
            return txn.id() != _newest(file).transaction
        finally:
            txn.abort()
    finally:
        writer.release()


def _is_whole(settings: Settings, file: int, before: os.stat_result, meta: Meta, *, used: bool, lockless: bool) -> bool:
    """Whether every page is there and makes sense; False where that cannot be told, since a writer was faster."""
    noted = is_noted(settings, before)
    trusted = noted or (used and before.st_size > ALWAYS_CHECKED)
    if trusted and before.st_size >= meta.size:
        return True
    try:
        check_pages(file, meta)
    except Damaged:
        if lockless and _newest(file) != meta:
            return False  # no writer knows of this reader: one may have used the pages again
        raise
    if not noted and not used:
        note(settings, before)
    return True


def _meta_of(file: int, transaction: int) -> Meta | None:
    """The meta page of a transaction that is the last one, or the one before that; None where there is none."""
    metas = sorted(read_metas(file), key=_transaction)
    known = [meta for meta in metas if meta.transaction == transaction]
    return known[0] if known and metas[1].transaction <= transaction + 1 else None


def _newest(file: int) -> Meta:
    return max(read_metas(file), key=_transaction)


def _transaction(meta: Meta) -> int:
    return meta.transaction


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
    unfinished = settings.path / f"{_UNFINISHED}{os.urandom(6).hex()}"
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
    for left in (entry for entry in settings.path.iterdir() if entry.name.startswith(_UNFINISHED)):
        left.unlink(missing_ok=True)


def _renew_lock(settings: Settings) -> None:
    """Put a new lock file in the place of one that is gone, or is that of another state of the data file.

    Processes that have the environment open see that within `PLACE_CHECK`, and open it again once the folder's lock is
    free; until then nothing is written, so that what they read stays whole.
    """
    writer = _lock_on(settings, settings.data)
    try:
        take(writer, settings, settings.wait, "opened")
        settings.lock.unlink(missing_ok=True)
        make_file(settings.lock)
        time.sleep(2 * PLACE_CHECK)
    except OSError as bad:
        raise explained(settings, bad) from bad
    finally:
        writer.close()
