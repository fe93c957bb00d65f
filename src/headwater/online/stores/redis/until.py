"""Until when a command may apply, by the clock of the server that it reaches.

A host's clock may be wrong, set while a command is under way, or made up by a test. So it is read once, as the distance
to the instant; from then on time is what has passed on this host, and what the server's own clock says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
KEPT = 60_000_000
"""Microseconds after which a server is asked for its time again."""


def elapsed() -> int:
    """Microseconds that never go back nor jump; the time that the machine slept counts, where the system tells."""
    return time.clock_gettime_ns(_CLOCK) // 1_000


@dataclass(frozen=True, slots=True)
class Until:
    """Stands in a command, as its last value, for an instant; each connection writes it by its own server's clock.

    Attributes:
        at: microseconds of `elapsed`.
    """

    at: int


@dataclass(frozen=True, slots=True)
class ServerTime:
    """What a server's clock said.

    Attributes:
        micros: since 1970.
        at: when the answer had come, by `elapsed`: the server's clock is not behind this.
    """

    micros: int
    at: int

    @property
    def fresh(self) -> bool:
        """Whether it can still be counted on from."""
        return elapsed() - self.at < KEPT

    def of(self, until: Until) -> int:
        """An instant by the server's clock, microseconds since 1970."""
        return self.micros + until.at - self.at
