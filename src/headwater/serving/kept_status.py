"""How the store stands, for metrics: worked out once in a while, however often it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headwater import __version__
from headwater.compute.status import StoreStatus
from headwater.errors import HeadwaterError
from headwater.serving.slots import Memory

KEPT = 5.0
"""Seconds for which a status is shown again."""


class KeptStatus:
    """The status of a store, kept for a while.

    Args:
        ask: works it out.
    """

    def __init__(self, ask: Callable[[], StoreStatus]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._kept: StoreStatus | None = None

    def __call__(self) -> StoreStatus | None:
        """It; None where the registry cannot be read."""
        with self._lock:
            if time.monotonic() - self._at > KEPT:
                try:
                    self._kept = self._ask()
                except HeadwaterError:
                    self._kept = None
                self._at = time.monotonic()
            return self._kept


def exposed(memory: Memory, status: KeptStatus, accept: str) -> tuple[bytes, str]:
    """The metrics as text, and its content type; called on a thread."""
    # not for a worker that is never asked
    from headwater.serving.exposition import exposition

    return exposition(memory, status(), __version__, accept)
