"""Events in order, so that those of any window that are known by an instant are a few ranges.

Events of a group are in order of (hop of the event time, known_at). Those that are known no later than all that follow
form a *chain*, in which both rise: the events of a window are one range, between two binary searches. The others are a
merge-sort tree: blocks of 2^k in order of known_at, of which what is known by an instant is a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.clock import MIN_MICROS
from headwater.offline.windows.keyed import Keyed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

NEVER_KNOWN = 2**63 - 1
"""Of the padding of blocks: no instant is so late."""


class Prefixes(NamedTuple):
    """Beginnings of blocks of one size, at most one for each row.

    Attributes:
        rows: the rows that have one.
        level: the blocks have 2^level members.
        blocks: which block.
        sizes: how many of its members, at least one.
    """

    rows: Ints
    level: int
    blocks: Ints
    sizes: Ints


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


@dataclass
class Hits:
    """Where the events of one window are, for each of some rows.

    Attributes:
        first, last: the range of the chain; the last is not in it.
        prefixes: those of the tree.
    """

    first: Ints
    last: Ints
    prefixes: list[Prefixes] = field(default_factory=list)
    _counts: Ints | None = None

    def counts(self) -> Ints:
        """How many events each row has; counted once."""
        if self._counts is None:
            self._counts = self._counted()
        return self._counts

    def _counted(self) -> Ints:
        found = self.last - self.first
        for each in self.prefixes:
            found[each.rows] += each.sizes
        return found


class Tree:
    """The events that are not in the chain, in blocks of each power of two.

    Args:
        known: when each is known, in order of the event times; groups are apart.
        most: how many there are at most of one group.
    """

    def __init__(self, known: Ints, most: int) -> None:
        self.known, self.order = [known], [np.arange(len(known))]
        for level in range(1, most.bit_length()):
            block = 1 << level
            more = -len(self.known[-1]) % block
            times = np.append(self.known[-1], np.full(more, NEVER_KNOWN)).reshape(-1, block)
            members = np.append(self.order[-1], np.zeros(more, np.int64)).reshape(-1, block)
            sorting = np.argsort(times, axis=1, kind="stable")
            self.known.append(np.take_along_axis(times, sorting, axis=1).ravel())
            self.order.append(np.take_along_axis(members, sorting, axis=1).ravel())

    def prefixes(self, first: Ints, last: Ints, at: Ints) -> Iterator[Prefixes]:
        """What is known by each row's instant, of its range of members."""
        rows = np.flatnonzero(first < last)
        a, b, times = first[rows], last[rows], at[rows]
        for level in range(len(self.known)):
            left, right = a & 1 == 1, b & 1 == 1
            b = b - right
            for odd, block in ((left, a), (right, b)):
                chosen = np.flatnonzero(odd)
                if len(chosen):
                    yield from self._known(rows[chosen], level, block[chosen], times[chosen])
            a, b = (a + left) >> 1, b >> 1
            some = np.flatnonzero(a < b)
            if not len(some):
                return
            rows, a, b, times = rows[some], a[some], b[some], times[some]

    def _known(self, rows: Ints, level: int, blocks: Ints, at: Ints) -> Iterator[Prefixes]:
        times, start = self.known[level], blocks << level
        sizes = np.full(len(rows), 1 << level)
        # of most blocks all members are known
        partly = np.flatnonzero(times[start + (1 << level) - 1] > at)
        sizes[partly] = self._known_of(times, level, start[partly], at[partly])
        some = sizes > 0
        if some.all():
            yield Prefixes(rows, level, blocks, sizes)
        elif some.any():
            yield Prefixes(rows[some], level, blocks[some], sizes[some])

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
        self._by_known, self._chain_known = by_known, self.on_chain(stamps)
        self._by_boundary = Keyed(groups, boundary)
        edges = self._by_boundary.kept(group, boundary)
        self._chain_edges, self._rest_edges = self.on_chain(edges), edges[self.rest]
        self.tree: Tree | None = None
        if len(self.rest):
            most = int(np.bincount(group[self.rest]).max())
            self.tree = Tree(known[self.rest], most)

    def on_chain(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values of the events of the chain."""
        return values if self.whole else values[self.chain]

    def known_stamps(self, group: Ints, known: Ints) -> Ints:
        """Integers in the order of (group, known_at) of events."""
        return self._by_known.kept(group, known)

    def known_after(self, group: Ints, at: Ints) -> Ints:
        """The integer before which those of all events are that are known by an instant."""
        return self._by_known.after(group, at)

    def known_by(self, group: Ints, at: Ints) -> Ints:
        """Where the events of the chain end that are known by an instant, for each row."""
        return np.searchsorted(self._chain_known, self._by_known.after(group, at))

    def bounds(self, group: Ints, start: Ints, end: Ints | None, at: Ints, known: Ints | None = None) -> Bounds:
        """Where the events with start ≤ boundary (< end) are, for each row; see `hits`."""
        low = self._by_boundary.of(group, start)
        high = None if end is None else self._by_boundary.of(group, end)
        first = np.searchsorted(self._chain_edges, low)
        last = self.known_by(group, at) if known is None else known
        if high is not None:
            last = np.minimum(last, np.searchsorted(self._chain_edges, high))
        if self.tree is None:
            begin = finish = np.zeros(len(group), np.int64)
        else:
            if high is None:
                high = self._by_boundary.of(group + 1, np.full(len(group), MIN_MICROS))
            begin, finish = np.searchsorted(self._rest_edges, low), np.searchsorted(self._rest_edges, high)
        return Bounds(first, np.maximum(first, last), begin, np.maximum(begin, finish))

    def hits(self, group: Ints, start: Ints, end: Ints | None, at: Ints, known: Ints | None = None) -> Hits:
        """The events with start ≤ boundary (< end) that are known by an instant, for each row.

        Args:
            group: the rows' groups.
            start: the first boundary of each row.
            end: the boundary before which its events are; None: all.
            at: its instant.
            known: what `known_by` gave for these rows, where that is there.
        """
        first, last, begin, finish = self.bounds(group, start, end, at, known)
        found = Hits(first, last)
        if self.tree is not None:
            found.prefixes = list(self.tree.prefixes(begin, finish, at))
        return found
