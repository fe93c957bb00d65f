"""Quantiles: of the values of each row's events the one of a rank, by a wavelet matrix over all events in order.

Values are compared bit by bit, from the highest: at each bit those without it come first, in their order, so that a
range of events stays one range, and how many of it come first is a difference of two counts (F. Claude, G. Navarro,
A. Ordóñez, "The wavelet matrix", 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.runs import Hits, Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Ranks:
    """The values of events in order of size.

    Args:
        runs: the events.
        codes: the value of each, an integer in the order of the values.
    """

    def __init__(self, runs: Runs, codes: Ints) -> None:
        self._each, numbers = np.unique(codes, return_inverse=True)
        numbers = numbers.reshape(-1)
        tree = runs.tree
        orders = [] if tree is None else [tree.level(level)[1] for level in range(tree.depth)]
        parts = [numbers[runs.chain], *(numbers[runs.rest[order]] for order in orders)]
        self._starts = np.cumsum([0, *map(len, parts)])[1:]
        values = np.concatenate(parts)
        self._bits = []
        for bit in reversed(range(max(1, len(self._each) - 1).bit_length())):
            with_bit = values >> bit & 1 == 1
            before = np.zeros(len(values) + 1, np.int64)
            np.cumsum(~with_bit, out=before[1:])
            self._bits.append((bit, before))
            values = np.concatenate([values[~with_bit], values[with_bit]])

    def of(self, hits: Hits, rank: Ints) -> Ints:
        """The code of each row's event of a rank, from 1; of rows without so many it means nothing."""
        pieces = [(np.arange(len(rank)), hits.first, hits.last)]
        for each in hits.rest():
            start = self._starts[each.level] + each.start
            pieces.append((each.rows, start, start + each.sizes))
        left, found = rank - 1, np.zeros(len(rank), np.int64)
        for bit, before in self._bits:
            ends = [(rows, before[first], before[last]) for rows, first, last in pieces]
            without = np.zeros(len(rank), np.int64)
            for rows, first, last in ends:
                without[rows] += last - first
            beyond = left >= without
            left = np.where(beyond, left - without, left)
            found |= beyond.astype(np.int64) << bit
            total = before[-1]
            pieces = [
                (
                    rows,
                    np.where(beyond[rows], total + first - zeros_first, zeros_first),
                    np.where(beyond[rows], total + last - zeros_last, zeros_last),
                )
                for (rows, first, last), (_, zeros_first, zeros_last) in zip(pieces, ends, strict=True)
            ]
        return self._each[np.minimum(found, len(self._each) - 1)]
