"""Batches of rows in other sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def one_batch(table: pa.Table, size: int) -> pa.RecordBatch:
    """The rows of a table as one batch."""
    columns = [_joined(column) for column in table.columns]
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * size, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, schema=table.schema.remove_metadata())


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def in_pieces(batches: Iterator[pa.RecordBatch], rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows` rows and a last one of fewer."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        if count >= rows:
            table, whole = pa.Table.from_batches(held, schema), count - count % rows
            yield from (one_batch(table.slice(start, rows), rows) for start in range(0, whole, rows))
            held, count = table.slice(whole).to_batches(), count % rows
    if count:
        yield one_batch(pa.Table.from_batches(held, schema), count)
