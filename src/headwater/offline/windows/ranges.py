"""Aggregates of ranges of events in order, from aggregates of parts inside them: nothing is ever subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

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

    def merged(self, left: State, right: State) -> State:
        """The states of two sets each that have no event in common."""
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
        pad = merging.none(tiles.count * TILE - tiles.size)
        padded = [np.concatenate(each) if len(each[1]) else each[0] for each in zip(state, pad, strict=True)]
        # one position of all tiles after the other, so that whole columns are merged
        columns = [np.ascontiguousarray(values.reshape(tiles.count, TILE).T) for values in padded]
        places: list[State] = [tuple(values[i] for values in columns) for i in range(TILE)]
        begins, ends = [places[0]], [places[-1]]
        for i in range(1, TILE):
            begins.append(merging.merged(begins[-1], places[i]))
            ends.append(merging.merged(places[-1 - i], ends[-1]))
        totals = _joined([begins[-1], merging.none(tiles.blocks - tiles.count)])
        self._blocks = (self._blocks_overlapping if merging.overlapping else self._blocks_apart)(tiles, totals)
        self._begins, self._ends = _joined(begins), _joined(ends[::-1])

    def _blocks_apart(self, tiles: Tiles, totals: State) -> State:
        """From each tile to the middle of its block of 2, 4, 8, … tiles; to both ends of the largest; of nothing."""
        merging = self._merging
        begins, ends = totals, tuple(values.copy() for values in totals)
        rows: list[State] = []
        for level, second in enumerate(tiles.second_halves):
            rows.append(tuple(np.where(second, b, e) for b, e in zip(begins, ends, strict=True)))
            half = 1 << level
            before, after = _halves(begins, half)
            left, right = _halves(ends, half)
            last, first = (tuple(v[:, -1:].copy() for v in before), tuple(v[:, :1].copy() for v in right))
            # of small blocks the same position of all at once
            for step in (slice(i, i + 1) for i in range(half)) if half < TILE else (slice(None),):
                for to, others in ((after, last), (left, first)):
                    old = tuple(v[:, step] for v in to)
                    new = merging.merged(others, old) if to is after else merging.merged(old, others)
                    for values, merged in zip(old, new, strict=True):
                        values[...] = merged
        return _joined([*rows, *((ends, begins) if tiles.divided else ()), merging.none(1)])

    def _blocks_overlapping(self, tiles: Tiles, totals: State) -> State:
        """Of 1, 2, 4, … tiles from each on, as far as there are any; of nothing."""
        merging = self._merging
        rows = [totals]
        for level in range(1, tiles.levels):
            half = 1 << (level - 1)
            later = tuple(values[half:] for values in rows[-1])
            merged = merging.merged(tuple(values[:-half] for values in rows[-1]), later)
            rows.append(_joined([merged, tuple(values[-half:] for values in rows[-1])]))
        return _joined([*rows, merging.none(1)])

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


def _halves(state: State, half: int) -> tuple[State, State]:
    """The first and the second halves of all blocks, as views."""
    shaped = [values.reshape(-1, 2, half) for values in state]
    return tuple(values[:, 0] for values in shaped), tuple(values[:, 1] for values in shaped)


def _joined(states: Sequence[State]) -> State:
    return tuple(np.concatenate(each) for each in zip(*states, strict=True))


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
        if hits.with_tail is not None and hits.reach.tail:
            rows = np.flatnonzero(hits.with_tail & (hits.reach.tail_sizes > 0))
            add(self._merging, total, rows, _at(self._tail_of(hits.reach), rows))
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
