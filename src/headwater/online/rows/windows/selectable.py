"""Which records of a suffix list no window can select any more, by where the ends of windows passed.

Times are in steps: the unit that all boundaries of a layout are multiples of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.rule import BEFORE_ALL


class Ends(NamedTuple):
    """Where windows begin at the least.

    Attributes:
        starts: hop and least beginning of the longest window of each hop.
        moved: hop, least beginning before, and now, of those that moved.
    """

    starts: Sequence[tuple[int, int]]
    moved: Sequence[tuple[int, int, int]]


Hops = tuple[tuple[int, int, int], ...]
"""Of each hop of some windows: in steps; in microseconds; how much more than the tolerance the longest reaches back."""


def hops_of(layout: ListLayout, step: int) -> Hops:
    """The hops of a list's windows."""
    longest: dict[int, int] = {}
    for window in layout.bounded:
        assert window.width is not None
        longest[window.hop] = max(window.width, longest.get(window.hop, 0))
    return tuple((hop // step, hop, hop + width) for hop, width in sorted(longest.items()))


def ends_of(hops: Hops, before: int, after: int, tolerance: int) -> Ends:
    """Where windows begin at the least when the newest known_at of a row has risen.

    Args:
        hops: of the windows.
        before: the newest known_at that lists were pruned by, microseconds.
        after: the one that they are pruned by now.
        tolerance: by how much clocks may differ, microseconds.
    """
    starts, moved = [], []
    for steps, hop, back in hops:
        back += tolerance
        start = (after - back) // hop * steps
        old = (before - back) // hop * steps
        starts.append((steps, start))
        if old != start:
            moved.append((steps, old, start))
    return Ends(starts, moved)


def unselectable(steps: Sequence[int], first: int, ends: Ends, inserted: Sequence[int]) -> list[int]:
    """The records that no window can select any more, ascending.

    Only those that held an end that a window had, and those beside one that was inserted, can have become so.

    Args:
        steps: the distance of each boundary from the first.
        first: the first boundary.
        ends: of the list's windows.
        inserted: boundaries that the list had no record of before.
    """
    count = len(steps)
    looked: list[int] = []
    for hop, old, start in ends.moved:
        low = bisect_left(steps, old - first)
        if low < count:
            looked += range(low, min(bisect_left(steps, start - hop - first, low) + 1, count))
    for boundary in inserted:
        index = bisect_left(steps, boundary - first)
        looked += (index, index + 1) if index + 1 < count else (index,)
    if len(looked) > 1:
        looked = sorted(set(looked))
    gone: list[int] = []
    for index in looked:
        boundary = first + steps[index]
        before = first + steps[index - 1] if index else BEFORE_ALL
        for hop, start in ends.starts:
            edge = boundary - boundary % hop
            if edge > before and edge >= start:
                break
        else:
            gone.append(index)
    return gone
