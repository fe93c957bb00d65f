"""Distinct counts: digest → newest event time, the N newest of each level; level ℓ has the digests that begin with ℓ
zero bits.

A window's count is 2^ℓ times that of the lowest level which has at most N values in it: exact up to N. A level that let
a value go answers only for windows that begin after it: in an earlier one it has more than N. So the answer depends on
the events alone, on no order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headwater.planning.windows.digest import digest, leading_zeros
from headwater.planning.windows.states.base import StateKind
from headwater.planning.windows.values import Entry

TOP_LEVEL = 20
LEVELS = TOP_LEVEL + 1


class Distinct(NamedTuple):
    """What is kept of a set of events.

    Attributes:
        newest: digest → newest event time.
        dropped: for each level the newest event time that it let go; None: none.
    """

    newest: Mapping[int, int]
    dropped: tuple[int | None, ...] = (None,) * LEVELS


class DistinctValues(StateKind):
    """The distinct values of events, by their digests.

    Args:
        most: N, up to how many the count is exact.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def add(self, state: Distinct | None, entry: Entry) -> Distinct:
        """One event more."""
        number = digest(entry.value)
        if state is None:
            return Distinct({number: entry.event})
        held = state.newest.get(number)
        if held is not None and held >= entry.event:
            return state
        return self._bounded(Distinct({**state.newest, number: entry.event}, state.dropped))

    def merged(self, state: Distinct, other: Distinct) -> Distinct:
        """Both."""
        newest = dict(state.newest)
        for number, time in other.newest.items():
            newest[number] = max(time, newest.get(number, time))
        dropped = tuple(
            mine if theirs is None else theirs if mine is None else max(mine, theirs)
            for mine, theirs in zip(state.dropped, other.dropped, strict=True)
        )
        return self._bounded(Distinct(newest, dropped))

    def since(self, state: Distinct, start: int) -> Distinct | None:
        """The values whose newest event is at or after a time."""
        if any(time < start for time in state.newest.values()):
            newest = {number: time for number, time in state.newest.items() if time >= start}
            state = Distinct(newest, state.dropped)
        return state if state.newest else None

    def count(self, state: Distinct | None, start: int) -> int | None:
        """How many distinct values are at or after a time; None: more than the state can tell."""
        if state is None:
            return 0
        levels = [level_of(number) for number, time in state.newest.items() if time >= start]
        for level, dropped in enumerate(state.dropped):
            if dropped is None or dropped < start:
                values = sum(own >= level for own in levels)
                if values <= self.most:
                    return values << level
        return None

    def trimmed(self, state: Distinct) -> Distinct:
        """With no more than the N newest of each level; ties by digest."""
        kept: dict[int, int] = {}
        dropped, counts = list(state.dropped), [0] * LEVELS
        for number, time in sorted(state.newest.items(), key=lambda item: (-item[1], item[0])):
            for level in range(level_of(number) + 1):
                if counts[level] < self.most:
                    counts[level] += 1
                    kept[number] = time
                elif dropped[level] is None or time > dropped[level]:  # type: ignore[operator]
                    dropped[level] = time
        return Distinct(kept, tuple(dropped))

    def _bounded(self, state: Distinct) -> Distinct:
        # twice what stays, so that it costs little an event
        return self.trimmed(state) if len(state.newest) > 2 * self.most + 256 else state


def level_of(number: int) -> int:
    """The highest level that has a digest."""
    return min(leading_zeros(number), TOP_LEVEL)
