"""The events of a part, whole keys of them: what deletes and event ids leave, each in the group of rows that see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.columns import Column
from headwater.offline.windows.keyed import Keyed, ranges_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Statements:
    """Rows that say that an event happened, in any order; times in microseconds.

    Attributes:
        key: the number of the key of each.
        event, created: its times.
        from_log: whether it is the log's.
        position: its log position; 0 of the source.
        columns: the columns that aggregations read.
        holds: condition → for which statements it is true.
        ids: the digests of event ids and event times, and which have one; None: none has.
    """

    key: Ints
    event: Ints
    created: Ints
    from_log: Mask
    position: Ints
    columns: Mapping[str, Column] = field(default_factory=dict)
    holds: Mapping[str, Mask] = field(default_factory=dict)
    ids: tuple[NDArray[np.uint64], Mask] | None = None

    @cached_property
    def known_at(self) -> Ints:
        """max(event time, created time)."""
        return np.maximum(self.event, self.created)


@dataclass(frozen=True)
class Deletes:
    """Tombstones: from D on, rows known by D and rows of the log at positions before P are hidden.

    Attributes:
        key: the number of the key of each.
        through: D, microseconds.
        position: P.
    """

    key: Ints
    through: Ints
    position: Ints


class Groups:
    """The groups of rows that see the same events: those of a key between two of its deletes.

    Args:
        keys: how many keys there are.
        deletes: their tombstones; None: none.

    Attributes:
        count: how many groups there are.
        divided: whether any key has more than one.
    """

    def __init__(self, keys: int, deletes: Deletes | None = None) -> None:
        self.divided = deletes is not None and len(deletes.key) > 0
        self.count = keys
        if deletes is None or not self.divided:
            return
        order = np.lexsort((deletes.position, deletes.through, deletes.key))
        key, through, position = deletes.key[order], deletes.through[order], deletes.position[order]
        self.count += len(key)
        self._starts = np.searchsorted(key, np.arange(keys + 1))
        self._by_through = Keyed(keys, through)
        self._throughs = self._by_through.of(key, through)
        # of several deletes the greatest P counts
        self._by_position = Keyed(keys, position)
        self._positions = np.maximum.accumulate(self._by_position.of(key, position))

    def at(self, key: Ints, at: Ints) -> Ints:
        """The group of rows of a key at an instant."""
        if not self.divided:
            return key
        return key + np.searchsorted(self._throughs, self._by_through.after(key, at))

    def seen(self, statements: Statements, *, as_known: bool) -> tuple[Ints, Ints]:
        """The statements that are seen in each group: indexes of statements, and the group of each."""
        if not self.divided:
            return np.arange(len(statements.key)), statements.key
        key, known = statements.key, statements.known_at
        start = self._starts[key]
        # how many deletes there are before the first that hides it
        by_time = np.searchsorted(self._throughs, self._by_through.of(key, known)) - start
        by_position = np.searchsorted(self._positions, self._by_position.after(key, statements.position)) - start
        last = np.where(statements.from_log, np.minimum(by_time, by_position), by_time)
        counts_from = known if as_known else statements.event
        first = np.searchsorted(self._throughs, self._by_through.after(key, counts_from)) - start
        owners, places = ranges_of(np.maximum(0, last - first + 1))
        return owners, key[owners] + start[owners] + first[owners] + places


def without_repeats(statements: Statements, index: Ints, group: Ints) -> tuple[Ints, Ints]:
    """Of the statements of one event id in a group the least alone: by known_at, the source first, by position.

    Args:
        statements: all of them.
        index: which are seen.
        group: in which group.
    """
    if statements.ids is None:
        return index, group
    digests, present = statements.ids
    with_id = np.flatnonzero(present[index])
    if not len(with_id):
        return index, group
    rows = index[with_id]
    known, from_log, position = statements.known_at[rows], statements.from_log[rows], statements.position[rows]
    content = []
    for name in sorted(statements.columns, reverse=True):
        column = statements.columns[name].take(rows)
        content += [np.where(column.valid, column.values, 0), column.valid]
    order = np.lexsort((*content, position, from_log, known, digests[rows], group[with_id]))
    groups, numbers = group[with_id][order], digests[rows][order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (groups[1:] == groups[:-1]) & (numbers[1:] == numbers[:-1])
    kept = np.ones(len(index), bool)
    kept[with_id[order[repeated]]] = False
    return index[kept], group[kept]
