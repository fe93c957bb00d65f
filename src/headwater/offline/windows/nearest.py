"""Of events in order, the nearest one before a place that is known by an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.runs import NEVER_KNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Nearest:
    """A tree of when the first of a block of events is known.

    Args:
        known: when each event is known.
    """

    def __init__(self, known: Ints) -> None:
        top = max(1, len(known) - 1).bit_length()
        padded = np.full(1 << top, NEVER_KNOWN, np.int64)
        padded[: len(known)] = known
        self._levels = [padded]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append(np.minimum(below[::2], below[1::2]))

    def before(self, first: Ints, last: Ints, at: Ints) -> Ints:
        """The greatest index in [first, last) of an event that is known by each row's instant; -1: none."""
        node, height = np.full(len(last), -1, np.int64), np.full(len(last), -1, np.int64)
        rows, end = np.flatnonzero(first < last), last[first < last]
        for level, times in enumerate(self._levels):
            odd = end & 1 == 1
            inside = np.maximum(end - 1, 0)
            hit = odd & (times[np.minimum(inside, len(times) - 1)] <= at[rows])
            node[rows[hit]], height[rows[hit]] = inside[hit], level
            end = end >> 1
            # all that is left is before the range
            going = ~hit & (end << (level + 1) > first[rows])
            rows, end = rows[going], end[going]
            if not len(rows):
                break
        for level in reversed(range(1, len(self._levels))):
            rows = np.flatnonzero(height >= level)
            right = node[rows] * 2 + 1
            node[rows] = np.where(self._levels[level - 1][right] <= at[rows], right, right - 1)
        return np.where(node >= first, node, -1)
