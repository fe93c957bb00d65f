"""Aggregates of ranges of events in order, from aggregates of parts inside them: nothing is ever subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

from headwater.offline.windows.runs import Hits, Parts, Reach, Runs
from headwater.offline.windows.tiles import TILE, Pieces, Tiles

State = tuple["NDArray[np.generic]", ...]
"""Arrays of one length: the states of many sets of events."""


class Merging(Protocol):
    """How states are made of events, and merged.

    Attributes:
        overlapping: whether sets of events that are merged may have some in common.
    """

    overlapping: bool

    def of(self, events: Ints | None) -> State:
        """The state of each event alone; None: of all, in order."""
        ...

    def none(self, size: int) -> State:
        """The state of no events, `size` times."""
        ...

    def merged(self, left: State, right: State, out: State | None = None) -> State:
        """The states of two sets each that have no event in common; `out`: where they go, one of the two perhaps."""
        ...

    def scanned(self, state: State) -> State:
        """Of rows of states, two-dimensional, the state of each together with all before it in its row."""
        ...


class Table:
    """The states of parts of events in order.

    Args:
        tiles: where they are.
        merging: the kind.
        state: of each event.
    """

    def __init__(self, tiles: Tiles, merging: Merging, state: State) -> None:
        self._merging, self._each = merging, state
        # one position of all tiles after the other, so that whole columns are merged
        self._begins = tuple(_by_place(values, tiles.count) for values in state)
        if tiles.size % TILE:
            for values, none in zip(self._begins, merging.none(1), strict=True):
                values[tiles.size % TILE :, -1] = none
        self._ends = tuple(values.copy() for values in self._begins)
        for i in range(1, TILE):
            begin, end = _row(self._begins, i), _row(self._ends, TILE - 1 - i)
            merging.merged(_row(self._begins, i - 1), begin, begin)
            merging.merged(end, _row(self._ends, TILE - i), end)
        self._blocks = (self._blocks_overlapping if merging.overlapping else self._blocks_apart)(tiles)
        self._begins, self._ends = _flat(self._begins), _flat(self._ends)

    def _blocks_apart(self, tiles: Tiles) -> State:
        """From each tile to the middle of its block of 2, 4, 8, … tiles; to both ends of the largest; of nothing."""
        merging, totals = self._merging, _row(self._begins, -1)
        count = tiles.levels + 2 * tiles.divided
        blocks = merging.none(count * tiles.blocks + 1)
        rows = tuple(values[:-1].reshape(count, tiles.blocks) for values in blocks)
        begins, ends = merging.none(tiles.blocks), merging.none(tiles.blocks)
        for values, more, total in zip(begins, ends, totals, strict=True):
            values[: tiles.count] = more[: tiles.count] = total
        for level in range(tiles.levels):
            half = 1 << level
            before, after = _halves(begins, half)
            left, right = _halves(ends, half)
            for values, b, e in zip(rows, after, left, strict=True):
                shaped = values[level].reshape(-1, 2, half)
                shaped[:, 0], shaped[:, 1] = e, b
            last, first = (tuple(v[:, -1:].copy() for v in before), tuple(v[:, :1].copy() for v in right))
            # of small blocks the same position of all at once
            for step in (slice(i, i + 1) for i in range(half)) if half < TILE else (slice(None),):
                begin, end = (tuple(v[:, step] for v in each) for each in (after, left))
                merging.merged(last, begin, begin)
                merging.merged(end, first, end)
        if tiles.divided:
            for values, b, e in zip(rows, begins, ends, strict=True):
                values[-2], values[-1] = e, b
        return blocks

    def _blocks_overlapping(self, tiles: Tiles) -> State:
        """Of 1, 2, 4, … tiles from each on, as far as there are any; of nothing."""
        merging, totals = self._merging, _row(self._begins, -1)
        count = max(1, tiles.levels)
        blocks = merging.none(count * tiles.blocks + 1)
        rows = tuple(values[:-1].reshape(count, tiles.blocks) for values in blocks)
        for values, total in zip(rows, totals, strict=True):
            values[0, : tiles.count] = total
        for level in range(1, tiles.levels):
            half = 1 << (level - 1)
            left, right = (tuple(v[level - 1, part] for v in rows) for part in (slice(-half), slice(half, None)))
            merging.merged(left, right, tuple(values[level, :-half] for values in rows))
            for values in rows:
                values[level, -half:] = values[level - 1, -half:]
        return blocks

    def of(self, pieces: Pieces, size: int) -> State:
        """The state of each range."""
        merging = self._merging
        total = merging.none(size)
        if len(pieces.small):
            rows, first, sizes = pieces.small, pieces.first, pieces.sizes
            _put(total, rows, _at(self._each, first))
            for i in range(1, TILE):
                more = np.flatnonzero(sizes > i)
                if not len(more):
                    break
                rows, first, sizes = rows[more], first[more], sizes[more]
                add(merging, total, rows, _at(self._each, first + i))
        if len(pieces.large):
            left, right = pieces.overlapping if merging.overlapping else pieces.apart
            ends = merging.merged(_at(self._ends, pieces.begin), _at(self._begins, pieces.end))
            whole = merging.merged(_at(self._blocks, left), _at(self._blocks, right))
            found = merging.merged(ends, whole)
            if len(pieces.large) == size:
                return found
            _put(total, pieces.large, found)
        return total


def _by_place(values: NDArray[Any], tiles: int) -> NDArray[Any]:
    """The values of events, a row for each position in a tile; whole tiles alone are filled."""
    found = np.empty((TILE, tiles), values.dtype)
    whole = len(values) // TILE
    found[:, :whole] = values[: whole * TILE].reshape(whole, TILE).T
    if whole < tiles:
        found[: len(values) - whole * TILE, whole] = values[whole * TILE :]
    return found


def _row(state: State, row: int) -> State:
    return tuple(values[row] for values in state)


def _flat(state: State) -> State:
    return tuple(values.ravel() for values in state)


def _halves(state: State, half: int) -> tuple[State, State]:
    """The first and the second halves of all blocks, as views."""
    shaped = [values.reshape(-1, 2, half) for values in state]
    return tuple(values[:, 0] for values in shaped), tuple(values[:, 1] for values in shaped)


def _at(state: State, index: Ints) -> State:
    return tuple(values.take(index) for values in state)


def _put(total: State, rows: Ints, state: State) -> None:
    for values, new in zip(total, state, strict=True):
        values[rows] = new


def add(merging: Merging, total: State, rows: Ints, state: State) -> None:
    """Merge states into those of some rows, each once."""
    _put(total, rows, merging.merged(_at(total, rows), state))


class Aggregates:
    """The aggregates of one kind over events in order.

    Args:
        runs: the events.
        merging: the kind.
    """

    def __init__(self, runs: Runs, merging: Merging) -> None:
        self._runs, self._merging = runs, merging
        self._chain = Table(runs.chain_tiles, merging, merging.of(None if runs.whole else runs.chain))
        self._rest = None if runs.whole else Table(runs.rest_tiles, merging, merging.of(runs.rest))
        self._scans: dict[int, State] = {}
        self._tail: tuple[Reach, State] | None = None

    def of(self, hits: Hits) -> State:
        """The state of the events of each row."""
        size = len(hits.first)
        total = self._chain.of(hits.chain, size)
        if self._rest is None:
            return total
        total = self._merging.merged(total, self._rest.of(hits.settled, size))
        if len(hits.tails):
            add(self._merging, total, hits.tails, _at(self._tail_of(hits.reach), hits.tails))
        self._add_parts(total, hits.own)
        return total

    def _tail_of(self, reach: Reach) -> State:
        """The state of each row's tail, which its windows have in common."""
        if self._tail is None or self._tail[0] is not reach:
            state = self._merging.none(len(reach.known))
            self._add_parts(state, reach.tail)
            self._tail = reach, state
        return self._tail[1]

    def _add_parts(self, total: State, parts: Sequence[Parts]) -> None:
        for each in parts:
            add(self._merging, total, each.rows, _at(self._scanned(each.level), each.start + (each.sizes - 1)))

    def _scanned(self, level: int) -> State:
        """Of a level of the tree the state of every beginning of a block."""
        if level not in self._scans:
            assert self._runs.tree is not None
            _, order = self._runs.tree.level(level)
            rows = tuple(v.reshape(-1, 1 << level) for v in self._merging.of(self._runs.rest[order]))
            self._scans[level] = tuple(values.ravel() for values in self._merging.scanned(rows))
        return self._scans[level]
