"""The file of a SQLite database: whether it is still the one that this process knows, and what it may open beside it.

A database is restored by putting another file in its place, or by copying over it. SQLite notices neither: connections
go on in the file that is gone, or mix its cached pages and its write-ahead log with a file that is another. So each
transaction first compares the file with what was seen of it before, and each write does so again after its commit.

Nothing but SQLite changes a database's file in place, and only by moving pages from the write-ahead log into it. To
tell that from a copy, every write transaction counts up a number in the header of the file (`user_version`), beside one
that is random, of which a part stays the same (`application_id`): both are then those of one of the log's pages, or of
the transaction before the first of them. Where they are not, the log belongs to a file that is gone, and must not be
applied to this one. A file that is noticed to be another one is then copied, with the log that belongs to it, into a
new one in its place: whoever has the old one open, or its log, notices that too, and changes nothing in the new one.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from headwater import forks
from headwater.deferred import deferred_pattern
from headwater.errors import FormatError, StorageFull, StoreError, Unavailable
from headwater.file_lock import FileLock
from headwater.state_files import is_private, make_file
from headwater.values import Value

WAIT = 30.0
"""Seconds to wait at most for another process that opens the database, or copies over it."""

_COPY: re.Pattern[str] = deferred_pattern("[0-9a-f]{12}(-wal|-shm|-journal)?")
"""The end of the name of a copy."""
_BITS = 16
_TRIES = 20
_PAUSE = 0.01


class Count(Value, frozen=True):
    """What a database's header says of its state.

    Attributes:
        stamp: a random number; 0 where no transaction has given one yet.
        number: of the last write transaction.
    """

    stamp: int
    number: int

    @property
    def lineage(self) -> int:
        """The part of the stamp that each transaction leaves as it is; a copy made in a file's place has another."""
        return self.stamp >> _BITS

    def precedes(self, later: Count) -> bool:
        """Whether another count may be the next one."""
        return self.number == later.number - 1 and self.lineage in (0, later.lineage)


