"""Recent writes: what a store object put online lately, so that its way to the replicas can be followed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import compress, islice
from typing import Any, Literal

import pyarrow as pa

from headwater import forks
from headwater.values import Value

SAMPLE = 16
"""How many rows of a write are kept, for each version."""
KEPT = 1_000
"""How many writes are kept."""


Sample = tuple[tuple[bytes, Mapping[str, Any]], ...]
"""Some of the rows that a write put: what each is stored under, and its join keys by name."""


def sample(
    table: pa.RecordBatch | pa.Table, names: Sequence[str], pairs: Sequence[tuple[bytes, Any]], put: Sequence[bool]
) -> Sample:
    """Some of the rows that were put in one version.

    Args:
        table: rows with the join keys by name.
        names: the join keys.
        pairs: what each row is stored under, and the row.
        put: whether it was put.
    """
    places = list(islice(compress(range(len(pairs)), put), SAMPLE))
    if not places:
        return ()
    entities = table.select(list(names)).take(pa.array(places)).to_pylist() if names else [{}] * len(places)
    return tuple((pairs[place][0], entity) for place, entity in zip(places, entities, strict=True))


class RecentWrite(Value, frozen=True):
    """One write or delete that the online store has acknowledged to this store object.

    Attributes:
        at: when (UTC).
        kind: `write` or `delete`.
        view: of the rows.
        rows: how many rows it put online; of a delete, how many keys it marked.
        sample: some of its rows, at most 16 of each version that was written.
        position: the log position of the last row; 0 for a cache-only write.
        marks: part of the store → how far it was then; None where the store has no such marks, or did not tell.
        durable: whether as many replicas as were asked for had it in time.
    """

    at: datetime
    kind: Literal["write", "delete"]
    view: str
    rows: int
    sample: Sample
    position: int
    marks: Mapping[str, int] | None = None
    durable: bool = True

    @property
    def entities(self) -> list[Mapping[str, Any]]:
        """The join keys of the sample, each entity once."""
        return list({tuple(entity.items()): entity for _, entity in self.sample}.values())


class RecentWrites(forks.OfOneProcess):
    """The last writes of a store object; safe to use from several threads.

    Args:
        kept: how many are kept at most; the oldest goes first.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept: deque[RecentWrite] = deque(maxlen=kept)
        self._lock = forks.lock()

    def add(self, write: RecentWrite) -> None:
        """Take note of one."""
        with self._lock:
            self._kept.append(write)

    def last(self, view: str | None = None, limit: int | None = None) -> list[RecentWrite]:
        """The last writes, the newest first.

        Args:
            view: of this view alone.
            limit: so many at most; None: all that are kept.
        """
        with self._lock:
            kept = list(reversed(self._kept))
        return [write for write in kept if view is None or write.view == view][:limit]
