"""Events in order, so that those of any window that are known by an instant are a few ranges.

Events of a group are in order of (hop of the event time, known_at). Those that are known no later than all that follow
form a *chain*, in which both rise: the events of a window are one range, between two binary searches. Of the others,
in the same order, all are known up to the first that is not (they are *settled*); those after it are searched in a
merge-sort tree: blocks of 2^k in order of known_at, of which what is known by an instant is a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.offline.windows.keyed import Keyed
from headwater.offline.windows.tiles import Pieces, Tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

NEVER_KNOWN = 2**63 - 1
"""Of the padding of blocks: no instant is so late."""


class Parts(NamedTuple):
    """Beginnings of blocks of one size of the tree, at most one for each row; of level 0 any range.

    Attributes:
        rows: the rows that have one.
        level: the blocks have 2^level members.
        start: where each begins.
        sizes: how many of its members, at least one.
    """

    rows: Ints
    level: int
    start: Ints
    sizes: Ints

    def of_rows(self, chosen: Mask) -> Parts:
        """Those of some rows."""
        some = chosen[self.rows]
        return Parts(self.rows[some], self.level, self.start[some], self.sizes[some])


class Bounds(NamedTuple):
    """Where the events of one window are, for each of some rows.

    Attributes:
        first, last: the range of the chain, all of it known; the last is not in it.
        begin, end: the range of the others, which may be known or not.
    """

    first: Ints
    last: Ints
    begin: Ints
    end: Ints


class Reach:
    """What each of some rows knows, whatever its window.

    Args:
        known: where what is known of the chain ends.
        settled: where the others end of which all before are known.
        end: where the others end whose hop has begun.
        tree: the others; None: there are none.
        at: the instant of each row.
    """

    def __init__(self, known: Ints, settled: Ints, end: Ints, tree: Tree | None, at: Ints) -> None:
        self.known, self.settled, self.end = known, settled, end
        self._tree, self.at = tree, at

    @cached_property
    def tail(self) -> list[Parts]:
        """What is known of those that are not settled."""
        return [] if self._tree is None else list(self._tree.known_parts(self.settled, self.end, self.at))

    @cached_property
    def tail_sizes(self) -> Ints:
        """How many these are."""
        return _added(np.zeros(len(self.known), np.int64), self.tail)


class Hits:
    """The events of one window, for each of some rows.

    Args:
        runs: what they are of.
        bounds: the range of the chain, and of the others those that are settled.
        reach: what the rows know.
        with_tail: the rows whose window has all of the reach's tail; None: none.
        own: for the other rows, what is known of those that are not settled.
    """

    def __init__(self, runs: Runs, bounds: Bounds, reach: Reach, with_tail: Mask | None, own: list[Parts]) -> None:
        self._runs, self._bounds = runs, bounds
        self.reach, self.with_tail, self.own = reach, with_tail, own
        self.first, self.last = bounds.first, bounds.last

    @cached_property
    def counts(self) -> Ints:
        """How many events each row has."""
        found = self.last - self.first
        if self._runs.tree is not None:
            found += self._bounds.end - self._bounds.begin
            if self.with_tail is not None:
                found += np.where(self.with_tail, self.reach.tail_sizes, 0)
        return _added(found, self.own)

    @cached_property
    def some(self) -> Mask:
        """Which rows have any event."""
        return self.counts > 0

    @cached_property
    def tails(self) -> Ints:
        """The rows that have events of the reach's tail."""
        if self.with_tail is None or not self.reach.tail:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.with_tail & (self.reach.tail_sizes > 0))

    @cached_property
    def chain(self) -> Pieces:
        """The pieces of the chain."""
        return self._runs.chain_tiles.pieces(self.first, self.last)

    @cached_property
    def settled(self) -> Pieces:
        """The pieces of the others that are settled."""
        return self._runs.rest_tiles.pieces(self._bounds.begin, self._bounds.end)

    def like(self, other: Hits) -> bool:
        """Whether these are the same events, of the same rows: of windows without an end, those that begin together."""
        same = np.array_equal(self.first, other.first)
        return same and np.array_equal(self._bounds.begin, other._bounds.begin)

    def rest(self) -> Iterator[Parts]:
        """All that is not in the chain."""
        if self._runs.tree is None:
            return
        begin, end = self._bounds.begin, self._bounds.end
        rows = np.flatnonzero(begin < end)
        yield Parts(rows, 0, begin[rows], end[rows] - begin[rows])
        if self.with_tail is not None:
            for each in self.reach.tail:
                yield each.of_rows(self.with_tail)
        yield from self.own


