"""The embedded store: one LMDB environment in a folder, many reader processes beside one writer at a time.

Durability: a put returns when its last transaction is on disk (`sync=False`: in the operating system's hands, which
outlives the process but not the machine). A large put is several transactions, so that other writers get their turn;
Readers never wait for writers, nor hold one up.

The environment is the one thing shared in a process: LMDB lets a path be opened once, so all stores of a path use it,
counted. It is opened when first used, anew after a fork, and anew when the folder was deleted or replaced under it.
"""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

import lmdb

from headwater.clock import to_micros
from headwater.errors import ConfigError, StorageFull, StoreError, StoreReadOnly, Unavailable, UsageError, nearest
from headwater.online.base import Capabilities, Change, HighWater, OnlineStore, PutOutcome, Row, new_token, too_late
from headwater.online.stores.gate import Gate
from headwater.online.stores.lmdb_rows import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    SCAN_ROWS,
    chunks,
    compare_and_set,
    put_chunk,
    raise_high_water,
    rows_from,
    runs,
    set_or_delete,
)
from headwater.types import ConsistencyLevel

MAP_SIZE = 1 << 40
"""Address space reserved for the map: costs no disk, and spares growing it while others read."""

MAX_READERS = 1_024
PLACE_CHECK = 0.1
ATTEMPTS = 24

_T = TypeVar("_T")


