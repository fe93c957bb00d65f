"""The columns of a write in the types that the offline log keeps."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from headwater.clock import FIRST_MICROS, LAST_MICROS, duration_micros
from headwater.compute.writing.given_rows import GivenRows, Known, any_kind, fit_column
from headwater.definitions.names import CREATED
from headwater.definitions.sources import PushSource
from headwater.planning.row_reading import RowVersion, holds
from headwater.types import DType


def log_columns(
    raw: GivenRows,
    takers: Sequence[RowVersion],
    versions: Sequence[RowVersion],
    fitted: Known,
) -> pa.Table:
    """A group's columns in the types the log keeps: of the dtypes declared for a column the one all takers can read."""
    columns: dict[str, pa.Array] = {}
    for name in raw.columns:
        wanted = dict.fromkeys(d for v in takers for d in v.needs.get(name, ()))
        if any(name in version.times for version in takers):
            wanted = {None: None, **wanted}
        if wanted:
            dtype = _widest(list(wanted))
            values = fit_column(raw, name, dtype, fitted).values
            # NULL fits what no one dtype can hold: all takers can read it then
            split = values.null_count == len(values) and not all(holds(values.type, other) for other in wanted)
            columns[name] = pa.nulls(len(values)) if split else values
        else:
            values = _as_given(raw, name, versions, fitted)
            if values is not None:
                columns[name] = values
    return pa.table(columns)


def known_at_event(table: pa.Table, takers: Sequence[RowVersion]) -> pa.Table:
    """Rows without a created time as known at their event time and the delay of the source (of a push source: none)."""
    timed = next((version for version in takers if version.reading.event is not None), None)
    if timed is None:
        return table
    source, event = timed.view.view.source, table.column(str(timed.reading.event)).cast(pa.int64())
    delay = 0 if isinstance(source, PushSource) else duration_micros(source.delay_time)
    delay = min(delay, LAST_MICROS - FIRST_MICROS)
    known = pc.add(pc.min_element_wise(event, pa.scalar(LAST_MICROS - delay, pa.int64())), pa.scalar(delay, pa.int64()))
    names = dict.fromkeys([CREATED, *(v.reading.created for v in takers if v.reading.created is not None)])
    there = [table.column(name) for name in names if name in table.column_names]
    carried = [column.cast(pa.int64()) for column in there if pa.types.is_timestamp(column.type)]
    nothing = pa.chunked_array([pa.nulls(table.num_rows, pa.int64())])
    own = table.column(CREATED).cast(pa.int64()) if CREATED in table.column_names else nothing
    created = pc.if_else(pc.is_null(pc.coalesce(*carried, nothing)), known, own).cast(pa.timestamp("us", tz="UTC"))
    if CREATED in table.column_names:
        return table.set_column(table.column_names.index(CREATED), CREATED, created)
    return table.append_column(CREATED, created)


def _widest(dtypes: list[DType | None]) -> DType | None:
    """The dtype whose values all others can hold: a time before all, an integer before a float, the wider float."""
    if None in dtypes or len(dtypes) == 1:
        return dtypes[0] if len(dtypes) == 1 else None
    for dtype in sorted(dtypes, key=lambda d: str(d) != "float64"):
        if dtype is not None and all(holds(dtype.arrow, other) for other in dtypes):
            return dtype
    return dtypes[0]


def _as_given(raw: GivenRows, name: str, versions: Sequence[RowVersion], fitted: Known) -> pa.Array | None:
    """A column that no taker reads: in the dtype another version declares where it fits, else in a plain type.

    None where there is no plain type that can be kept: it is left out.
    """
    for version in versions:
        for dtype in version.needs.get(name, ()):
            found = fit_column(raw, name, dtype, fitted)
            if found.bad is None:
                return found.values
    found = any_kind(raw.columns[name])
    return found.values if found.bad is None else None
