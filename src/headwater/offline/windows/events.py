"""The events of a part, whole keys of them: what deletes and event ids leave, each in the group of rows that see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows.keyed import Keyed, ranges_of
from headwater.planning.windows.statements import Statements

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]


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
