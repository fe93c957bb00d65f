"""Events of many keys in order, and those that a list takes: which records it has, and which events each of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.online.rows.windows.row import NEVER
from headwater.planning.windows.columns import Column
from headwater.planning.windows.layout import TILES, ListLayout, WindowLayout
from headwater.planning.windows.rule import BEFORE_ALL
from headwater.planning.windows.statements import Statements

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


class Ranges(NamedTuple):
    """Ranges of events, ascending and apart, none of them empty: from `starts` to before `ends`."""

    starts: Ints
    ends: Ints

    @property
    def sizes(self) -> Ints:
        """How many events each has."""
        return self.ends - self.starts

    def taken(self, values: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
        """The values in the ranges alone, one range after another, and where each begins."""
        if len(self.starts) and int(self.sizes.sum()) == len(values):
            return values, self.starts
        inside = np.zeros(len(values) + 1, np.int8)
        inside[self.starts] += 1
        inside[self.ends] -= 1
        sizes = self.sizes
        return values[np.cumsum(inside[:-1], dtype=np.int8).view(np.bool_)], np.cumsum(sizes) - sizes

    def reduced(self, function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """A function such as `np.add` over the values of each range."""
        inside, begins = self.taken(values)
        result: NDArray[Any] = function.reduceat(inside, begins) if len(begins) else inside[:0]
        return result


class KeyEvents:
    """The events that count of some keys, in order of (key, event time, created time, origin, log position).

    Args:
        layout: the version's.
        statements: those that count, in any order; `key` is a number from 0.
        keys: how many keys there are.

    Attributes:
        hops: without those that another divides: no boundary is a multiple of theirs alone.
        of: the statements in that order.
        starts: where the events of each key begin, and where the last ends.
        newest_event, newest_known: of each key; `NEVER` without one.
        tied: whether statements are equal in all of that order.
    """

    def __init__(self, layout: WindowLayout, statements: Statements, keys: int) -> None:
        self.hops = _least_hops(layout.hops)
        self.keys = keys
        order = _by_event(statements)
        key, event = statements.key[order], statements.event[order]
        same = (key[1:] == key[:-1]) & (event[1:] == event[:-1])
        self.tied = False
        if same.any():
            given = statements
            order = np.lexsort((given.position, given.from_log, given.created, given.event, given.key))
            fields = (given.key, given.event, given.created, given.from_log, given.position)
            equal = [each[order][1:] == each[order][:-1] for each in fields]
            self.tied = bool(np.logical_and.reduce(equal).any())
        self.of = statements.take(order)
        self.starts = np.concatenate(([0], np.cumsum(np.bincount(self.of.key, minlength=keys)))).astype(np.int64)
        some = np.flatnonzero(np.diff(self.starts))
        self.newest_event = np.full(keys, NEVER, np.int64)
        self.newest_known = np.full(keys, NEVER, np.int64)
        if len(some):
            self.newest_event[some] = self.of.event[self.starts[some + 1] - 1]
            self.newest_known[some] = np.maximum.reduceat(self.of.known_at, self.starts[some])

    @cached_property
    def boundary(self) -> Ints:
        """Of each event, as `rule.boundary_of` has it; without hops none is asked for."""
        event = self.of.event
        found = [event - event % hop for hop in self.hops]
        return np.maximum.reduce(found) if found else np.full(len(event), BEFORE_ALL, np.int64)


def _least_hops(hops: Sequence[int]) -> tuple[int, ...]:
    return tuple(hop for hop in hops if not any(hop % other == 0 for other in hops if other < hop))


def _by_event(statements: Statements) -> Ints:
    """Statements in order of (key, event time)."""
    key, event = statements.key, statements.event
    if not len(key):
        return np.zeros(0, np.int64)
    first = int(event.min())
    span = int(event.max()) - first + 1
    if (int(key.max()) + 1) * span < 2**63:
        return np.argsort(key * span + (event - first))
    return np.lexsort((event, key))


class Chosen:
    """The events of keys that lists of one column and condition take.

    Args:
        events: all of them.
        column: whose value must not be NULL; None: no column's.
        where: the condition that must hold; None: none.

    Attributes:
        index: of each its place among all events; None: it takes all.
        starts: where the events of each key begin, and where the last ends.
    """

    def __init__(self, events: KeyEvents, column: str | None, where: str | None) -> None:
        self.events = events
        self._records: dict[tuple[str, Any], Records] = {}
        self.column: Column | None = None if column is None else events.of.columns[column]
        takes = None if where is None else events.of.holds[where]
        if self.column is not None and not self.column.valid.all():
            takes = self.column.valid if takes is None else takes & self.column.valid
        self.index: Ints | None = None
        self.starts = events.starts
        if takes is not None and not takes.all():
            self.index = np.flatnonzero(takes)
            self.starts = np.searchsorted(self.index, events.starts)
        if events.tied and self.column is not None:
            self.index = _by_value(events.of, self.column, self.index)

    def take(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of a number for each event those of the events that it takes."""
        return values if self.index is None else values[self.index]

    @cached_property
    def key(self) -> Ints:
        """The key of each event."""
        return self.take(self.events.of.key)

    @cached_property
    def boundary(self) -> Ints:
        """The boundary of each event."""
        return self.take(self.events.boundary)

    @cached_property
    def values(self) -> NDArray[Any]:
        """The value of each event, in the order of values."""
        assert self.column is not None
        return self.take(self.column.values)

    @cached_property
    def some(self) -> Ints:
        """The keys that have an event here."""
        return np.flatnonzero(np.diff(self.starts))

    @cached_property
    def lifetimes(self) -> Ranges:
        """The events of each of these keys."""
        return Ranges(self.starts[self.some], self.starts[self.some + 1])

    @cached_property
    def _groups(self) -> tuple[Ints, Ints, Ints]:
        """The events of one boundary of a key: the key, the boundary, and where they begin."""
        key, boundary = self.key, self.boundary
        begins = np.ones(len(key), bool)
        begins[1:] = (key[1:] != key[:-1]) | (boundary[1:] != boundary[:-1])
        starts = np.flatnonzero(begins)
        return key[starts], boundary[starts], starts

    def records(self, layout: ListLayout, tolerance: int) -> Records:
        """The records of a list, by the rules of `lists.prune`."""
        about = layout.shape, layout.bounded
        if about not in self._records:
            self._records[about] = self._made(layout, tolerance)
        return self._records[about]

    def _made(self, layout: ListLayout, tolerance: int) -> Records:
        if not layout.bounded:
            none = np.zeros(0, np.int64)
            return Records(none, none, Ranges(none, none), np.zeros(self.events.keys + 1, np.int64))
        key, boundary, starts = self._groups
        ends = np.append(starts[1:], len(self.key))
        begins = ends_of_windows(layout, self.events.newest_known, tolerance)
        able = boundary >= np.minimum.reduce([start for _, start in begins])[key]
        if not able.all():
            key, boundary, starts, ends = key[able], boundary[able], starts[able], ends[able]
        first = np.ones(len(key), bool)
        first[1:] = key[1:] != key[:-1]
        selectable = np.zeros(len(key), bool)
        for hop, start in begins:
            if (hop,) == self.events.hops:
                # every boundary is an end of such a window
                selectable |= boundary >= start[key]
                continue
            edge = boundary // hop
            able = edge >= (start // hop)[key]
            able[1:] &= first[1:] | (edge[1:] != edge[:-1])
            selectable |= able
        if layout.shape == TILES:
            # where no end of a window can be between two, they are one, at the later boundary
            begin = np.flatnonzero(first | selectable)
            last = np.append(begin[1:], len(key))[: len(begin)] - 1
            return Records.of(key[begin], boundary[last], starts[begin], ends[last], self.events.keys)
        key, boundary, starts = key[selectable], boundary[selectable], starts[selectable]
        ends = self.starts[key + 1]
        follows = np.flatnonzero(key[1:] == key[:-1])
        ends[follows] = starts[follows + 1]
        return Records.of(key, boundary, starts, ends, self.events.keys)


def _by_value(given: Statements, column: Column, index: Ints | None) -> Ints:
    """Events in their order, the lesser value first where they are equal in all else."""
    index = np.arange(len(given.key)) if index is None else index
    fields = (given.position, given.from_log, given.created, given.event, given.key)
    ordered: Ints = index[np.lexsort((column.values[index], *(each[index] for each in fields)))]
    return ordered


class Records(NamedTuple):
    """The records of lists of many keys, one key after another, by boundary.

    Attributes:
        key: of each.
        boundary: of each, microseconds.
        events: those of each alone: of a suffix list without those of the records behind it.
        firsts: the first record of each key, and behind the last.
    """

    key: Ints
    boundary: Ints
    events: Ranges
    firsts: Ints

    @staticmethod
    def of(key: Ints, boundary: Ints, starts: Ints, ends: Ints, keys: int) -> Records:
        """With the first of each key."""
        return Records(key, boundary, Ranges(starts, ends), np.searchsorted(key, np.arange(keys + 1)))

    def kept(self, which: Mask) -> Records:
        """Some of them."""
        events = Ranges(self.events.starts[which], self.events.ends[which])
        key = self.key[which]
        return Records(key, self.boundary[which], events, np.searchsorted(key, np.arange(len(self.firsts))))

    @property
    def counts(self) -> Ints:
        """How many each key has."""
        return np.diff(self.firsts)


def ends_of_windows(layout: ListLayout, newest_known: Ints, tolerance: int) -> list[tuple[int, Ints]]:
    """The hop of each window of a list, and for each key the earliest beginning that `lists.prune` leaves it."""
    least: dict[int, Ints] = {}
    for window in layout.bounded:
        assert window.width is not None
        back = newest_known - (window.hop + tolerance + window.offset + window.width)
        start = back - back % window.hop
        least[window.hop] = np.minimum(start, least[window.hop]) if window.hop in least else start
    return list(least.items())
