"""One read, taken apart: what it gave, and how long each step took."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.online.reading.result import OnlineResult
from headwater.values import Value


class Explained(Value, frozen=True):
    """One read, taken apart.

    Attributes:
        result: what it gave.
        keys: how many distinct keys were asked for.
        views: view label → version.
        store: what the online store says of itself (kind, place).
        round_trips: calls to the store.
        steps: what was done, and the milliseconds it took, in order.
    """

    result: OnlineResult
    keys: int
    views: Mapping[str, str]
    store: Mapping[str, str | int]
    round_trips: int
    steps: tuple[tuple[str, float], ...]
