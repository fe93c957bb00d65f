"""Distinct counts as sums: how many values have their newest event in the window.

An event that raises the newest boundary of its value counts from when it is known until the next one that raises it
is known. So a window's count is what has begun by the instant less what has ended by it, of what is in the window.
Beyond N values, 2^ℓ times the number of those whose digest begins with ℓ zero bits; see `states.distinct`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.keyed import Keyed, ranges_of
from headwater.offline.windows.runs import Hits, Runs
from headwater.planning.windows.states.distinct import TOP_LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_PAIRS = 4_000_000
"""How many (row, event) pairs are made at once."""


class Records:
    """The events that raise the newest boundary of their value.

    Args:
        groups: how many groups there are.
        group, boundary, known: of each event.
        digests: of each the digest of its value.
    """

    def __init__(self, groups: int, group: Ints, boundary: Ints, known: Ints, digests: NDArray[np.uint64]) -> None:
        order = np.lexsort((boundary, known, digests, group))
        group, boundary, known, digests = group[order], boundary[order], known[order], digests[order]
        other = np.ones(len(group), bool)
        other[1:] = (group[1:] != group[:-1]) | (digests[1:] != digests[:-1])
        value = np.cumsum(other) - 1
        stamps = Keyed(int(value[-1]) + 1 if len(value) else 0, boundary).of(value, boundary)
        raises = np.ones(len(group), bool)
        raises[1:] = stamps[1:] > np.maximum.accumulate(stamps)[:-1]
        group, boundary, known = group[raises], boundary[raises], known[raises]
        digests, value = digests[raises], value[raises]
        followed = np.zeros(len(group), bool)
        followed[:-1] = value[1:] == value[:-1]
        ends = np.append(known[1:], 0)[: len(known)]
        self._groups = groups
        self._begun = group, boundary, known, digests
        self._ended = group[followed], boundary[followed], ends[followed], digests[followed]
        self._levels: list[tuple[Runs, Runs]] = []

    def counts(self, group: Ints, start: Ints, at: Ints, most: int) -> Ints:
        """How many distinct values each row's window has, as the contract counts them.

        Args:
            group, start, at: of each row; see `Runs.hits`.
            most: N.
        """
        found = np.zeros(len(group), np.int64)
        rows = np.arange(len(group))
        for level in range(TOP_LEVEL + 1):
            begun, ended = self._level(level)
            there, gone = (
                runs.hits(group[rows], start[rows], None, runs.reach(group[rows], at[rows])).counts
                for runs in (begun, ended)
            )
            there = there - gone
            found[rows] = there << level
            rows = rows[there > most]
            if not len(rows):
                break
        return found

    def _level(self, level: int) -> tuple[Runs, Runs]:
        while len(self._levels) <= level:
            at = len(self._levels)
            self._levels.append((self._runs(at, *self._begun), self._runs(at, *self._ended)))
        return self._levels[level]

    def _runs(self, level: int, group: Ints, boundary: Ints, known: Ints, digests: NDArray[np.uint64]) -> Runs:
        if level:
            there = digests < np.uint64(1 << (64 - level))
            group, boundary, known = group[there], boundary[there], known[there]
        order = np.lexsort((known, boundary, group))
        return Runs(self._groups, group[order], boundary[order], known[order])


def counted_one_by_one(runs: Runs, hits: Hits, digests: NDArray[np.uint64], most: int) -> Ints:
    """`Records.counts` of windows that end before the instant: their events are looked at one by one."""
    counts = hits.counts
    found = np.zeros(len(counts), np.int64)
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        until = max(begin + 1, int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + _PAIRS, side="right")))
        rows, events = events_of(runs, hits, begin, until)
        found[begin:until] = _distinct(rows - begin, digests[events], until - begin, most)
        begin = until
    return found


def _distinct(rows: Ints, digests: NDArray[np.uint64], size: int, most: int) -> Ints:
    order = np.lexsort((digests, rows))
    rows, digests = rows[order], digests[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (digests[1:] != digests[:-1])
    rows, digests = rows[first], digests[first]
    found = np.zeros(size, np.int64)
    open_rows = np.ones(size, bool)
    for level in range(TOP_LEVEL + 1):
        there = digests < np.uint64(1 << (64 - level)) if level else np.ones(len(digests), bool)
        counts = np.bincount(rows[there], minlength=size)
        found[open_rows] = (counts << level)[open_rows]
        open_rows &= counts > most
        if not open_rows.any():
            break
    return found


def events_of(runs: Runs, hits: Hits, begin: int, until: int) -> tuple[Ints, Ints]:
    """The rows from `begin` to `until` with each of their events, by index."""
    owners, places = ranges_of(hits.last[begin:until] - hits.first[begin:until])
    rows, events = [owners + begin], [runs.chain[hits.first[begin:until][owners] + places]]
    for each in hits.rest():
        assert runs.tree is not None
        chosen = np.flatnonzero((each.rows >= begin) & (each.rows < until))
        owners, places = ranges_of(each.sizes[chosen])
        start = each.start[chosen]
        rows.append(each.rows[chosen][owners])
        events.append(runs.rest[runs.tree.level(each.level)[1][start[owners] + places]])
    return np.concatenate(rows), np.concatenate(events)