def next_stamp(lineage: int = 0) -> int:
    """Another stamp; of the lineage, where there is one."""
    return (lineage or _random(4) % ((1 << 15) - 1) + 1) << _BITS | _random(_BITS // 8)


def _random(size: int) -> int:
    """A number of so many bytes."""
    return int.from_bytes(os.urandom(size), "big")


class _State(Value, frozen=True):
    """What the file system says of a database's file and of those that SQLite keeps beside it.

    Attributes:
        identity: of the file: its device and inode.
        written: its size, and when it was changed last.
        log, index: the inodes of the write-ahead log and of its index; 0 where there is none.
        writable: whether anybody may write to it, by its permissions.
    """

    identity: tuple[int, int]
    written: tuple[int, int]
    log: int
    index: int
    writable: bool

    def has_beside(self, later: _State) -> bool:
        """Whether the files that are beside the database are still there later."""
        return self.log in (0, later.log) and self.index in (0, later.index)


class DatabaseFile:
    """A SQLite database's file, as the connections of this process know it.

    Args:
        path: the file.
        read_only: whether nothing can be changed in its folder.

    Attributes:
        generation: how often the file was found to be another one: what was read of it before is void.
        read_only: whether nothing can be changed in its folder.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.generation = 0
        self._log, self._index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
        self.read_only = read_only
        self._lock = forks.rlock()
        self._known: _State | None = None
        self._count: Count | None = None
        self._greatest = 0
        self._open: set[int] = set()
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
        if self._known is not None and self._look() != self._known:
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
            if self._known is None and not self.read_only:
                self._remove_unfinished()
            if state is not None or seen:
                self._take(state)
            else:
                if self._known is not None:
                    self._begin_another()
                if is_private(self.path):
                    with suppress(OSError):
                        # SQLite gives the files beside it the same permissions
                        make_file(self.path)

    def opened(self, connection: Any, before: tuple[int, int] | None) -> int:
        """Note a connection that was opened.

        Args:
            connection: the driver's.
            before: the file's identity before it was opened; None where there was none.

        Returns:
            The generation that it belongs to; -1 where the file was replaced meanwhile.
        """
        with self._lock:
            here = self._look()
            self._take(here)
            self._open.add(id(connection))
            same = here is not None and self._known is not None and self._known.identity == here.identity
            return self.generation if same and here is not None and before in (None, here.identity) else -1

    def closed(self, connection: Any) -> None:
        """Note a connection that is closed."""
        self._open.discard(id(connection))

    def wrote(self, number: int, generation: int) -> None:
        """Note the number of a write transaction that was committed in the file of a generation."""
        with self._lock:
            if generation == self.generation:
                self._greatest = max(self._greatest, number)

    def may_close(self) -> bool:
        """Whether a connection may be closed: the last one moves pages from the log that it has into the file.

        A file that was copied over is put into another one first, which no log that is open is moved into.
        """
        try:
            self.check()
        except StoreError:
            known, here = self._known, self._look()
            return known is not None and (here is None or here.identity != known.identity)
        return True

    def identity(self) -> tuple[int, int] | None:
        """The file's identity; None where there is none."""
        state = self._look()
        return None if state is None else state.identity

    def is_writable(self) -> bool:
        """Whether the permissions of a file that was opened for writing, as seen last, let anybody write to it."""
        return self.read_only or self._known is None or self._known.writable

    def log_size(self) -> int:
        """Bytes of the write-ahead log; 0 where there is none."""
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def has_own_log(self) -> bool:
        """Whether the write-ahead log beside the file is the file's own."""
        return self._owns_log(self.read_count() or Count(0, 0), greatest=False)

    def _look(self) -> _State | None:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as bad:
            raise Unavailable(f"{self.path}: cannot be accessed: {bad.strerror}") from bad
        if not stat.S_ISREG(there.st_mode):
            raise Unavailable(f"{self.path}: is not a file: put the database file back, or restore it from a backup")
        written, writable = (there.st_size, there.st_mtime_ns), bool(there.st_mode & 0o222)
        return _State((there.st_dev, there.st_ino), written, _inode(self._log), _inode(self._index), writable)

    def _begin_another(self) -> None:
        self.generation += 1
        self._greatest = 0
        self._known = self._count = None

    def _take(self, state: _State | None) -> None:
        """Take a state of the file for the one that is known, once it is sure to be one that SQLite can go on from."""
        known = self._known
        if state is None:
            raise Unavailable(
                f"{self.path}: the database file was removed or moved while it was open: put it back or restore it "
                "from a backup; to start with an empty one, open the store again"
            )
        if state == known:
            return
        count = self._going_on(state)
        if count is None and not self.read_only:
            self._renew(state)
            state = self._look()
            if state is None:
                return self._take(None)
        if known is not None and (count is None or state.identity != known.identity):
            self._begin_another()
        self._known, self._count = state, count or self.read_count()

    def _going_on(self, state: _State) -> Count | None:
        """The file's count, if it goes on from what is known of it, and the write-ahead log from the file; else None.

        It is looked at again and again: others may move pages from the log to the file between two looks.
        """
        known, before = self._known, self._count
        replaced = known is not None and state.identity != known.identity
        open_here = known if self._open and not replaced else None
        if open_here is not None and not open_here.has_beside(state):
            return None  # nobody else could read what is written to the files that SQLite has open here
        if replaced:
            self._wait_until_whole()
        for _ in range(_TRIES):
            count = self.read_count() or Count(0, 0)
            if replaced:
                # one of another lineage was put there by another process that noticed, or is another database
                fits = before is not None and before.lineage not in (0, count.lineage) and count.lineage != 0
            else:
                fits = known is None or before is None or self._follows(count, before)
            if fits and self._owns_log(count, greatest=not replaced):
                return count
            if replaced and not fits:
                return None
            time.sleep(_PAUSE)
        return None

    def _follows(self, count: Count, before: Count) -> bool:
        if count.number == before.number:
            return count == before
        return count.number > before.number and before.lineage in (0, count.lineage)

    def _owns_log(self, count: Count, *, greatest: bool = True) -> bool:
        """Whether the write-ahead log goes on from the file, and both have all that this process has written."""
        logged = log_counts(self._log)
        if not logged:
            return count.number >= self._greatest or not greatest
        if greatest and logged[-1].number < self._greatest:
            return False
        return count in logged or count.precedes(logged[0])

    def read_count(self) -> Count | None:
        """What the file's own header says, whatever its write-ahead log says; None where that cannot be read."""
        try:
            with closing(connect_immutable(self.path)) as connection:
                (number,) = connection.execute("PRAGMA user_version").fetchone()
                (stamp,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error:
            return None
        return Count(stamp, number)

    def _renew(self, state: _State) -> None:
        """Put the file's content into a new file in its place, with that of a write-ahead log which belongs to it."""
        try:
            with self._folder_locked(WAIT) as folder:
                if folder is None:
                    raise Unavailable(f"{self.path}: another process has held the lock of its folder for {WAIT:g} s")
                self._remove_copies()
                if self.identity() == state.identity:
                    self._copy(folder)
        except OSError as bad:
            raise Unavailable(
                f"{self.path}: was replaced or copied over while it was open, and cannot be copied: {bad}"
            ) from bad

    @contextmanager
    def _folder_locked(self, seconds: float) -> Iterator[int | None]:
        """The descriptor of the folder, whose lock is held within the block; None where another process has it."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        lock = FileLock(folder)
        try:
            yield folder if lock.acquire(seconds) else None
        finally:
            lock.close()

    def _remove_unfinished(self) -> None:
        """Remove the copies that killed processes have left; those of one that lives stay."""
        with suppress(OSError):
            if self._copies():
                with self._folder_locked(0) as folder:
                    if folder is not None:
                        self._remove_copies()

    def _copies(self) -> list[Path]:
        start = f"{self.path.name}-"
        with os.scandir(self.path.parent) as entries:
            found = [entry for entry in entries if entry.name.startswith(start)]
        return [Path(entry.path) for entry in found if _COPY.fullmatch(entry.name, len(start))]

    def _remove_copies(self) -> None:
        for path in self._copies():
            path.unlink(missing_ok=True)

    def _copy(self, folder: int) -> None:
        copy = self.path.with_name(f"{self.path.name}-{os.urandom(6).hex()}")
        beside = [copy.with_name(copy.name + end) for end in ("-wal", "-shm", "-journal")]
        try:
            self._wait_until_whole()
            mode = self.path.stat().st_mode & (0o700 if is_private(self.path) else 0o777)
            with closing(connect_immutable(self.path)) as source:
                # SQLite cannot serialize what a process left that was killed as it began to make the database
                begun = self._known is None and not self.path.stat().st_size
                _write_new(copy, b"" if begun else source.serialize(), mode)
            if log_counts(self._log) and self._owns_log(self.read_count() or Count(0, 0), greatest=False):
                _write_new(beside[0], self._log.read_bytes(), mode)
            with closing(sqlite3.connect(copy)) as target:
                found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
                target.execute(f"PRAGMA application_id = {next_stamp()}")
                target.execute("PRAGMA journal_mode=WAL")
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # the log that is left beside it for a moment does not belong to it, which others see
            copy.replace(self.path)
            os.fsync(folder)
            for path in (self._index, self._log):
                path.unlink(missing_ok=True)
        except sqlite3.Error as bad:
            if "full" in str(bad):
                raise StorageFull(
                    f"{self.path}: was replaced, and there is no space left for a copy of it ({bad})"
                ) from bad
            raise FormatError(
                f"{self.path}: was replaced or copied over while it was open, and is not a complete database now "
                f"({bad}): stop what uses it, remove the files that end in -wal and -shm, and restore it again"
            ) from bad
        finally:
            for path in (copy, *beside):
                path.unlink(missing_ok=True)

    def _wait_until_whole(self) -> None:
        """Wait for who is still copying."""
        until, before = time.monotonic() + WAIT, None
        while time.monotonic() < until:
            try:
                there = self.path.stat()
            except FileNotFoundError:
                return
            state = there.st_size, there.st_mtime_ns
            if state == before and there.st_size:
                return
            before = state
            time.sleep(5 * _PAUSE)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    path.touch(0o600, exist_ok=False)
    path.chmod(mode)
    path.write_bytes(content)


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
_making = forks.lock()


def connection_to(file: DatabaseFile) -> type[sqlite3.Connection]:
    """The class of a file's connections: none of them is closed, by whomever, that would write to another file."""

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            file.closed(self)
            if file.may_close():
                super().close()
            else:
                forks.abandon(self)

        def __del__(self) -> None:
            with suppress(BaseException):
                file.closed(self)
                if not file.may_close():
                    forks.abandon(self)

    return Connection


def file_of(path: Path) -> DatabaseFile:
    """The one object of a database's file in this process."""
    place = os.path.realpath(path)
    with _making:
        file = _by_path.get(place)
        if file is None:
            read_only = path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
            file = _by_path[place] = DatabaseFile(path, read_only=read_only)
        return file
