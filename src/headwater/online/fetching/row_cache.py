"""Rows kept in this process for a short, stated time: for eventual reads alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

_DROPPED = 16
"""Of a full cache one row in so many, the longest there, makes room."""


class RowCache:
    """Key → row, as the store gave it not longer ago than the most it may lag behind; absent rows are kept too.

    Safe to use from several threads and from event loops.

    Args:
        keeps: seconds; a row read longer ago is read again.
        rows: how many are kept at most.

    Attributes:
        hits, misses: keys that were found here, and those that were not.
    """

    def __init__(self, keeps: float, rows: int) -> None:
        self.keeps = keeps
        self.rows = rows
        self.hits = 0
        self.misses = 0
        self._kept: dict[bytes, tuple[float, bytes | None]] = {}

    def find(self, keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        """What is kept of each key (None where nothing is, or no row is there), and the places of those to be read."""
        oldest = time.monotonic() - self.keeps
        found: list[bytes | None] = []
        missing: list[int] = []
        kept = self._kept
        for place, key in enumerate(keys):
            entry = kept.get(key)
            if entry is None or entry[0] < oldest:
                missing.append(place)
                found.append(None)
            else:
                found.append(entry[1])
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        return found, missing

    def keep(self, keys: Sequence[bytes], rows: Sequence[bytes | None], began: float) -> None:
        """Keep rows just read.

        Args:
            keys: their keys.
            rows: what the store gave.
            began: `time.monotonic()` before they were asked for, from which their age counts.
        """
        kept = self._kept
        if len(kept) + len(keys) > self.rows:
            self._make_room(len(keys))
        for key, row in zip(keys, rows, strict=True):
            # put at the end, so that those at the front are the longest there
            kept.pop(key, None)
            kept[key] = (began, row)
        if len(kept) > self.rows:
            self._make_room(0)

    def _make_room(self, wanted: int) -> None:
        spare = max(wanted, self.rows // _DROPPED, 1)
        for key in list(islice(list(self._kept), max(0, len(self._kept) - self.rows) + spare)):
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
