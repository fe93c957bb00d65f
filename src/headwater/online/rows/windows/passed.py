"""What the ends of windows passed as events became known: the records that may go by it, of all lists of a row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

from headwater.planning.windows.layout import ListLayout
from headwater.planning.windows.rule import BEFORE_ALL

MOST_EDGES = 48
"""Of more edges that passed it is quicker to look at every record."""


class Passed:
    """What the ends of windows passed when the newest known_at of a row rose: made once for all lists of a row.

    Args:
        before: the newest known_at that the lists were pruned by.
        after: the one that they are pruned by now.
        tolerance: by how much clocks may differ.
    """

    def __init__(self, before: int, after: int, tolerance: int) -> None:
        self.before, self.after, self.tolerance = before, after, tolerance
        self._known: dict[tuple[tuple[int, int], ...], tuple[list[tuple[int, int]], list[int] | None]] = {}

    def of(self, widths: tuple[tuple[int, int], ...]) -> tuple[list[tuple[int, int]], list[int] | None]:
        """Hop and least beginning of windows now, and the edges that none begins at any more.

        Args:
            widths: of each hop the longest window.

        Returns:
            The edges are None where there are too many.
        """
        found = self._known.get(widths)
        if found is None:
            starts: list[tuple[int, int]] = []
            edges: list[int] = []
            count = 0
            for hop, width in widths:
                start, old = (
                    t - t % hop for t in (m - hop - self.tolerance - width for m in (self.after, self.before))
                )
                starts.append((hop, start))
                count += (start - old) // hop
                if count <= MOST_EDGES:
                    edges += range(old, start, hop)
            found = self._known[widths] = starts, edges if count <= MOST_EDGES else None
        return found


@lru_cache(maxsize=1_024)
def widths_of(layout: ListLayout) -> tuple[tuple[int, int], ...]:
    """Each hop of a list's windows with the longest of them."""
    longest: dict[int, int] = {}
    for window in layout.bounded:
        assert window.width is not None
        longest[window.hop] = max(window.width, longest.get(window.hop, 0))
    return tuple(sorted(longest.items()))


def doubtful(
    first: int,
    step: int,
    steps: Sequence[int],
    starts: Sequence[tuple[int, int]],
    edges: Iterable[int],
    inserted: Sequence[int],
) -> list[int]:
    """The records that no window can select any more: only those that held an edge that passed can have become so."""
    count = len(steps)
    looked = []
    for edge in edges:
        looked.append(bisect_left(steps, (edge - first + step - 1) // step))
    for boundary in inserted:
        place = bisect_left(steps, (boundary - first) // step)
        looked += (place, place + 1)
    gone: list[int] = []
    done = -1
    for place in sorted(looked):
        if place == done or place >= count:
            continue
        done = place
        boundary = first + int(steps[place]) * step
        before = first + int(steps[place - 1]) * step if place else BEFORE_ALL
        for hop, start in starts:
            edge = boundary - boundary % hop
            if edge > before and edge >= start:
                break
        else:
            gone.append(place)
    return gone
