"""The write buffer's table: batches as they are stored, read back into one table a shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.offline.base import ARRIVAL, POSITION
from headwater.offline.log.tables import head, shapes

ROWS_A_BATCH = 65_536


def _columns_text(schema: pa.Schema) -> str:
    """Names and types in order: what tells shapes apart (Arrow's own bytes of a schema differ from time to time)."""
    return json.dumps([[f.name, str(f.type)] for f in schema], ensure_ascii=False)


def encode_batch(table: pa.Table) -> bytes:
    """Rows as one Arrow IPC message, without its schema."""
    batches = table.combine_chunks().to_batches()
    if not batches:
        return bytes(pa.RecordBatch.from_pylist([], schema=table.schema).serialize())
    return bytes(batches[0].serialize())


def decode_batch(message: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """What `encode_batch` wrote. Texts may be other than UTF-8.

    Raises:
        pa.ArrowException, OSError: the bytes are not such a message.
    """
    buffer = pa.py_buffer(message)
    batch = pa.ipc.read_record_batch(buffer, schema)
    try:
        # of damaged bytes Arrow makes arrays that end the process when they are read
        batch.validate(full=True)
    except pa.ArrowInvalid:
        pa.ipc.read_record_batch(buffer, pa.schema([(f.name, _as_bytes(f.type)) for f in schema])).validate(full=True)
    return batch


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """A type of the same layout, whose texts are bytes."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_as_bytes(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_as_bytes(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, _as_bytes(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def stamped(table: pa.Table, positions: NDArray[np.int64], arrival: int | NDArray[np.int64]) -> pa.Table:
    """The rows with the log's own two columns."""
    arrivals = np.full(len(positions), arrival, np.int64) if isinstance(arrival, int) else arrival
    return table.append_column(POSITION, pa.array(positions, pa.int64())).append_column(
        ARRIVAL, pa.array(arrivals, pa.int64())
    )


class Shapes:
    """The sets of columns that rows of each view came with, by the number under which the log keeps them."""

    def __init__(self) -> None:
        self._schemas: dict[int, pa.Schema] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, connection: sa.Connection, view: str, schema: pa.Schema) -> int:
        """The number of a shape, given within a write transaction where it is new."""
        columns = _columns_text(schema)
        known = self._numbers.get((view, columns))
        if known is not None:
            return known
        same = sa.select(shapes.c.id).where(shapes.c.view == view, shapes.c.columns == columns)
        found = connection.execute(same).scalar_one_or_none()
        if found is not None:
            # remembered only once it was read back: the transaction that adds it may still be undone
            self._numbers[view, columns] = found
            return int(found)
        stored = bytes(pa.schema([pa.field(f.name, f.type) for f in schema]).serialize())
        added = connection.execute(
            shapes.insert().values(view=view, columns=columns, schema=stored)
        ).inserted_primary_key
        assert added is not None
        return int(added[0])

    def schema(self, connection: sa.Connection, number: int) -> pa.Schema:
        """The columns of a shape.

        Raises:
            ValueError: it is damaged.
        """
        if number not in self._schemas:
            found = connection.execute(sa.select(shapes.c.schema).where(shapes.c.id == number)).scalar_one_or_none()
            if found is None:
                raise ValueError(f"the columns of shape {number} are gone")
            try:
                self._schemas[number] = pa.ipc.read_schema(pa.py_buffer(found))
            except (OSError, pa.ArrowException) as bad:
                raise ValueError(f"the columns of shape {number} are damaged") from bad
        return self._schemas[number]

    def schema_or_none(self, connection: sa.Connection, number: int) -> pa.Schema | None:
        """The columns of a shape; None where they are damaged."""
        try:
            return self.schema(connection, number)
        except ValueError:
            return None


def buffered_rows(connection: sa.Connection, view: str, *conditions: sa.ColumnElement[bool]) -> Sequence[Any]:
    """The rows of the write buffer's table of a view, in order."""
    columns = (head.c.first, head.c.last, head.c.shape, head.c.rows, head.c.arrival, head.c.offsets, head.c.batch)
    query = sa.select(*columns).where(head.c.view == view, *conditions).order_by(head.c.first)
    return connection.execute(query).all()


def decode_rows(connection: sa.Connection, known: Shapes, rows: Sequence[Any]) -> dict[int, list[pa.Table]]:
    """Rows of the head's table (first, last, shape, rows, arrival, offsets, batch) as stamped tables by shape."""
    grouped: dict[int, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row[2], []).append(row)
    return {shape: [_decode_shape(known.schema(connection, shape), group)] for shape, group in grouped.items()}


def _decode_shape(schema: pa.Schema, rows: Sequence[Any]) -> pa.Table:
    batches = [decode_batch(row[6], schema) for row in rows]
    for row, batch in zip(rows, batches, strict=True):
        if not batch.num_rows == row[3] == (row[3] if row[5] is None else len(row[5]) // 4):
            raise ValueError(f"{row[3]} rows were stored, {batch.num_rows} are in the batch")
    positions = [
        row[0] + (np.arange(row[3]) if row[5] is None else np.frombuffer(row[5], "<i4").astype(np.int64))
        for row in rows
    ]
    arrivals = np.repeat([row[4] for row in rows], [row[3] for row in rows]).astype(np.int64)
    return stamped(pa.Table.from_batches(batches, schema), np.concatenate(positions).astype(np.int64), arrivals)


def between(table: pa.Table, after: int, until: int | None) -> pa.Table:
    """The rows with `after` < position ≤ `until`; positions are ascending, so that this is a slice."""
    positions = table.column(POSITION).to_numpy()
    start = int(np.searchsorted(positions, after, "right"))
    stop = len(positions) if until is None else int(np.searchsorted(positions, until, "right"))
    return table.slice(start, max(stop - start, 0))


def offsets_of(positions: NDArray[np.int64]) -> bytes | None:
    """Positions counted from the first, as stored; None where they follow one another."""
    if len(positions) == 0 or int(positions[-1] - positions[0]) == len(positions) - 1:
        return None
    return bytes((positions - positions[0]).astype("<i4").tobytes())


def insert_rows(
    connection: sa.Connection, view: str, shape: int, table: pa.Table, positions: NDArray[np.int64], arrival: int
) -> None:
    """Store rows of one shape in the head, in batches of bounded size."""
    values: list[Mapping[str, object]] = []
    for start in range(0, len(positions), ROWS_A_BATCH):
        some = positions[start : start + ROWS_A_BATCH]
        values.append(
            {
                "first": int(some[0]),
                "last": int(some[-1]),
                "view": view,
                "shape": shape,
                "rows": len(some),
                "arrival": arrival,
                "offsets": offsets_of(some),
                "batch": encode_batch(table.slice(start, ROWS_A_BATCH)),
            }
        )
    if values:
        connection.execute(head.insert(), values)


def rewrite_head(connection: sa.Connection, known: Shapes, view: str, keep: Callable[[pa.Table], pa.Table]) -> int:
    """Replace each batch of a view by the rows that `keep` leaves; how many rows went."""
    columns = (head.c.first, head.c.last, head.c.shape, head.c.rows, head.c.arrival, head.c.offsets, head.c.batch)
    removed = 0
    for row in connection.execute(sa.select(*columns).where(head.c.view == view)).all():
        before = decode_rows(connection, known, [row])[row.shape][0]
        after = keep(before)
        if after.num_rows == before.num_rows:
            continue
        connection.execute(head.delete().where(head.c.first == row.first))
        positions = after.column(POSITION).to_numpy()
        insert_rows(connection, view, row.shape, after.drop_columns([POSITION, ARRIVAL]), positions, row.arrival)
        removed += before.num_rows - after.num_rows
    return removed


def as_columns(schema: pa.Schema) -> frozenset[str]:
    """The user's columns of a shape."""
    return frozenset(schema.names) - {POSITION, ARRIVAL}