def _added(counts: Ints, parts: list[Parts]) -> Ints:
    for each in parts:
        counts[each.rows] += each.sizes
    return counts


class Tree:
    """The events that are not in the chain, in blocks of each power of two.

    Args:
        known: when each is known, in order of the event times; groups are apart.
        most: how many there are at most of one group.

    Attributes:
        depth: how many sizes of blocks there are.
    """

    def __init__(self, known: Ints, most: int) -> None:
        self.depth = most.bit_length()
        self._known, self._order = [known], [np.arange(len(known))]

    def level(self, level: int) -> tuple[Ints, Ints]:
        """When the members of all blocks of a size are known, block by block in order; and which events they are."""
        while len(self._known) <= level:
            block = 1 << len(self._known)
            more = -len(self._known[-1]) % block
            times = np.append(self._known[-1], np.full(more, NEVER_KNOWN)).reshape(-1, block)
            members = np.append(self._order[-1], np.zeros(more, np.int64)).reshape(-1, block)
            sorting = np.argsort(times, axis=1, kind="stable")
            self._known.append(np.take_along_axis(times, sorting, axis=1).ravel())
            self._order.append(np.take_along_axis(members, sorting, axis=1).ravel())
        return self._known[level], self._order[level]

    def known_parts(self, first: Ints, last: Ints, at: Ints) -> Iterator[Parts]:
        """What is known by each row's instant, of its range of members."""
        rows = np.flatnonzero(first < last)
        a, b, times = first[rows], last[rows], at[rows]
        level = 0
        while len(rows):
            left, right = a & 1 == 1, b & 1 == 1
            b = b - right
            for odd, block in ((left, a), (right, b)):
                chosen = np.flatnonzero(odd)
                if len(chosen):
                    yield from self._known_parts(rows[chosen], level, block[chosen] << level, times[chosen])
            a, b = (a + left) >> 1, b >> 1
            some = np.flatnonzero(a < b)
            rows, a, b, times = rows[some], a[some], b[some], times[some]
            level += 1

    def _known_parts(self, rows: Ints, level: int, start: Ints, at: Ints) -> Iterator[Parts]:
        times, _ = self.level(level)
        sizes = np.full(len(rows), 1 << level)
        # of most blocks all members are known
        partly = np.flatnonzero(times[start + ((1 << level) - 1)] > at)
        sizes[partly] = self._known_of(times, level, start[partly], at[partly])
        some = sizes > 0
        if some.all():
            yield Parts(rows, level, start, sizes)
        elif some.any():
            yield Parts(rows[some], level, start[some], sizes[some])

    @staticmethod
    def _known_of(times: Ints, level: int, start: Ints, at: Ints) -> Ints:
        """How many members of blocks are known, not all: a binary search of as many steps as the level."""
        sizes = np.zeros(len(start), np.int64)
        step = 1 << level >> 1
        while step:
            sizes += np.where(times[start + sizes + (step - 1)] <= at, step, 0)
            step >>= 1
        return sizes


