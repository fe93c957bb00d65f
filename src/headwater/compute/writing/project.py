"""Rows of the offline log as one view version reads them: keys, times, place in the log, features in their dtypes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS
from headwater.definitions.names import VALID_TO
from headwater.offline.base import ARRIVAL, POSITION
from headwater.planning.local_time import days_of, source_times
from headwater.planning.row_reading import RowVersion, known_at
from headwater.planning.windows.events import event_columns
from headwater.types import DType

EVENT_TIME, CREATED_TIME, ORIGIN, PLACE = "__event", "__created", "__origin", "__position"
EVENT_ID = "__event_id"
FROM_LOG = 1


def project(version: RowVersion, table: pa.Table) -> pa.RecordBatch:
    """Rows as `OnlineRows.encode` takes them.

    Args:
        version: the version; it must take the rows.
        table: the rows in the log's types, with `__position` and `__arrival`.

    Returns:
        Join keys by name, `__event`, `__created`, `__origin`, `__position`, and every feature by name; of a window
        version `__arrival`, `__event_id` and every column that its aggregations read, called as `OfflineEngine.events`
        calls them.
    """
    names: list[str] = []
    columns: list[pa.Array] = []
    for key in version.view.keys:
        names.append(key.name)
        columns.append(one_chunk(table.column(key.source_column)))
    event = version.reading.event
    event_micros = (
        pa.array(np.full(table.num_rows, MIN_MICROS, np.int64)) if event is None else _micros(table.column(event))
    )
    columns += [
        event_micros,
        pa.array(version.reading.created_at(table, table.column(ARRIVAL).to_numpy())),
        pa.array(np.full(table.num_rows, FROM_LOG, np.int8)),
        one_chunk(table.column(POSITION)),
    ]
    names += [EVENT_TIME, CREATED_TIME, ORIGIN, PLACE]
    view = version.view.view
    wanted = [(feature.name, feature.source_column, feature.dtype) for feature in view.feature_list]
    if version.view.windows is not None:
        called = event_columns(view.source_columns, names)
        wanted = [(called[name], name, dtype) for name, dtype in view.source_columns.items()]
        names += [ARRIVAL, EVENT_ID]
        columns += [one_chunk(table.column(ARRIVAL)), _event_ids(table, view.source.event_id)]
    if version.reading.ends is not None:
        names.append(VALID_TO)
        columns.append(version.reading.ends_at(table))
    for name, source_column, dtype in wanted:
        names.append(name)
        column = one_chunk(table.column(source_column))
        if version.holds_day(source_column, dtype, column.type):
            columns.append(days_of(column, source_times(view.source.timezone)))
        else:
            columns.append(widened(column, dtype))
    return pa.RecordBatch.from_arrays(columns, names)


def _event_ids(table: pa.Table, name: str | None) -> pa.Array:
    return pa.nulls(table.num_rows) if name not in table.schema.names else one_chunk(table.column(name))


def known(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """When each row became known, microseconds."""
    return known_at(batch.column(EVENT_TIME).to_numpy(), batch.column(CREATED_TIME).to_numpy())


def _micros(column: pa.ChunkedArray) -> pa.Array:
    return one_chunk(column).cast(pa.int64())


def widened(column: pa.Array, dtype: DType) -> pa.Array:
    """A column of the log in a feature's dtype; a float of twice the width is rounded."""
    return column if column.type == dtype.arrow else column.cast(dtype.arrow, safe=dtype.name != "float32")


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
