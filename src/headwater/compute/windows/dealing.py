"""Rows of log and source dealt into parts of whole keys, so that a run over many keys reads history once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.compute.windows.large_keys import LargeKey
from headwater.compute.windows.statements import ARRIVAL, CREATED, EVENT, EVENT_ID, ORIGIN, POSITION
from headwater.offline.windows.dealt import Dealt, groups_of_parts
from headwater.offline.windows.key_numbers import parts_of_keys
from headwater.planning.resolved import ResolvedView
from headwater.planning.windows.event_ids import event_digests
from headwater.planning.windows.events import event_columns

ID, HAS_ID = "__id", "__has_id"
PART = 24 << 20
"""Bytes of the rows of keys that are rebuilt together at most, unless one key alone has more."""
_PIECES = 4
"""So many pieces of a key of too many rows take what a part does: aggregates of one beside those of the others."""
_LEVELS = 8
"""How often parts are divided, each time by eight bits of the digests of keys."""
_WORKING = 8
"""The share of the budget that these are: to be rebuilt they take some times as much."""


_LOG = (
    pa.field(ORIGIN, pa.int8()),
    pa.field(POSITION, pa.int64()),
    pa.field(ARRIVAL, pa.int64()),
)


class EventRows:
    """Rows of events as they are kept to be rebuilt from: what batches of `OfflineEngine.events` have, ids as digests.

    Args:
        view: the version.
        keys: the names of its join keys in batches.
    """

    def __init__(self, view: ResolvedView, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        columns = view.view.columns
        called = event_columns(columns, keys)
        key_fields = [pa.field(name, key.dtype.arrow) for name, key in zip(self.keys, view.keys, strict=False)]
        times = [pa.field(EVENT, pa.int64()), pa.field(CREATED, pa.int64())]
        ids = [pa.field(ID, pa.uint64()), pa.field(HAS_ID, pa.bool_())] if view.view.source.event_id is not None else []
        values = [pa.field(called[name], dtype.arrow) for name, dtype in columns.items()]
        self._of_source = pa.schema([*key_fields, *times, *ids, *values])
        self._of_log = pa.schema([*self._of_source, *_LOG])

    def schema(self, *, log: bool) -> pa.Schema:
        """Of the rows; those of a source alone have no positions."""
        return self._of_log if log else self._of_source

    def kept(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Batches in that form, without rows with a NULL key."""
        for batch in batches:
            if not batch.num_rows:
                continue
            there = [np.asarray(batch.column(name).is_valid()) for name in self.keys if batch.column(name).null_count]
            if there:
                batch = batch.filter(pa.array(np.logical_and.reduce(there)))
            given = {name: batch.column(name) for name in batch.schema.names}
            if HAS_ID in schema.names:
                given[ID], given[HAS_ID] = _ids(batch)
            arrays = [
                given[field.name] if given[field.name].type == field.type else given[field.name].cast(field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def table(self, batches: Iterable[pa.RecordBatch]) -> pa.Table:
        """All of them."""
        schema = self.schema(log=True)
        return pa.Table.from_batches(list(self.kept(batches, schema)), schema)

    def parts(
        self, batches: Iterable[pa.RecordBatch], folder: Path, budget: int, *, log: bool
    ) -> Iterator[tuple[pa.Table | LargeKey, int, int]]:
        """The rows part by part, each with whole keys; a key of too many rows is a part that is not held in memory.

        Args:
            batches: as `OfflineEngine.events` gives them.
            folder: where files are made of what exceeds the budget.
            budget: bytes that are held in memory.
            log: whether rows of the log are among them.

        Returns:
            Of each part its rows, and how many bytes of all there are have been given, of how many.
        """
        schema = self.schema(log=log)
        dealt = Dealt(schema, folder, budget)
        try:
            for batch in self.kept(batches, schema):
                dealt.add(batch, parts_of_keys(batch, self.keys))
            dealt.finish()
            total = sum(dealt.bytes)
            for numbers in groups_of_parts(dealt.bytes, min(PART, budget // _WORKING)):
                for rows in self._taken(dealt, numbers, folder, budget):
                    yield rows, sum(dealt.bytes[: numbers.stop]), total
        finally:
            dealt.close()

    def _taken(
        self, dealt: Dealt, numbers: range, folder: Path, budget: int, level: int = 1
    ) -> Iterator[pa.Table | LargeKey]:
        """The rows of some parts; one that is too large is divided by more bits of the digests of keys."""
        most, number = min(PART, budget // _WORKING), numbers.start
        size = sum(dealt.bytes[numbers.start : numbers.stop])
        if size <= most or level == _LEVELS:
            rows = dealt.take(numbers)
            if rows.num_rows:
                yield rows
            return
        if self._is_one_key(dealt.batches(number)):
            large = LargeKey(lambda: dealt.batches(number), size, most // _PIECES, folder, budget // _PIECES)
            dealt.drop(number)
            try:
                yield large
            finally:
                large.close()
            return
        inner = Dealt(dealt.schema, folder, budget // _PIECES)
        try:
            for batch in dealt.batches(number):
                inner.add(batch, parts_of_keys(batch, self.keys, level))
            inner.finish()
            dealt.drop(number)
            for some in groups_of_parts(inner.bytes, most):
                yield from self._taken(inner, some, folder, budget, level + 1)
        finally:
            inner.close()

    def _is_one_key(self, batches: Iterable[pa.RecordBatch]) -> bool:
        first: dict[str, pa.Scalar] = {}
        for batch in batches:
            first = first or {name: batch.column(name)[0] for name in self.keys}
            if not all(pc.all(pc.equal(batch.column(name), each)).as_py() for name, each in first.items()):
                return False
        return True


def _ids(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    if EVENT_ID not in batch.schema.names or batch.column(EVENT_ID).null_count == batch.num_rows:
        return pa.array(np.zeros(batch.num_rows, np.uint64)), pa.array(np.zeros(batch.num_rows, np.bool_))
    digests, present = event_digests(batch.column(EVENT_ID), np.asarray(batch.column(EVENT)))
    return pa.array(digests), pa.array(present)
