"""What the states of all kinds of aggregates share: add an event, merge two, drop what no window asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from headwater.planning.windows.values import Entry


class StateKind(ABC):
    """How one kind of aggregate is kept; a state is plain, immutable data, None stands for no events.

    Adding or merging never changes a state that was given, so that records may share one.
    """

    @abstractmethod
    def add(self, state: Any, entry: Entry) -> Any:
        """The state with one event more, whose value is not NULL."""

    def add_to_each(self, states: Sequence[Any], entry: Entry) -> list[Any]:
        """`add` to each of many states, none of them None."""
        return [self.add(state, entry) for state in states]

    @abstractmethod
    def merged(self, state: Any, other: Any) -> Any:
        """The state of two sets of events that have none in common; neither is None."""

    def merge(self, state: Any, other: Any) -> Any:
        """`merged`, where either may be None."""
        if state is None or other is None:
            return other if state is None else state
        return self.merged(state, other)

    def since(self, state: Any, start: int) -> Any:
        """The state of the events at or after a time; None: none is left.

        Kinds whose states keep the times of their events alone can tell; others have a state for each boundary.
        """
        return state
