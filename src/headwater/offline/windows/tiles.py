"""How ranges of events are divided, so that any is made of a few parts whose aggregates are kept.

Events are in *tiles* of eight. A range is the end of one tile, whole tiles, and the beginning of another, or a few
events of one tile. Whole tiles are two parts: from the first to the middle of the smallest block of 2, 4, 8, … tiles
that has both ends of them, and from that middle on (a disjoint sparse table). Where events may be taken twice, these
are two runs of 2^k tiles, one from the first on and one up to the last (a sparse table).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

TILE = 8


class Tiles:
    """Where the parts of ranges are, for any states of the same events.

    Args:
        size: how many events there are.
        longest: how many events a range has at most.

    Attributes:
        count: how many tiles there are.
        blocks: the same, up to a whole number of the largest blocks.
        levels: the largest blocks have 2^levels tiles, more than any range has.
        divided: whether there are several of them.
    """

    def __init__(self, size: int, longest: int) -> None:
        self.size, self.count = size, -(-size // TILE)
        self.levels = min(max(0, self.count - 1).bit_length(), (longest // TILE).bit_length())
        self.blocks = -(-self.count >> self.levels) << self.levels
        self.divided = self.blocks > 1 << self.levels
        self.bit = np.zeros(1 << self.blocks.bit_length(), np.uint8)
        """Of each number the highest bit."""
        for bit in range(self.blocks.bit_length()):
            self.bit[1 << bit : 2 << bit] = bit

    def pieces(self, first: Ints, last: Ints) -> Pieces:
        """The parts of ranges; the last of each is not in it."""
        return Pieces(self, first, last)

    @cached_property
    def second_halves(self) -> list[Mask]:
        """Of each size of blocks which tiles are in the second half of theirs."""
        numbers = np.arange(self.blocks)
        return [numbers >> level & 1 == 1 for level in range(self.levels)]


class Pieces:
    """The parts of ranges.

    Args:
        tiles: where they are.
        first, last: of each row its range.

    Attributes:
        small: the rows whose range is inside of one tile.
        first, sizes: their first events, and how many there are.
        large: the other rows that have a range.
        begin, end: where the states of their first and last tiles are.
    """

    def __init__(self, tiles: Tiles, first: Ints, last: Ints) -> None:
        self._tiles = tiles
        some = np.flatnonzero(first < last)
        a, b = first[some], last[some] - 1
        tile, other = a // TILE, b // TILE
        within = tile == other
        small, large = np.flatnonzero(within), np.flatnonzero(~within)
        self.small, self.first, self.sizes = some[small], a[small], b[small] - a[small] + 1
        a, b, tile, other = a[large], b[large], tile[large], other[large]
        self.large = some[large]
        self.begin, self.end = a % TILE * tiles.count + tile, b % TILE * tiles.count + other
        self._left, self._right = tile + 1, other - 1

    @cached_property
    def apart(self) -> tuple[Ints, Ints]:
        """Where the two parts of the whole tiles between are, which have none in common; -1: there is none."""
        tiles, left, right = self._tiles, self._left, self._right
        # no range has more than an end and a beginning of the largest blocks
        level = np.minimum(tiles.bit.take(left ^ right, mode="clip"), tiles.levels).astype(np.int64)
        begin = np.where(left <= right, level * tiles.blocks + left, -1)
        level += (level == tiles.levels) & tiles.divided
        return begin, np.where(left < right, level * tiles.blocks + right, -1)

    @cached_property
    def overlapping(self) -> tuple[Ints, Ints]:
        """The same of parts that may have tiles in common."""
        tiles, left, right = self._tiles, self._left, self._right
        some = left <= right
        level = tiles.bit.take(right - left + 1, mode="clip").astype(np.int64)
        begin = level * tiles.blocks
        return np.where(some, begin + left, -1), np.where(some, begin + right + 1 - (1 << level), -1)