class LMDBOnlineStore(OnlineStore):
    """Rows in a folder of this machine.

    Args:
        path: the folder; made when first used.
        map_size: bytes of address space to reserve; less is taken where that much is refused, and grows by itself.
        sync: whether a put waits for the disk.
    """

    capabilities = Capabilities(levels=frozenset(ConsistencyLevel), local=True)

    def __init__(self, path: str | os.PathLike[str], *, map_size: int = MAP_SIZE, sync: bool = True) -> None:
        self._shared = _share(Path(path), map_size, sync)
        self._closed = False

    @classmethod
    def from_url(cls, url: str, folder: Path) -> Self:
        """The store of `lmdb:PATH`, relative to the project's folder; `?sync=off` and `?map_size=BYTES` as options."""
        place, _, query = url.partition(":")[2].partition("?")
        place = place.removeprefix("//") if place.startswith("///") or not place.startswith("/") else place
        options: dict[str, Any] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name == "sync" and value in ("on", "off"):
                options["sync"] = value == "on"
            elif name == "map_size" and value.isdecimal():
                options["map_size"] = int(value)
            else:
                hint = nearest(name, ("sync", "map_size"))
                raise ConfigError(f"online URL {url!r}: {name}={value!r} is not sync=on|off or map_size=BYTES{hint}")
        if not place:
            raise ConfigError(f"online URL {url!r} names no folder; write lmdb:.headwater/online")
        return cls(folder / place, **options)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._shared.get(keys) if not self._closed else self._open().get(keys)

    def put(
        self,
        rows: Iterable[Row],
        *,
        until: int | None = None,
        expires_in: int | None = None,
        high_water: HighWater | None = None,
    ) -> list[PutOutcome]:
        shared, outcomes = self._open(), list[PutOutcome]()
        for run in runs(rows):
            mine = [PutOutcome.SUPERSEDED] * len(run)
            for chunk in chunks(run):

                def step(txn: Any, run: Sequence[Row] = run, chunk: Sequence[int] = chunk, mine: Any = mine) -> None:
                    self._check(until)
                    put_chunk(txn, run, chunk, mine)
                    raise_high_water(txn, high_water)

                shared.write(step)
            outcomes += mine
        return outcomes

    def compare_and_put(
        self,
        key: bytes,
        sequence: int,
        row: bytes | None,
        *,
        until: int | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        return self.compare_and_put_all([(key, sequence, row)], until=until, high_water=high_water)[0]

    def compare_and_put_all(
        self, changes: Sequence[Change], *, until: int | None = None, high_water: HighWater | None = None
    ) -> list[bool]:
        shared, done = self._open(), list[bool]()
        for start in range(0, len(changes), CHUNK_ROWS):
            part = changes[start : start + CHUNK_ROWS]

            def swap(txn: Any, part: Sequence[Change] = part) -> list[bool]:
                self._check(until)
                raise_high_water(txn, high_water)
                return [compare_and_set(txn, *change) for change in part]

            done += shared.write(swap)
        return done

    def put_meta(
        self,
        entries: Mapping[bytes, bytes | None],
        *,
        expected: Mapping[bytes, bytes | None] | None = None,
        epoch: tuple[bytes, bytes] | None = None,
        high_water: HighWater | None = None,
    ) -> bool:
        wanted = dict(expected or {}) | (dict([epoch]) if epoch is not None else {})

        def write(txn: Any) -> bool:
            if any(txn.get(key) != data for key, data in wanted.items()):
                return False
            for key, data in entries.items():
                set_or_delete(txn, key, data)
            raise_high_water(txn, high_water)
            return True

        return self._open().write(write)

    def epoch(self, key: bytes) -> bytes:
        (token,) = self.multi_get([key])
        while not token:
            self.put_meta({key: new_token()}, expected={key: token})
            (token,) = self.multi_get([key])
        return token

    def _check(self, until: int | None) -> None:
        if until is not None and to_micros(self.clock()) > until:
            raise too_late(f"the online store {self._shared.path}")

    def delete(self, keys: Iterable[bytes]) -> None:
        shared, gone = self._open(), sorted(keys)
        for start in range(0, len(gone), CHUNK_ROWS):
            chunk = gone[start : start + CHUNK_ROWS]
            shared.write(lambda txn, chunk=chunk: [txn.delete(key) for key in chunk])  # type: ignore[misc]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        # no transaction is left open between items: it would keep every page freed meanwhile from being used again
        start = prefix
        while True:
            found = self._open().read(lambda txn, start=start: rows_from(txn, start, prefix))  # type: ignore[misc]
            yield from found
            if len(found) < SCAN_ROWS:
                return
            start = found[-1][0] + b"\0"

    def info(self) -> Mapping[str, str | int]:
        shared = self._open()
        entries = shared.read(lambda txn: txn.stat()["entries"])
        return {
            "kind": "lmdb",
            "place": str(shared.path),
            "entries": entries,
            "bytes": shared.data.stat().st_blocks * 512,
            "warnings": "the folder is read-only: reads go on, writes are refused" if shared.read_only else "",
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            _release(self._shared)

    def _open(self) -> _Environment:
        if self._closed:
            raise Unavailable(f"the online store {self._shared.path} was closed")
        return self._shared


class _Environment:
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
        self.forget()

    def forget(self) -> None:
        """Begin anew, nothing open: for the child of a fork, where the parent's locks mean nothing."""
        self._close()
        self.gate, self._opening = Gate(), threading.Lock()

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
        """Close the environment once its transactions are done."""
        with self.gate.alone():
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

_ENVIRONMENTS: dict[str, _Environment] = {}
_LOCK = threading.Lock()


def _share(path: Path, map_size: int, sync: bool) -> _Environment:
    """The environment of a path, one more store using it; the first one's options hold."""
    place = os.path.realpath(path)
    with _LOCK:
        shared = _ENVIRONMENTS.get(place)
        if shared is None:
            shared = _ENVIRONMENTS[place] = _Environment(Path(place), map_size, sync)
        shared.stores += 1
    return shared


def _release(shared: _Environment) -> None:
    with _LOCK:
        shared.stores -= 1
        if not shared.stores:
            del _ENVIRONMENTS[str(shared.path)]
            shared.release()


def _before_fork() -> None:
    _LOCK.acquire()
    for shared in _ENVIRONMENTS.values():
        shared.gate.shut()


def _after_fork_in_parent() -> None:
    for shared in _ENVIRONMENTS.values():
        shared.gate.open()
    _LOCK.release()


def _after_fork_in_child() -> None:
    global _LOCK
    _LOCK = threading.Lock()
    for shared in _ENVIRONMENTS.values():
        shared.forget()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
