"""Windows where the rows are: a function of all rows of some keys, spine, events and tombstones in one stream.

It is values alone, so that it can be sent to another process, which needs headwater and no engine. Rows come in any
order; they are dealt into parts by key, past a budget in files, and each part is computed by the kernel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from headwater.offline.windows.dealt import Dealt, groups_of_parts
from headwater.offline.windows.events import Deletes
from headwater.offline.windows.held import HeldForm, StatusOf
from headwater.offline.windows.kernel import NO_EVENT
from headwater.offline.windows.key_numbers import numbered, parts_of_keys
from headwater.offline.windows.memory import give_back
from headwater.offline.windows.tables import TableKernel
from headwater.planning.windows.event_ids import event_digests
from headwater.types import STATUSES, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

SPINE, EVENT, DELETE = range(3)
"""What a row is, in the column `side`."""
BUDGET = 128 << 20
"""Bytes of rows that are held in memory."""
PART = 4 << 20
"""Bytes of the rows that are computed together at most, unless one key alone has more."""
_ROWS = 65_536
_NOT_FOUND, _PRESENT = (STATUSES.index(status) for status in (Status.NOT_FOUND, Status.PRESENT))


@dataclass(frozen=True)
class WholeKeys:
    """Computes a window version for the rows of some keys.

    Attributes:
        kernel: of the version.
        keys: the join keys in the query's form, k0….
        event_id: the type of the events' ids, where they have any.
        budget: bytes of rows that are held in memory.
    """

    kernel: TableKernel
    keys: pa.Schema
    event_id: pa.DataType | None = None
    budget: int = BUDGET

    @property
    def schema(self) -> pa.Schema:
        """The columns of rows.

        side: SPINE, EVENT or DELETE. at: t of a row of the spine, the event time of an event, D of a tombstone.
        position: rn of a row of the spine, P of a tombstone. created, origin and position of events, event_id and f0…
        are there as the kernel needs them.
        """
        kernel = self.kernel
        found = [pa.field("side", pa.int8()), *self.keys, pa.field("at", pa.int64()), pa.field("position", pa.int64())]
        found += [pa.field("created", pa.int64())] if kernel.lag is None else []
        found += [pa.field("origin", pa.int8())] if kernel.log else []
        found += [pa.field("event_id", self.event_id)] if kernel.ids and self.event_id is not None else []
        found += [pa.field(f"f{i}", kernel.dtypes[name].arrow) for i, name in enumerate(kernel.columns)]
        return pa.schema(found)

    @cached_property
    def form(self) -> HeldForm:
        """How the kernel's answers are held."""
        return HeldForm(self.kernel.layout, self.kernel.features)

    @property
    def answer(self) -> pa.Schema:
        """The columns of the answer, of each row of the spine: rn, event (NULL: none), same, s, s…, f0….

        same: whether the event is of the row's own instant. s: the status of features that have none of their own.
        """
        fixed = [("rn", pa.int64()), ("event", pa.int64()), ("same", pa.bool_()), ("s", pa.int8())]
        statuses = [(f"s{i}", pa.int8()) for i in self.form.kept.values()]
        values = [(f"f{i}", feature.dtype.arrow) for i, feature in enumerate(self.kernel.features)]
        return pa.schema([*fixed, *statuses, *values])

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The answers of all rows of the spine among these rows, which are all that there are of their keys."""
        with tempfile.TemporaryDirectory(prefix="headwater-windows-") as folder:
            dealt = Dealt(self.schema, Path(folder), self.budget)
            try:
                for batch in _larger(batches):
                    yield from self._deal(batch, dealt)
                dealt.finish()
                for numbers in groups_of_parts(dealt.bytes, PART):
                    yield from self._answered(dealt.take(numbers))
            finally:
                dealt.close()
        give_back()

    def _deal(self, batch: pa.RecordBatch, dealt: Dealt) -> Iterator[pa.RecordBatch]:
        """Deal rows; rows of the spine without a key are answered at once."""
        names = self.keys.names
        lacking = [np.asarray(batch.column(name).is_null()) for name in names if batch.column(name).null_count]
        if lacking:
            without = np.logical_or.reduce(lacking)
            asked = batch.filter(pa.array(without & (np.asarray(batch.column("side")) == SPINE)))
            if asked.num_rows:
                yield self._absent(asked.column("position"))
            batch = batch.filter(pa.array(~without))
        if batch.num_rows:
            dealt.add(batch, parts_of_keys(batch, names))

    def _answered(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """The answers of whole keys."""
        side = rows.column("side").to_numpy()
        spine = np.flatnonzero(side == SPINE)
        if not len(spine):
            return
        number, _ = numbered(rows, self.keys.names)
        key = number[spine]
        there = np.zeros(int(number.max()) + 1, bool)
        there[key] = True
        events = np.flatnonzero((side == EVENT) & there[number])
        at, position = rows.column("at").to_numpy(), rows.column("position").to_numpy()
        deletes = np.flatnonzero((side == DELETE) & there[number])
        answer = self.kernel.answer(
            key,
            at[spine],
            number[events],
            self._events(rows.take(pa.array(events))),
            Deletes(number[deletes], at[deletes], position[deletes]) if len(deletes) else None,
        )
        held = self.form.batch(position[spine], answer)
        yield from self._finished(held, at[spine][answer.rows])

    def _events(self, rows: pa.Table) -> pa.Table:
        """Events as the kernel takes them."""
        given = dict(zip(rows.column_names, rows.columns, strict=True)) | {"event": rows.column("at")}
        if self.kernel.ids:
            ids = given.get("event_id", pa.nulls(rows.num_rows))
            digests, present = event_digests(ids, rows.column("at").to_numpy())
            given["id"], given["has_id"] = pa.chunked_array([pa.array(digests)]), pa.chunked_array([pa.array(present)])
        return pa.table({field.name: given[field.name] for field in self.kernel.fields()})

    def _finished(self, held: pa.RecordBatch, at: Ints) -> Iterator[pa.RecordBatch]:
        """Answers in the types of their dtypes."""
        form = self.form
        newest = np.asarray(held.column("event"))
        found = {
            "rn": held.column("place"),
            "event": pa.array(newest, mask=newest == NO_EVENT),
            "same": pa.array((newest == at) & (newest != NO_EVENT)),
            "s": pa.array(np.full(held.num_rows, _PRESENT, np.int8)),
        }
        masks = {i: np.asarray(held.column(f"s{i}")) for i in form.kept.values()}
        found |= {f"s{i}": held.column(f"s{i}") for i in masks}
        everywhere = StatusOf(np.asarray(found["s"]))
        statuses = {i: StatusOf(status) for i, status in masks.items()}
        for i, feature in enumerate(form.features):
            values, kept = held.column(f"f{i}"), form.kept.get(form.presences[i])
            status = everywhere if kept is None else statuses[kept]
            found[f"f{i}"] = values if feature.dtype.numpy is None else status.over(np.asarray(values), feature.dtype)
        batch = pa.RecordBatch.from_arrays([found[name] for name in self.answer.names], schema=self.answer)
        for start in range(0, batch.num_rows, _ROWS):
            yield batch.slice(start, _ROWS)

    def _absent(self, numbers: pa.Array) -> pa.RecordBatch:
        """The answer of rows without a key."""
        size = len(numbers)
        columns = {"rn": numbers, "same": pa.array(np.zeros(size, bool))}
        for field in self.answer:
            if field.name.startswith("s") and field.name != "same":
                columns[field.name] = pa.array(np.full(size, _NOT_FOUND, np.int8))
            else:
                columns.setdefault(field.name, pa.nulls(size, field.type))
        return pa.RecordBatch.from_arrays([columns[name] for name in self.answer.names], schema=self.answer)


def _larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that are worth dealing."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= _ROWS:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held, count = [], 0
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()
