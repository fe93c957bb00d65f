"""Lists: of each row's events the last n, the first n, or the last n distinct values, one by one from the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.nearest import Nearest
from headwater.offline.windows.runs import Bounds, Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

NONE = -1


class Lists:
    """Events in their full order: event time, created time, the log over the source, position, value.

    Args:
        runs: the events, their boundaries ascending in that order.
        known: when each is known.
        codes: of each its value, equal for equal values; for distinct values alone.
    """

    def __init__(self, runs: Runs, known: Ints, codes: Ints | None = None) -> None:
        self._runs, self._codes = runs, codes
        rest = known[runs.rest]
        self._size = len(rest)
        self._nearest = Nearest(rest) if self._size else None
        self._reversed = Nearest(rest[::-1]) if self._size else None
        self._jumps: Ints | None = None

    def last(self, bounds: Bounds, at: Ints, n: int) -> Ints:
        """The last n events of each row, the newest first, as a matrix; `NONE` where there are fewer."""
        return self._taken(self._backwards(bounds, at), len(at), n)

    def first(self, bounds: Bounds, at: Ints, n: int) -> Ints:
        """The first n events of each row, the oldest first, as a matrix; `NONE` where there are fewer."""
        return self._taken(self._forwards(bounds, at), len(at), n)

    def _taken(self, events: Iterator[tuple[Ints, Ints]], size: int, n: int) -> Ints:
        found = np.full((size, n), NONE, np.int64)
        for i, (rows, event) in zip(range(n), events, strict=False):
            found[rows, i] = event
        return found

    def last_distinct(self, bounds: Bounds, at: Ints, n: int) -> Ints:
        """Of each row the newest events of the n distinct values that came last, as `last`."""
        assert self._codes is not None
        found = np.full((len(at), n), NONE, np.int64)
        values = np.zeros((len(at), n), np.int64)
        sizes = np.zeros(len(at), np.int64)
        steps = self._backwards(bounds, at, skip=True)
        step = next(steps, None)
        while step is not None:
            rows, event = step
            code = self._codes[event]
            taken = np.arange(n) < sizes[rows, None]
            new = ~(taken & (values[rows] == code[:, None])).any(axis=1)
            chosen = rows[new]
            found[chosen, sizes[chosen]], values[chosen, sizes[chosen]] = event[new], code[new]
            sizes[chosen] += 1
            try:
                step = steps.send(sizes[rows] < n)  # type: ignore[attr-defined]
            except StopIteration:
                break
        return found

    def _backwards(self, bounds: Bounds, at: Ints, *, skip: bool = False) -> Iterator[tuple[Ints, Ints]]:
        """The events of each row, the newest first: rows, and of each its next event.

        What is sent back says which of these rows go on; with `skip`, events just before one of the same value in the
        chain are left out.
        """
        chain, rest = self._runs.chain, self._runs.rest
        rows = np.flatnonzero((bounds.first < bounds.last) | (bounds.begin < bounds.end))
        first, last, begin = bounds.first[rows], bounds.last[rows] - 1, bounds.begin[rows]
        times = at[rows]
        other = self._before(begin, bounds.end[rows], times)
        while len(rows):
            from_chain = np.where(last >= first, chain[np.maximum(last, 0)] if len(chain) else NONE, NONE)
            from_rest = np.where(other >= 0, rest[other] if len(rest) else NONE, NONE)
            event = np.maximum(from_chain, from_rest)
            some = event >= 0
            if not some.all():
                rows, first, last, begin, times, other, event, from_chain = (
                    each[some] for each in (rows, first, last, begin, times, other, event, from_chain)
                )
                if not len(rows):
                    return
            going = yield rows, event
            of_chain = event == from_chain
            last = np.where(of_chain, self._jump(last) if skip else last - 1, last)
            moved = np.flatnonzero(~of_chain)
            other[moved] = self._before(begin[moved], other[moved], times[moved])
            if going is not None:
                rows, first, last, begin, times, other = (
                    each[going] for each in (rows, first, last, begin, times, other)
                )

    def _forwards(self, bounds: Bounds, at: Ints) -> Iterator[tuple[Ints, Ints]]:
        """The events of each row, the oldest first."""
        chain, rest, nowhere = self._runs.chain, self._runs.rest, self._runs.size
        rows = np.flatnonzero((bounds.first < bounds.last) | (bounds.begin < bounds.end))
        first, last, end = bounds.first[rows], bounds.last[rows], bounds.end[rows]
        times = at[rows]
        other = self._after(bounds.begin[rows], end, times)
        while len(rows):
            index = np.minimum(first, max(0, len(chain) - 1))
            from_chain = np.where(first < last, chain[index] if len(chain) else nowhere, nowhere)
            from_rest = np.where(other >= 0, rest[other] if len(rest) else nowhere, nowhere)
            event = np.minimum(from_chain, from_rest)
            some = event < nowhere
            if not some.all():
                rows, first, last, end, times, other, event, from_chain = (
                    each[some] for each in (rows, first, last, end, times, other, event, from_chain)
                )
                if not len(rows):
                    return
            yield rows, event
            of_chain = event == from_chain
            first = first + of_chain
            moved = np.flatnonzero(~of_chain)
            other[moved] = self._after(other[moved] + 1, end[moved], times[moved])

    def _before(self, first: Ints, last: Ints, at: Ints) -> Ints:
        return np.full(len(at), NONE) if self._nearest is None else self._nearest.before(first, last, at)

    def _after(self, first: Ints, last: Ints, at: Ints) -> Ints:
        if self._reversed is None:
            return np.full(len(at), NONE)
        found = self._reversed.before(self._size - last, self._size - first, at)
        return np.where(found >= 0, self._size - 1 - found, NONE)

    def _jump(self, places: Ints) -> Ints:
        """For places of the chain, the last one before each with another value."""
        if self._jumps is None:
            assert self._codes is not None
            codes = self._codes[self._runs.chain]
            changed = np.ones(len(codes), bool)
            changed[1:] = codes[1:] != codes[:-1]
            begins = np.maximum.accumulate(np.where(changed, np.arange(len(codes)), 0))
            self._jumps = begins - 1
        return self._jumps[np.maximum(places, 0)] if len(self._jumps) else places - 1
