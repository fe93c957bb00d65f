"""Batches of rows in other sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from headwater.errors import SourceError


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


class RowStream:
    """A view's batches, taken in pieces of the sizes asked for.

    Args:
        batches: of whatever sizes.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def take(self, rows: int) -> pa.RecordBatch:
        """The next rows.

        Args:
            rows: how many.

        Raises:
            SourceError: there are fewer.
        """
        while self._rows < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise SourceError(
                    f"a view's answer ends {rows - self._rows:,} rows early: its files changed while they were read; "
                    "run it again"
                )
            self._held.append(batch)
            self._rows += batch.num_rows
        if len(self._held) == 1 and self._rows == rows:
            batch, self._held, self._rows = self._held[0], [], 0
            return batch
        table = pa.Table.from_batches(self._held)
        rest = table.slice(rows)
        self._held, self._rows = (rest.to_batches() if rest.num_rows else []), rest.num_rows
        return one_batch(table.slice(0, rows), rows)
