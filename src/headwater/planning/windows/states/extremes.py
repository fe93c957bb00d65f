"""Extremes: `min` and `max`, by the order of values: NaN is the greatest, text goes by its UTF-8 bytes."""

from __future__ import annotations

from typing import Any

from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry, rank


class Extremes(StateKind):
    """The greatest value, or the least."""

    def __init__(self, *, greatest: bool) -> None:
        self.greatest = greatest

    def add(self, state: Any, entry: Entry) -> Any:
        """One value more."""
        return entry.value if state is None else self.merged(state, entry.value)

    def merged(self, state: Any, other: Any) -> Any:
        """The greater, or the lesser; of two that are equal the first."""
        further = rank(other) > rank(state) if self.greatest else rank(other) < rank(state)
        return other if further else state

    def same(self, state: Any, other: Any) -> bool:
        """Whether two states are of equal values, NaN included."""
        return rank(state) == rank(other)
