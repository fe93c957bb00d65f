"""A gate that many threads pass at once and one can shut, to be alone with what lies behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts who is inside; shut, it lets nobody in and waits until all are out. A thread inside must not shut it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._shut = False

    def enter(self) -> None:
        """Go in, once the gate is open."""
        # the bare lock: to take it through the condition costs three times as much
        with self._lock:
            while self._shut:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        """Go out."""
        with self._lock:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        """Wait until nobody is inside, and let nobody in until `open`."""
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._shut = True
            while self._inside:
                self._changed.wait()

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
