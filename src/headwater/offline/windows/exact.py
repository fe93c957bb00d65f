"""Sums of integers in 128 bits, as differences of sums from the beginning: these are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headwater.offline.windows.runs import Hits, Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_HALF = 32
_MASK = 2**_HALF - 1


class Totals(NamedTuple):
    """Sums of integers: high · 2^32 + low, where 0 ≤ low < 2^32."""

    high: Ints
    low: Ints

    def integers(self) -> tuple[Ints, NDArray[np.bool_]]:
        """The sums, and which of them are beyond 64 bits (there 0)."""
        beyond = (self.high < -(2**31)) | (self.high >= 2**31)
        return np.where(beyond, 0, (np.where(beyond, 0, self.high) << _HALF) + self.low), beyond

    def doubles(self) -> NDArray[np.float64]:
        """The sums as doubles."""
        return self.high.astype(np.float64) * 2.0**_HALF + self.low


class IntegerSums:
    """The sums of integers over events in order.

    Args:
        runs: the events; fewer than 2^31.
        values: of each event.
    """

    def __init__(self, runs: Runs, values: Ints) -> None:
        self._runs, self._values = runs, values
        self._chain = _summed(runs.on_chain(values))
        self._levels: dict[int, tuple[Ints, Ints]] = {}

    def of(self, hits: Hits) -> Totals:
        """The sum over the events of each row."""
        high, low = (sums[hits.last] - sums[hits.first] for sums in self._chain)
        for each in hits.rest():
            for total, sums in zip((high, low), self._level(each.level), strict=True):
                total[each.rows] += sums[each.start + each.sizes] - sums[each.start]
        return Totals(high + (low >> _HALF), low & _MASK)

    def _level(self, level: int) -> tuple[Ints, Ints]:
        if level not in self._levels:
            assert self._runs.tree is not None
            _, order = self._runs.tree.level(level)
            self._levels[level] = _summed(self._values[self._runs.rest[order]])
        return self._levels[level]


def _summed(values: Ints) -> tuple[Ints, Ints]:
    """The sums of the high and of the low halves of all values before each."""
    high, low = np.zeros((2, len(values) + 1), np.int64)
    np.cumsum(values >> _HALF, out=high[1:])
    np.cumsum(values & _MASK, out=low[1:])
    return high, low
