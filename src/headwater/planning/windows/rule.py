"""The rule of windows: which events a window holds at an instant. All times are microseconds since 1970 (UTC)."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.clock import MIN_MICROS
from headwater.values import Value

BEFORE_ALL = MIN_MICROS
"""Where a lifetime begins: no event is earlier."""


def floor_to(time: int, hop: int) -> int:
    """The last whole hop, counted from 1970, that is not after a time; before 1970 towards minus infinity."""
    return time - time % hop


class Window(Value, frozen=True):
    """A window of time that ends at an instant, or `offset` before it.

    Attributes:
        width: its length; None: lifetime, which has neither hop nor offset.
        hop: the steps in which its oldest end moves, and its newest where it has an offset.
        offset: how long before the instant it ends; 0: at the instant itself, exactly.
    """

    width: int | None
    hop: int = 0
    offset: int = 0

    def start(self, at: int) -> int:
        """The first event time that it holds at an instant, a whole hop; of a lifetime `BEFORE_ALL`."""
        return BEFORE_ALL if self.width is None else floor_to(at - self.offset - self.width, self.hop)

    def end(self, at: int) -> int | None:
        """The event time before which its events are, a whole hop; None: it holds all that is known at the instant."""
        return floor_to(at - self.offset, self.hop) if self.offset else None

    def holds(self, event: int, at: int) -> bool:
        """Whether an event that is known at the instant is in the window, by its event time."""
        end = self.end(at)
        return self.start(at) <= event and (end is None or event < end)

    def greatest_edge(self, time: int) -> int:
        """The last instant at which an end of the window can be, not after a time."""
        return BEFORE_ALL if self.width is None else floor_to(time, self.hop)


def boundary_of(event: int, hops: Iterable[int]) -> int:
    """The boundary of an event: the greatest of floor(event time, hop) over a view's hops.

    A window holds an event where it holds its boundary: the window's ends are whole hops, and floor(event time, its
    hop) ≤ boundary ≤ event time. A view of lifetimes alone has no hops: `BEFORE_ALL`.
    """
    return max((floor_to(event, hop) for hop in hops), default=BEFORE_ALL)
