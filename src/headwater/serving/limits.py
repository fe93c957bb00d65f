"""How much one API key may ask of a worker: requests a second, and requests at the same time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from headwater.serving.answers import other

BURST = 1.0
"""Seconds' worth of requests that a key that was silent may send at once."""
_MOST_KEYS = 10_000
"""Of which state is kept; then those that have long been silent are let go."""


@dataclass(slots=True)
class _Use:
    """What a key has used.

    Attributes:
        under_way: its requests that are being answered.
        until: the instant (of the loop's clock) up to which its share is used up.
    """

    under_way: int = 0
    until: float = 0.0


class KeyLimits:
    """The limits of every API key in one worker.

    Args:
        rate: requests a second that this worker grants a key; 0: any number.
        most_at_once: requests of a key under way; 0: any number.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, rate: float, most_at_once: int, now: Callable[[], float]) -> None:
        self._rate, self._most, self._now = rate, most_at_once, now
        self._uses: dict[str, _Use] = {}

    def enter(self, key: str) -> None:
        """Begin a request of a key; `leave` ends it.

        Raises:
            Refused: 429, with when to come again; then it has not begun.
        """
        use = self._uses.get(key)
        if use is None:
            use = self._add(key)
        if self._most and use.under_way >= self._most:
            raise _too_many(f"{self._most} requests of this API key are under way here", 1.0)
        if self._rate:
            now = self._now()
            used = max(use.until, now)
            if used - now > BURST - 1 / self._rate + 1e-9 and used > now:
                raise _too_many(f"this API key is limited to {self._rate:g} requests a second here", used - now)
            use.until = used + 1 / self._rate
        use.under_way += 1

    def take_back(self, key: str) -> None:
        """Undo an `enter`, of a request that is begun once more."""
        self.leave(key)
        if self._rate:
            self._uses[key].until -= 1 / self._rate

    def leave(self, key: str) -> None:
        """End a request that `enter` began."""
        self._uses[key].under_way -= 1

    def _add(self, key: str) -> _Use:
        if len(self._uses) >= _MOST_KEYS:
            now = self._now()
            self._uses = {name: use for name, use in self._uses.items() if use.under_way or use.until > now}
        use = self._uses[key] = _Use()
        return use


def _too_many(detail: str, seconds: float) -> Exception:
    return other(429, "TooManyRequests", f"{detail}: try again", {"Retry-After": str(max(1, math.ceil(seconds)))})
