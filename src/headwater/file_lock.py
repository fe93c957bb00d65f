"""A lock on an open file that several threads of several processes take in turn, and wait for a bounded time.

The operating system frees it when its holder ends, however it ends. One that stands still goes on holding it: who waits
then learns which process that is, as far as the system tells.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headwater import forks

POLL = 0.001
"""Seconds between two attempts while another process has it."""

SLICE = 0.01
"""Seconds for which a process may take it again and again while others wait."""

COURTESY = 0.002
"""Seconds that it then leaves to the others, who look every `POLL`."""

_TAKE, _SHARE, _FREE = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN


class LockReplaced(Exception):
    """The lock was closed: what it protected was opened again, with another one."""


class FileLock:
    """An exclusive lock of one thread of one process; threads of a process get it in the order in which they came.

    Args:
        descriptor: of the locked file; from then on the lock's own.
        waiting: of a second file, on which processes show that they wait; else none is let go first.
    """

    def __init__(self, descriptor: int, waiting: int = -1) -> None:
        self._descriptor, self._waiting = descriptor, waiting
        self._guard = threading.Lock()
        self._owner: int | None = None
        self._queue: deque[tuple[int, threading.Lock]] = deque()
        self._released = self._since = 0.0
        forks.after_fork(self, FileLock.abandon)

    def abandon(self) -> None:
        """Close a child's copy, which would hold the lock beyond the parent's end; the parent keeps its own."""
        self._guard = threading.Lock()
        self.close()

    def acquire(self, seconds: float) -> bool:
        """Take the lock; always followed by `release`, also where this was interrupted.

        Args:
            seconds: how long to wait at most.

        Returns:
            False where somebody else held it all that time.

        Raises:
            LockReplaced: it was closed.
            OSError: the file system has no such locks.
        """
        me, now, turn = threading.get_ident(), time.monotonic(), None
        with self._guard:
            # a thread that has it already was interrupted as it gave it up
            if self._owner in (None, me):
                self._owner = me
                if self._is_in_slice(now) and self._take():
                    return True
            else:
                turn = threading.Lock()
                turn.acquire()
                self._queue.append((me, turn))
        if turn is not None and not turn.acquire(timeout=seconds) and self._owner != me:
            return False
        return self._wait(now + seconds)

    def _is_in_slice(self, now: float) -> bool:
        """Whether this process may go on taking the lock: it has not done so for long, or nobody else waits."""
        if now - self._released > COURTESY:
            self._since = now
        elif now - self._since > SLICE:
            self._since = now
            return not self._others_wait()
        return True

    def _take(self) -> bool:
        if self._descriptor < 0:
            raise LockReplaced
        try:
            fcntl.flock(self._descriptor, _TAKE)
        except BlockingIOError:
            return False
        return True

    def _wait(self, until: float) -> bool:
        """Look again and again, each time after a while that is left to others."""
        try:
            while True:
                with self._guard:
                    mine = self._is_in_slice(time.monotonic())
                    if mine and self._take():
                        return True
                    self._mark(_SHARE)
                left = until - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(POLL if mine else COURTESY, left))
        finally:
            with self._guard:
                self._mark(_FREE)

    def _others_wait(self) -> bool:
        if not self._mark(_TAKE):
            return self._waiting >= 0
        self._mark(_FREE)
        return False

    def _mark(self, how: int) -> bool:
        if self._waiting < 0:
            return False
        try:
            fcntl.flock(self._waiting, how)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Give up what this thread has of the lock, or its place in the queue; nothing where it has neither."""
        me = threading.get_ident()
        with self._guard:
            if self._owner != me:
                self._queue = deque(entry for entry in self._queue if entry[0] != me)
                return
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, _FREE)
            self._released = time.monotonic()
            self._owner = None
            if self._queue:
                self._owner, turn = self._queue.popleft()
                turn.release()

    def close(self) -> None:
        """Free the lock and close its files; who waits for it gets `LockReplaced`."""
        with self._guard:
            for descriptor in (self._descriptor, self._waiting):
                if descriptor >= 0:
                    os.close(descriptor)
            self._descriptor = self._waiting = -1

    def holder(self) -> str:
        """Who has the lock now, for an error: `process 4711 (stopped)`, or `another process` if that is not known."""
        if self._owner not in (None, threading.get_ident()):
            return "another thread of this process"
        try:
            file = os.fstat(self._descriptor)
            pid = next(_holders(f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}", file.st_ino), None)
        except (OSError, ValueError):
            pid = None
        if pid is None:
            return "another process"
        return f"process {pid}{' (stopped)' if _is_stopped(pid) else ''}"


def _holders(device: str, inode: int) -> Iterator[int]:
    """The processes that hold a file's lock, as Linux lists them."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:2179117 0 EOF
            fields = line.split()
            if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5] == f"{device}:{inode}":
                yield int(fields[4])


def _is_stopped(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # the name, in parentheses, may hold anything
    return status.rpartition(")")[2].split()[:1] in (["T"], ["t"])
