"""Force: online rows replaced and removed whatever their times, so that keys equal history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.compute.rooms import Rooms
from headwater.errors import StoreError
from headwater.online.codec import Header, emptied, header, replaced
from headwater.online.view_rows import ViewRows

FROM_LOG = 1
TRIES = 1_000
CHUNK = 10_000


class Seen:
    """The keys that a run found in history, at eight bytes each."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []
        self._sorted: NDArray[np.int64] | None = None

    def add(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Take note of stored keys."""
        self._parts.append(np.fromiter((hash(key) for key, _ in rows), np.int64, len(rows)))
        self._sorted = None

    def missing(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which of these stored keys were not seen."""
        if self._sorted is None:
            self._sorted = np.sort(np.concatenate(self._parts)) if self._parts else np.array([], np.int64)
        wanted = np.fromiter((hash(key) for key in keys), np.int64, len(keys))
        places = np.searchsorted(self._sorted, wanted)
        found = places < len(self._sorted)
        found[found] = self._sorted[places[found]] == wanted[found]
        return ~found


def replace_newer(rooms: Rooms, rows: Iterable[tuple[bytes, bytes]], position: int) -> int:
    """Put rows in the place of newer ones, but for those that the log took after a position, and what a D hides.

    Returns:
        How many were put.
    """
    done = 0
    for key, row in rows:
        for _ in range(TRIES):
            before = rooms.online.multi_get([key])[0]
            stored, new = header(before), header(row)
            if stored is not None and (
                _later(stored, position) or (new is not None and new.known_at <= stored.through)
            ):
                break
            if rooms.online.compare_and_put(key, 0 if stored is None else stored.sequence, replaced(before, row)):
                done += 1
                break
        else:
            raise StoreError(f"key {key.hex()}: written {TRIES} times while it was replaced; try again")
    return done


def _later(stored: Header, position: int) -> bool:
    return stored.origin == FROM_LOG and stored.position > position


def remove_unknown(rooms: Rooms, rows: ViewRows, seen: Seen, keys: pa.Table | None, position: int) -> int:
    """Take away rows that history does not have: all of the version's, or those of some keys.

    Args:
        rooms: the store's parts.
        rows: the version.
        seen: what history has.
        keys: the keys that the run was about; None: all.
        position: rows that the log took after it stay.

    Returns:
        How many were taken away.
    """
    removed = 0
    for some in _candidates(rooms, rows, keys):
        for i in np.flatnonzero(seen.missing([key for key, _ in some])):
            removed += remove(rooms, *some[i], position)
    return removed


def _candidates(rooms: Rooms, rows: ViewRows, keys: pa.Table | None) -> Iterable[list[tuple[bytes, bytes]]]:
    if keys is not None:
        stored = [key for key in rows.stored_keys(keys) if key is not None]
        found = rooms.online.multi_get(stored)
        yield [(key, row) for key, row in zip(stored, found, strict=True) if row is not None]
        return
    some: list[tuple[bytes, bytes]] = []
    for pair in rooms.online.scan(rows.prefix):
        some.append(pair)
        if len(some) == CHUNK:
            yield some
            some = []
    yield some


def remove(rooms: Rooms, key: bytes, row: bytes | None, position: int) -> bool:
    """Take a row away; one whose header holds a D is emptied instead. Whether there was a value."""
    for _ in range(TRIES):
        stored = header(row)
        if row is None or stored is None or stored.emptied or _later(stored, position):
            return False
        new = emptied(row, stored.through) if stored.through > _NEVER else None
        if rooms.online.compare_and_put(key, stored.sequence, new):
            return True
        row = rooms.online.multi_get([key])[0]
    raise StoreError(f"key {key.hex()}: written {TRIES} times while it was removed; try again")


_NEVER = -(2**63)
