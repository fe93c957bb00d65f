"""How many round trips may be under way, so that small reads share more of them and wait no longer for it."""

from __future__ import annotations

PACE = 0.00025
"""Seconds between two round trips that are worth waiting for: what one costs both ends is of that order."""
_LOOKED_AT = 32
"""Of so many round trips the fastest counts: others waited for a processor too."""
_ANY = 1 << 30


class Pace:
    """So many round trips that one comes back every `PACE` seconds: one at a time to a store on the same host, five to
    one that is a millisecond away.

    Attributes:
        most: how many may be under way; any number until some were measured.
    """

    __slots__ = ("_fastest", "_seen", "most")

    def __init__(self) -> None:
        self.most = _ANY
        self._fastest, self._seen = float("inf"), 0

    def took(self, seconds: float) -> None:
        """Note how long a round trip took."""
        if seconds < self._fastest:
            self._fastest = seconds
        self._seen += 1
        if self._seen >= _LOOKED_AT:
            self.most = 1 + int(self._fastest / PACE)
            self._fastest, self._seen = float("inf"), 0
