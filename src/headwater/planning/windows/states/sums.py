"""Counts and sums: `count` and `rate` from a number, `sum` and `mean` from (number, sum)."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry

Total = tuple[int, int] | tuple[int, float]


class Counts(StateKind):
    """How many events: an int."""

    def add(self, state: int | None, entry: Entry) -> int:
        """One more."""
        return (state or 0) + 1

    def add_to_each(self, states: Sequence[int], entry: Entry) -> list[int]:
        """One more in each."""
        return [state + 1 for state in states]

    def merged(self, state: int, other: int) -> int:
        """Both."""
        return state + other


class Totals(StateKind):
    """(number, sum): integers exactly (128 bits hold the sum of 2^64 of them), floats in doubles."""

    def add(self, state: Total | None, entry: Entry) -> Total:
        """One value more; a Float64 sum is never a difference of others."""
        return (1, entry.value) if state is None else (state[0] + 1, state[1] + entry.value)

    def add_to_each(self, states: Sequence[Total], entry: Entry) -> list[Total]:
        """One value more in each."""
        value = entry.value
        return [(count + 1, total + value) for count, total in states]

    def merged(self, state: Total, other: Total) -> Total:
        """Both."""
        return state[0] + other[0], state[1] + other[1]
