"""Rows of the offline log that histories and runs go on without: what nothing can read, and what somebody gave up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from headwater.clock import MAX_MICROS
from headwater.errors import HeadwaterError
from headwater.offline.base import LeftOut
from headwater.offline.log.folder import arrivals_of, span_of
from headwater.offline.log.tables import left_out
from headwater.offline.log.write_buffer import Shapes, decode_batch, decode_rows, encode_batch
from headwater.planning.value_checks import unreadable_rows

_MOST = 300
"""Characters of a reason."""


@dataclass(frozen=True)
class Unreadable:
    """Rows of the write buffer that nothing can read.

    Attributes:
        kind: `rows`: of values that nothing can read; `batch`: that cannot be decoded.
        first, last: positions.
        rows: how many.
        arrived_from, arrived_to: microseconds.
        reason: what is wrong with them.
        shape: their columns.
        content: the rows as Arrow IPC with the log's own two columns, or the bytes of the batch.
    """

    kind: str
    first: int
    last: int
    rows: int
    arrived_from: int
    arrived_to: int
    reason: str
    shape: int
    content: bytes

    @classmethod
    def batch(cls, row: Any, reason: str) -> Unreadable:
        """A whole batch of the write buffer."""
        return cls(
            "batch",
            row.first,
            row.last,
            row.rows,
            row.arrival,
            row.arrival,
            reason[:_MOST],
            row.shape,
            bytes(row.batch),
        )

    @classmethod
    def some(cls, table: pa.Table, shape: int, reason: str) -> Unreadable:
        """Stamped rows of some shape."""
        return cls(
            "rows", *span_of(table), table.num_rows, *arrivals_of(table), reason[:_MOST], shape, encode_batch(table)
        )

    def left_out(self, view: str) -> LeftOut:
        """What a slice of the log says of them."""
        span = (self.first, self.last, self.rows, self.arrived_from, self.arrived_to)
        return LeftOut(view, self.kind, "", *span, self.reason)


def read_batches(
    connection: sa.Connection, known: Shapes, rows: Sequence[Any]
) -> tuple[dict[int, pa.Table], list[Unreadable]]:
    """Rows of the write buffer's table as stamped tables by shape, in order; and what of them nothing can read."""
    tables, bad = _decoded(connection, known, rows)
    good: dict[int, pa.Table] = {}
    for shape, table in tables.items():
        wrong = unreadable_values(table)
        if wrong is not None:
            mask, reason = wrong
            bad.append(Unreadable.some(table.filter(pa.array(mask)).combine_chunks(), shape, reason))
            table = table.filter(pa.array(~mask))
        if table.num_rows:
            good[shape] = table
    return good, bad


def _decoded(
    connection: sa.Connection, known: Shapes, rows: Sequence[Any]
) -> tuple[dict[int, pa.Table], list[Unreadable]]:
    try:
        found = decode_rows(connection, known, rows)
        return {shape: pa.concat_tables(tables) for shape, tables in found.items()}, []
    except (HeadwaterError, sa.exc.SQLAlchemyError):
        raise
    except Exception as error:  # whatever Arrow makes of damaged bytes
        if len(rows) == 1:
            return {}, [Unreadable.batch(rows[0], f"it cannot be decoded: {_first_line(error)}")]
    # one by one, to find those at fault
    tables: dict[int, list[pa.Table]] = {}
    bad: list[Unreadable] = []
    for row in rows:
        some, wrong = _decoded(connection, known, [row])
        bad += wrong
        for shape, table in some.items():
            tables.setdefault(shape, []).append(table)
    return {shape: pa.concat_tables(some) for shape, some in tables.items()}, bad


def unreadable_values(table: pa.Table) -> tuple[NDArray[np.bool_], str] | None:
    """Which rows hold values that nothing can read, and why; None: none does."""
    mask = np.zeros(table.num_rows, bool)
    reason = ""
    for field, column in zip(table.schema, table.columns, strict=True):
        wrong = unreadable_rows(column)
        if wrong is not None:
            mask[wrong[0]] = True
            reason = reason or f"column {field.name!r} is {wrong[1]}"
    return (mask, reason) if reason else None


def readable_key(message: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    """The key of a tombstone, one row; None where nothing can read it: such a tombstone is applied by its digest.

    Args:
        message: the key as it is stored.
        schema: of its shape.
    """
    try:
        batch = decode_batch(message, schema)
        # a text that is not UTF-8 can be decoded, and read by nothing
        whole = batch.num_rows == 1 and unreadable_values(pa.Table.from_batches([batch])) is None
    except Exception:  # whatever Arrow makes of damaged bytes
        return None
    return batch if whole else None


def stored_key(connection: sa.Connection, known: Shapes, shape: int, message: bytes) -> pa.RecordBatch | None:
    """`readable_key` of a tombstone of some shape; None too where its columns are damaged."""
    try:
        schema = known.schema(connection, shape)
    except ValueError:
        return None
    return readable_key(message, schema)


def leave_out(connection: sa.Connection, view: str, some: Iterable[Unreadable], now: int) -> None:
    """Note rows that the log goes on without, within a write transaction that takes them out of it."""
    rows = [
        {
            "view": view,
            "kind": bad.kind,
            "name": "",
            "first": bad.first,
            "last": bad.last,
            "rows": bad.rows,
            "arrived_from": bad.arrived_from,
            "arrived_to": bad.arrived_to,
            "reason": bad.reason,
            "noted_at": now,
            "shape": bad.shape,
            "content": bad.content,
        }
        for bad in some
    ]
    if rows:
        connection.execute(left_out.insert(), rows)


def all_left_out(connection: sa.Connection, view: str | None = None, until: int | None = None) -> list[LeftOut]:
    """What the log goes on without, in order of view and position.

    Args:
        connection: a transaction that sees one state.
        view: of this view alone; None: of all.
        until: only what begins at most at this position.
    """
    query = sa.select(left_out).where(left_out.c.first <= (MAX_MICROS if until is None else until))
    if view is not None:
        query = query.where(left_out.c.view == view)
    return [
        LeftOut(
            row.view,
            row.kind,
            row.name,
            row.first,
            row.last,
            row.rows,
            row.arrived_from,
            row.arrived_to,
            row.reason,
            row.noted_at,
        )
        for row in connection.execute(query.order_by(left_out.c.view, left_out.c.first))
    ]


def drop_contents(connection: sa.Connection, view: str) -> None:
    """Drop what is kept of a view's rows that nothing can read: a purge cannot tell whether the key is in them."""
    mine = (left_out.c.view == view) & left_out.c.content.is_not(None)
    connection.execute(left_out.update().where(mine).values(content=None))


def _first_line(bad: BaseException) -> str:
    return str(bad).partition("\n")[0] or type(bad).__name__
