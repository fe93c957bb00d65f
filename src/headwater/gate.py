"""A gate that many threads pass at once and one can shut, to be alone with what lies behind it; turns, one by one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts who is inside; shut, it lets nobody in and waits until all are out. A thread inside must not shut it.

    Attributes:
        inside: how many threads are inside.
    """

    def __init__(self, inside: int = 0) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self.inside = inside
        self._shut = False

    def enter(self) -> None:
        """Go in, once the gate is open."""
        # the bare lock: to take it through the condition costs three times as much
        with self._lock:
            while self._shut:
                self._changed.wait()
            self.inside += 1

    def leave(self) -> None:
        """Go out."""
        with self._lock:
            self.inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self, timeout: float | None = None) -> bool:
        """Let nobody in until `open`, and wait until nobody is inside.

        Args:
            timeout: seconds to wait at most; None: without end.

        Returns:
            Whether it is shut; where that took too long it is left as it was.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._shut:
                if not self._wait(until):
                    return False
            self._shut = True
            while self.inside:
                if not self._wait(until):
                    self._shut = False
                    self._changed.notify_all()
                    return False
        return True

    def _wait(self, until: float | None) -> bool:
        """Wait for a change; False where the time is over."""
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._changed.wait(left)
        return True

    def open(self) -> None:
        """Let threads in again."""
        with self._changed:
            self._shut = False
            self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Shut while the block runs."""
        self.shut()
        try:
            yield
        finally:
            self.open()


class Turns:
    """A lock that threads get in the order in which they came: one that takes it again and again starves nobody."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Wait for the turn; whether it came within so many seconds."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            if turn.acquire(timeout=timeout):
                return True
        except BaseException:
            # interrupted, by Ctrl-C say
            if not self._leave(turn):
                self.release()
            raise
        return not self._leave(turn)

    def _leave(self, turn: threading.Lock) -> bool:
        """Give up waiting; False where the turn had just come."""
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return True
            return False

    def release(self) -> None:
        """Give the turn to the next."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
