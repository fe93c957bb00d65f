"""Aggregates of ranges, from aggregates of blocks inside them: nothing is ever subtracted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

from headwater.offline.windows.runs import Hits, Runs

State = tuple["NDArray[np.generic]", ...]
"""Arrays of one length: the states of many sets of events."""


class Merging(Protocol):
    """How states are made of events, and merged."""

    def of(self, events: Ints | None) -> State:
        """The state of each event alone; None: of all, in order."""
        ...

    def none(self, size: int) -> State:
        """The state of no events, `size` times."""
        ...

    def merged(self, left: State, right: State) -> State:
        """The states of two sets each that have no event in common."""
        ...

    def scanned(self, state: State) -> State:
        """Of rows of states, two-dimensional, the state of each together with all before it in its row."""
        ...


class Blocks(NamedTuple):
    """Blocks of one size of the chain, at most one for each row."""

    rows: Ints
    level: int
    blocks: Ints


def blocks_of(hits: Hits) -> list[Blocks]:
    """The greatest aligned blocks that make up the ranges of the chain."""
    found = []
    rows = np.flatnonzero(hits.first < hits.last)
    a, b = hits.first[rows], hits.last[rows]
    level = 0
    while len(rows):
        left, right = a & 1 == 1, b & 1 == 1
        b = b - right
        for odd, block in ((left, a), (right, b)):
            chosen = np.flatnonzero(odd)
            if len(chosen):
                found.append(Blocks(rows[chosen], level, block[chosen]))
        a, b = (a + left) >> 1, b >> 1
        some = np.flatnonzero(a < b)
        rows, a, b = rows[some], a[some], b[some]
        level += 1
    return found


class Aggregates:
    """The aggregates of one kind over the blocks of events in order.

    Args:
        runs: the events.
        merging: the kind.
    """

    def __init__(self, runs: Runs, merging: Merging) -> None:
        self._merging = merging
        self._levels = [merging.of(None if runs.whole else runs.chain)]
        self._runs = runs
        self._scans: list[State] = [] if runs.tree is None else list(self._scanned())

    def _scanned(self) -> Iterator[State]:
        """Of each level of the tree the state of every beginning of a block."""
        assert self._runs.tree is not None
        for level, order in enumerate(self._runs.tree.order):
            state = self._merging.of(self._runs.rest[order])
            rows = tuple(values.reshape(-1, 1 << level) for values in state)
            yield tuple(values.ravel() for values in self._merging.scanned(rows))

    def _level(self, level: int) -> State:
        while len(self._levels) <= level:
            below = self._levels[-1]
            half = len(below[0]) // 2
            left, right = (tuple(values[: 2 * half][i::2] for values in below) for i in (0, 1))
            # a last block without a partner is never inside of a range of twice its size
            self._levels.append(self._merging.merged(left, right))
        return self._levels[level]

    def of(self, hits: Hits, blocks: list[Blocks]) -> State:
        """The state of the events of each row; `blocks` are those of `hits`."""
        total = self._merging.none(len(hits.first))
        for rows, level, block in blocks:
            self._add(total, rows, self._level(level), block)
        for each in hits.prefixes:
            self._add(total, each.rows, self._scans[each.level], (each.blocks << each.level) + each.sizes - 1)
        return total

    def _add(self, total: State, rows: Ints, states: State, index: Ints) -> None:
        before = tuple(values[rows] for values in total)
        after = self._merging.merged(before, tuple(values[index] for values in states))
        for values, new in zip(total, after, strict=True):
            values[rows] = new
