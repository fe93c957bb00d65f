"""A circuit breaker: a store that keeps failing is left alone for a while, and reads fail at once meanwhile."""

from __future__ import annotations

import time

from headwater import forks
from headwater.errors import Unavailable


class CircuitBreaker(forks.OfOneProcess):
    """Closed while reads succeed; open after so many failures in a row; then one read at a time tries again.

    Args:
        failures: in a row, that open it; 0: it never opens.
        rest: seconds it stays open before a read may try.
    """

    def __init__(self, failures: int, rest: float) -> None:
        self.failures = failures
        self.rest = rest
        self._row = 0
        self._until = 0.0
        self._last = ""
        self._lock = forks.lock()

    @property
    def open(self) -> bool:
        """Whether reads are refused now."""
        return self._row >= self.failures > 0 and time.monotonic() < self._until

    def check(self) -> None:
        """Let a read pass, or refuse it.

        Raises:
            Unavailable: with the last failure, and when the store is tried again.
        """
        if self._row < self.failures or not self.failures:
            return
        with self._lock:
            now = time.monotonic()
            if now < self._until:
                raise Unavailable(
                    f"the online store failed {self._row} times in a row and is not called for another "
                    f"{self._until - now:.1f} s: {self._last}"
                )
            # this read tries; others wait for what becomes of it
            self._until = now + self.rest

    def failed(self, why: BaseException) -> None:
        """A read did not reach the store."""
        with self._lock:
            self._row += 1
            self._last = str(why)
            if self._row >= self.failures:
                self._until = time.monotonic() + self.rest

    def succeeded(self) -> None:
        """A read was answered."""
        if self._row:
            with self._lock:
                self._row = 0