class Runs:
    """Events that are in order.

    Args:
        groups: how many groups there are.
        group: of each event, ascending.
        boundary: of each event, ascending within its group.
        known: when each is known.
    """

    def __init__(self, groups: int, group: Ints, boundary: Ints, known: Ints) -> None:
        self.size = len(group)
        by_known = Keyed(groups, known)
        stamps = by_known.kept(group, known)
        ahead = np.minimum.accumulate(stamps[::-1])[::-1]
        in_chain = stamps <= ahead
        self.whole = bool(in_chain.all())
        self.chain = np.arange(self.size) if self.whole else np.flatnonzero(in_chain)
        self.rest = np.flatnonzero(~in_chain)
        self._group, self._by_known, self._chain_known = group, by_known, self.on_chain(stamps)
        self._by_boundary = Keyed(groups, boundary)
        edges = self._by_boundary.kept(group, boundary)
        self._chain_edges, self._rest_edges = self.on_chain(edges), edges[self.rest]
        self.tree: Tree | None = None
        if not self.whole:
            self.tree = Tree(known[self.rest], _longest(group[self.rest]))
            # of each group when all up to an event are known; a later group's are greater
            self._rest_known = np.maximum.accumulate(stamps[self.rest])

    @cached_property
    def chain_tiles(self) -> Tiles:
        """Where parts of ranges of the chain are."""
        return Tiles(len(self.chain), _longest(self._group))

    @cached_property
    def rest_tiles(self) -> Tiles:
        """Where parts of ranges of the others are."""
        return Tiles(len(self.rest), _longest(self._group[self.rest]))

    def on_chain(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of the events of the chain."""
        return values if self.whole else values[self.chain]

    def known_stamps(self, group: Ints, known: Ints) -> Ints:
        """Integers in the order of (group, known_at) of events."""
        return self._by_known.kept(group, known)

    def known_after(self, group: Ints, at: Ints) -> Ints:
        """The integer before which those of all events are that are known by an instant."""
        return self._by_known.after(group, at)

    def reach(self, group: Ints, at: Ints) -> Reach:
        """What rows know, by their groups and instants."""
        stamps = self._by_known.after(group, at)
        known = np.searchsorted(self._chain_known, stamps)
        if self.tree is None:
            nothing = np.zeros(len(group), np.int64)
            return Reach(known, nothing, nothing, None, at)
        settled = np.searchsorted(self._rest_known, stamps)
        # an event is not known before its hop begins
        end = np.searchsorted(self._rest_edges, self._by_boundary.after(group, at))
        return Reach(known, settled, end, self.tree, at)

    def bounds(self, group: Ints, start: Ints, end: Ints | None, reach: Reach) -> Bounds:
        """Where the events with start ≤ boundary (< end) are, for each row; see `hits`."""
        low = self._by_boundary.of(group, start)
        high = None if end is None else self._by_boundary.of(group, end)
        first = np.searchsorted(self._chain_edges, low)
        last = reach.known
        if high is not None:
            last = np.minimum(last, np.searchsorted(self._chain_edges, high))
        begin, finish = reach.settled, reach.end
        if self.tree is not None:
            begin = np.searchsorted(self._rest_edges, low)
            finish = finish if high is None else np.minimum(finish, np.searchsorted(self._rest_edges, high))
        return Bounds(first, np.maximum(first, last), begin, np.maximum(begin, finish))

    def hits(self, group: Ints, start: Ints, end: Ints | None, reach: Reach) -> Hits:
        """The events with start ≤ boundary (< end) that are known by an instant, for each row.

        Args:
            group: the rows' groups.
            start: the first boundary of each row.
            end: the boundary before which its events are; None: all.
            reach: what the rows know.
        """
        bounds = self.bounds(group, start, end, reach)
        if self.tree is None:
            return Hits(self, bounds, reach, None, [])
        begin, finish = bounds.begin, bounds.end
        settled = np.clip(reach.settled, begin, finish)
        with_tail = begin <= reach.settled if end is None else None
        # a row that has the tail has nothing else that is not settled
        own = settled if with_tail is None else np.where(with_tail, finish, settled)
        return Hits(
            self, bounds._replace(end=settled), reach, with_tail, list(self.tree.known_parts(own, finish, reach.at))
        )


def _longest(group: Ints) -> int:
    return int(np.bincount(group).max()) if len(group) else 0
