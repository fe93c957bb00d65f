"""The first or last events, and the last distinct values: `first`, `last`, `first_n`, `last_n`, `last_n_distinct`.

A state is a tuple of `values.Entry`, at most n, in the order in which a list gives them. Ordered by event time, created
time, the log over a source, log position, then the greater value.
"""

from __future__ import annotations

from bisect import bisect

from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry, order_of, rank

Entries = tuple[Entry, ...]


class Ordered(StateKind):
    """The n first events (oldest first) or the n last (newest first)."""

    def __init__(self, n: int, *, last: bool) -> None:
        self.n = n
        self.last = last

    def add(self, state: Entries | None, entry: Entry) -> Entries:
        """One event more."""
        if state is None:
            return (entry,)
        order = order_of(entry)
        if self.last:
            index = len(state) - bisect(state[::-1], order, key=order_of)
        else:
            index = bisect(state, order, key=order_of)
        return (*state[:index], entry, *state[index:])[: self.n] if index < self.n else state

    def merged(self, state: Entries, other: Entries) -> Entries:
        """Both."""
        return tuple(sorted((*state, *other), key=order_of, reverse=self.last)[: self.n])

    def since(self, state: Entries, start: int) -> Entries | None:
        """Those at or after a time."""
        return tuple(entry for entry in state if entry.event >= start) or None


class LastDistinct(StateKind):
    """The n distinct values that came last, newest first, each with its newest event."""

    def __init__(self, n: int) -> None:
        self.n = n

    def add(self, state: Entries | None, entry: Entry) -> Entries:
        """One event more."""
        return (entry,) if state is None else self.merged(state, (entry,))

    def merged(self, state: Entries, other: Entries) -> Entries:
        """Both: what was left out of either has n values newer than it there."""
        chosen: dict[tuple[object, ...], Entry] = {}
        for entry in sorted((*state, *other), key=order_of, reverse=True):
            chosen.setdefault(rank(entry.value), entry)
            if len(chosen) == self.n:
                break
        return tuple(chosen.values())

    def since(self, state: Entries, start: int) -> Entries | None:
        """Those whose newest event is at or after a time."""
        return tuple(entry for entry in state if entry.event >= start) or None
