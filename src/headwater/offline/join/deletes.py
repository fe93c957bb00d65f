"""The tombstones of a view's keys as rows that the query can join: deletes in clear, purges by their digests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from sqlglot import exp

from headwater.errors import SourceError
from headwater.offline.base import POSITION, THROUGH, LogSlice
from headwater.offline.join.relations import ViewRelations
from headwater.offline.trees import column
from headwater.planning.resolved import ResolvedView
from headwater.planning.tables import match_key
from headwater.types import DType


def delete_rows(
    view: ResolvedView, log: LogSlice, rows: ViewRelations, keys_of: Callable[[exp.Query], pa.Table]
) -> pa.Table | None:
    """Keys (k0…), `through` (D) and `position` (P) of every tombstone; None where there are none.

    Args:
        view: the view version.
        log: its slice of the log.
        rows: its rows, among whose keys those of purges are found.
        keys_of: answers a query for keys k0… in the query's form.
    """
    found = []
    if log.deletes is not None and log.deletes.num_rows:
        keys = [_plain_key(log.deletes.column(k.name), k.dtype, k.name) for k in view.keys]
        found.append(_tombstones(keys, log.deletes, rows))
    if log.purges and log.digests is not None:
        purged = _purged(view, log, rows, keys_of)
        if purged is not None:
            found.append(purged)
    return pa.concat_tables(found) if found else None


def _plain_key(values: pa.ChunkedArray, dtype: DType, name: str) -> pa.ChunkedArray:
    """Key values in the form of the query: timestamps as int64."""
    matched = match_key(values, dtype, f"offline log: deleted key {name!r}", SourceError)
    return matched.cast(pa.int64()) if dtype.name == "timestamp" else matched


def _tombstones(keys: list[pa.ChunkedArray], deletes: pa.Table, rows: ViewRelations) -> pa.Table:
    through, position = (deletes.column(name).cast(pa.int64()) for name in (THROUGH, POSITION))
    columns = (
        dict(zip(rows.key_names, keys, strict=False)) if keys else {"k0": pa.array(np.zeros(len(through), np.int64))}
    )
    return pa.table({**columns, "through": through, "position": position})


def _purged(
    view: ResolvedView, log: LogSlice, rows: ViewRelations, keys_of: Callable[[exp.Query], pa.Table]
) -> pa.Table | None:
    """The tombstones of the purged keys among those that still have rows, found by their digests."""
    assert log.digests is not None
    names = [column(k) for k in rows.key_names]
    there = keys_of(exp.select(*names).distinct().from_(rows.narrow().subquery("r")))
    shown = {k.name: _shown_key(there.column(i), k.dtype) for i, k in enumerate(view.keys)}
    table = pa.table(shown) if shown else there.select([])
    found = [
        (i, *tombstone)
        for i, digests in enumerate(log.digests(table, view.key_names))
        for digest in digests
        for tombstone in log.purges.get(digest, ())
    ]
    if not found:
        return None
    chosen, before, through = (pa.array(values, pa.int64()) for values in zip(*found, strict=True))
    return there.take(chosen).append_column("through", through).append_column("position", before)


def _shown_key(values: pa.ChunkedArray, dtype: DType) -> pa.ChunkedArray:
    return values.cast(pa.timestamp("us", tz="UTC")) if dtype.name == "timestamp" else values
