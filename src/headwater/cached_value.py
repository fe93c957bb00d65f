"""A value that is read from elsewhere, and read again once it is some seconds old."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from headwater import forks
from headwater.errors import HeadwaterError

T = TypeVar("T")


class CachedValue(Generic[T]):
    """What was read last; where it cannot be read again, that stays. Safe to use from several threads.

    Args:
        read: reads it.
        value: what it is until it was read.
        seconds: how old it may be.
        now: seconds, of a clock that never goes back.

    Attributes:
        value: what was read last.
    """

    def __init__(
        self, read: Callable[[], T], value: T, seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.value = value
        self._read, self._seconds, self._now = read, seconds, now
        self._lock = forks.lock()
        self._tried_at = self._read_at = float("-inf")

    def get(self, within: float | None = None, wait: bool = True) -> T:
        """The value, read again where the last attempt was too long ago.

        Args:
            within: seconds that this may be; None: those of the value.
            wait: whether to wait while another thread reads it again; else what was read last will do meanwhile.
        """
        if self.is_due(within) and self._lock.acquire(blocking=wait or self._read_at == float("-inf")):
            try:
                if self.is_due(within):
                    self._read_again()
            finally:
                self._lock.release()
        return self.value

    def is_due(self, within: float | None = None) -> bool:
        """Whether `get` would read it again."""
        return self._now() - self._tried_at > (self._seconds if within is None else within)

    def refresh(self) -> None:
        """Read it now."""
        with self._lock:
            self._read_again()

    def expire(self) -> None:
        """Have it read again when it is asked for."""
        self._tried_at = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since it was read; infinite before that."""
        return self._now() - self._read_at

    def _read_again(self) -> None:
        try:
            self.value = self._read()
        except HeadwaterError:
            self._tried_at = self._now()
        else:
            self._tried_at = self._read_at = self._now()
