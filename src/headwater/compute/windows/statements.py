"""Rows of a window version's log and source as statements of events, by key, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from headwater.compute.windows.requests import Batch
from headwater.deferred import deferred
from headwater.forks import lazy
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.keys import LONGEST, digested
from headwater.planning.resolved import ResolvedView
from headwater.planning.windows.events import WindowEvent, event_columns
from headwater.planning.windows.layout import WindowLayout
from headwater.planning.windows.values import stored_values

if TYPE_CHECKING:
    from headwater.planning.windows import conditions, event_ids
else:
    conditions = deferred("headwater.planning.windows.conditions")
    event_ids = deferred("headwater.planning.windows.event_ids")

EVENT, CREATED, ORIGIN, POSITION, ARRIVAL, EVENT_ID = (
    "__event",
    "__created",
    "__origin",
    "__position",
    "__arrival",
    "__event_id",
)
"""Columns of a batch of events, beside join keys and the version's columns, as `OfflineEngine.events` gives them."""

ByKey = dict[bytes, list[Batch]]


class Statements:
    """What rows say of events, as window rows take it.

    Args:
        project: the project's name.
        view: the version, whole.

    Attributes:
        long: stored key → the whole key, of those that are stored under a digest.
    """

    def __init__(self, project: str, view: ResolvedView) -> None:
        assert view.windows is not None
        self.view = view
        self.layout: WindowLayout = view.windows
        self.rows = RowEncoder(project, view)
        self.long: dict[bytes, bytes] = {}
        self._called = event_columns(view.view.columns, self.rows.names)

    @lazy
    def conditions(self) -> Any:
        """What evaluates the version's `where` conditions."""
        return conditions.conditions(self.layout.conditions, self.view.view.columns)

    def stored_keys(self, table: pa.RecordBatch | pa.Table) -> list[bytes | None]:
        """What the rows of keys are stored under; None where one is NULL."""
        keys = self.rows.whole_keys(table)
        if self.rows.keys.may_be_long:
            self.long |= {digested(key): key for key in keys if key is not None and len(key) > LONGEST}
            return [None if key is None else digested(key) for key in keys]
        return keys

    def log(self, batches: Iterable[pa.RecordBatch]) -> ByKey:
        """The batches of rows of the log, by key, each at the key's last position in it, ascending."""
        apart: dict[bytes, dict[int, list[WindowEvent]]] = {}
        for key, arrival, event in self._each(batches):
            apart.setdefault(key, {}).setdefault(arrival, []).append(event)
        found: ByKey = {}
        for key, by_arrival in apart.items():
            mine = [_batch(arrival, events) for arrival, events in by_arrival.items()]
            found[key] = sorted(mine, key=lambda batch: batch.position)
        return found

    def _each(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[bytes, int, WindowEvent]]:
        """(key, arrival, statement) of each row without a NULL key; the arrival of source rows is 0."""
        for batch in batches:
            if not batch.num_rows:
                continue
            keys = self.stored_keys(batch)
            events, created = (batch.column(name).to_pylist() for name in (EVENT, CREATED))
            from_log = [bool(origin) for origin in batch.column(ORIGIN).to_pylist()]
            positions = batch.column(POSITION).to_pylist()
            arrivals = batch.column(ARRIVAL).to_pylist()
            for i, (values, holds, name) in enumerate(zip(*self._contents(batch), strict=True)):
                key = keys[i]
                if key is not None:
                    yield (
                        key,
                        arrivals[i] or 0,
                        WindowEvent(events[i], created[i], from_log[i], positions[i], values, holds, name),
                    )

    def _contents(self, batch: pa.RecordBatch) -> tuple[list[dict[str, Any]], list[frozenset[str]], list[int | None]]:
        """Stored values, conditions that hold, and the digest of the event id, of each row."""
        columns, rows = self.view.view.columns, self._by_own_name(batch)
        stored = [stored_values(dtype, rows.column(name)) for name, dtype in columns.items()]
        values = [dict(zip(columns, row, strict=True)) for row in zip(*stored, strict=True)] if stored else []
        return values or [{} for _ in range(rows.num_rows)], self._holding(rows), self._ids(batch)

    def _by_own_name(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The version's columns by the names that conditions and lists have for them."""
        if all(name == called for name, called in self._called.items()):
            return batch
        return pa.RecordBatch.from_pydict({name: batch.column(called) for name, called in self._called.items()})

    def _holding(self, batch: pa.RecordBatch) -> list[frozenset[str]]:
        texts = self.layout.conditions
        if not texts:
            return [frozenset()] * batch.num_rows
        sets: dict[tuple[bool, ...], frozenset[str]] = {}
        holds = [each.tolist() for each in self.conditions.holds(batch)]
        found = []
        for each in zip(*holds, strict=True):
            if each not in sets:
                sets[each] = frozenset(text for text, true in zip(texts, each, strict=True) if true)
            found.append(sets[each])
        return found

    def _ids(self, batch: pa.RecordBatch) -> list[int | None]:
        if EVENT_ID not in batch.schema.names or batch.column(EVENT_ID).null_count == batch.num_rows:
            return [None] * batch.num_rows
        times = np.asarray(batch.column(EVENT).to_numpy(zero_copy_only=False), np.int64)
        digests, present = event_ids.event_digests(batch.column(EVENT_ID), times)
        pairs = zip(digests.tolist(), present.tolist(), strict=True)
        return [digest if there else None for digest, there in pairs]


def _batch(arrival: int, events: list[WindowEvent]) -> Batch:
    ordered = sorted(events, key=lambda event: event.position)
    return Batch(ordered[-1].position, arrival, ordered)
