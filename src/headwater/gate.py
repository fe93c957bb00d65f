"""A gate that many threads pass at once and one can shut, to be alone with what is behind it; turns, one by one.

Ctrl-C is raised between any two steps of a call, also as it is entered. So whoever goes in says who it is, by an object
of its own, within the `try` whose `finally` goes out again; and to go out is one call of a dictionary, which is done or
was not reached: no count is left behind that others would wait for. Nor does anybody rely on being woken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

_T = TypeVar("_T")

_SOON, _LATER = 0.0005, 0.01
"""Seconds between two looks at whether what is waited for is so: at first, and after a while."""


class Gate:
    """Knows who is inside; shut, it lets nobody in and waits until all are out. A thread inside must not shut it.

    ```
    me = object()
    try:
        gate.enter(me)
        ...
    finally:
        gate.leave(me, None)
    ```

    Args:
        inside: who is inside from the start.
    """

    def __init__(self, *inside: object) -> None:
        self._inside: dict[object, None] = dict.fromkeys(inside)
        self._alone: dict[object, None] = {}
        self.leave = self._inside.pop
        """Go out: `leave(me, None)`, also where `enter` was interrupted."""
        self.open = self._alone.pop
        """Let threads in again: `open(me, None)`, also where `shut` was interrupted or waited for too long."""

    @property
    def inside(self) -> int:
        """How many are inside."""
        return len(self._inside)

    def __contains__(self, me: object) -> bool:
        return me in self._inside

    def enter(self, me: object) -> None:
        """Go in, once the gate is open; `leave` follows always.

        Args:
            me: an object of nobody else's.
        """
        self._inside[me] = None
        pause = _SOON
        # whoever shuts it says so before it looks who is inside: one of the two sees the other
        while self._alone:
            self.leave(me, None)
            time.sleep(pause)
            pause = min(2 * pause, _LATER)
            self._inside[me] = None

    def shut(self, me: object, timeout: float | None = None) -> bool:
        """Let nobody in, and wait until nobody is inside; several come one after the other. `open` follows always.

        Args:
            me: an object of nobody else's.
            timeout: seconds to wait at most; None: without end.

        Returns:
            Whether it is shut; where that took too long it is left as it was.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self._alone[me] = None
        pause = _SOON
        while _first(self._alone) != [me] or self._inside:
            left = _LATER if until is None else until - time.monotonic()
            if left <= 0:
                self.open(me, None)
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LATER)
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Shut while the block runs."""
        me = object()
        try:
            self.shut(me)
            yield
        finally:
            self.open(me, None)


class Turns:
    """A lock that threads get in the order in which they came: one that takes it again and again starves nobody."""

    def __init__(self) -> None:
        self._line: dict[threading.Lock, None] = {}

    def acquire(self, me: threading.Lock, timeout: float) -> bool:
        """Wait for the turn; `release` follows always.

        Args:
            me: a lock of nobody else's, by which it is woken.
            timeout: seconds to wait at most.

        Returns:
            Whether it came; where it did not, the place in the line is kept until `release`.
        """
        until = time.monotonic() + timeout
        self._line.setdefault(me)
        while _first(self._line) != [me]:
            left = until - time.monotonic()
            if left <= 0:
                return False
            me.acquire(timeout=min(left, _LATER))
        return True

    def release(self, me: threading.Lock) -> None:
        """Give the turn, or the place in the line, up."""
        self._line.pop(me, None)
        for first in _first(self._line):
            # it is not waiting, or was woken already
            with suppress(RuntimeError):
                first.release()


def _first(line: dict[_T, None]) -> list[_T]:
    # made in one step, whatever other threads do
    return list(line)[:1]
