"""Statements of events as arrays, those of many keys at once: which of them count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headwater.planning.windows.columns import Column

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

    def take(self, index: Ints) -> Statements:
        """Those at some indexes."""
        return Statements(
            self.key[index],
            self.event[index],
            self.created[index],
            self.from_log[index],
            self.position[index],
            {name: column.take(index) for name, column in self.columns.items()},
            {text: true[index] for text, true in self.holds.items()},
            None if self.ids is None else (self.ids[0][index], self.ids[1][index]),
        )


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
    with_id = with_id[_shared(digests[index[with_id]], group[with_id])]
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


def _shared(digests: NDArray[np.uint64], group: Ints) -> Ints:
    """Those whose digest another of their group may have; few, where ids repeat seldom."""
    order = np.argsort(digests)
    same = np.zeros(len(order) + 1, bool)
    same[1:-1] = digests[order[1:]] == digests[order[:-1]]
    shared: Ints = order[same[1:] | same[:-1]]
    return shared
