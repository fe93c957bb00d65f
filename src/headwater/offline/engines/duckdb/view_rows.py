"""All rows of a view as a table that a query reads: its source's and its log's, without those that a delete hides."""

from __future__ import annotations

import pyarrow as pa

from headwater.clock import MIN_MICROS
from headwater.definitions.view_tables import EVENT_TIME, KNOWN_AT, ViewTable
from headwater.errors import SourceError
from headwater.offline.base import ViewInput
from headwater.offline.engines.duckdb.opened import Session
from headwater.offline.engines.duckdb.words import name_sql
from headwater.types import DType, leaf_dtype


def rows_of_view(session: Session, table: ViewTable, where: str) -> str:
    """The query for all rows of a view.

    Args:
        session: the names of one run.
        table: the view, with the data of the version that is read.
        where: for errors.

    Raises:
        SourceError: a source or log that cannot be read.
    """
    given, names = table.rows, [feature.name for feature in table.features]
    if not isinstance(given, ViewInput):
        raise SourceError(f"{where}: view {table.view.name!r} has its rows in a store; apply the views, then read")
    rows = session.view_relations(given, session.name("view"), names)
    inner = rows.narrow(features=names).sql("duckdb")
    keys = [(f"k{i}", key, dtype) for i, (key, dtype) in enumerate(table.view.join_keys.items())]
    values = [(f"f{i}", feature.name, feature.dtype) for i, feature in enumerate(table.features)]
    columns = [f"{_key(f'r.{column}', dtype)} AS {name_sql(name)}" for column, name, dtype in keys]
    columns += [f"{_instants(f'r.{column}', dtype)} AS {name_sql(name)}" for column, name, dtype in values]
    event = "make_timestamptz(r.event)" if rows.timed else "CAST(NULL AS TIMESTAMPTZ)"
    known = "greatest(r.event, r.created)" if rows.timed else f"nullif(r.created, {MIN_MICROS})"
    columns += [f"{event} AS {EVENT_TIME}", f"make_timestamptz({known}) AS {KNOWN_AT}"]
    query = f"SELECT {', '.join(columns)} FROM ({inner}) AS r"
    if rows.hidden is None:
        return query
    same = " AND ".join(f'r."{name}" = h."{name}"' for name in rows.row_names)
    return f'{query} WHERE NOT EXISTS (SELECT 1 FROM "{rows.hidden}" AS h WHERE {same})'


def _key(column: str, dtype: DType) -> str:
    """A join key in its dtype; the query's form of integers and timestamps has 64 bits."""
    if dtype.name == "timestamp":
        return f"make_timestamptz({column})"
    return f"CAST({column} AS INTEGER)" if dtype.name == "int32" else column


def _instants(column: str, dtype: DType, depth: int = 0) -> str:
    """A value with the instants in it in UTC, where the point-in-time query has naive ones."""
    if dtype.element is not None and leaf_dtype(dtype).name == "timestamp":
        item = f"e{depth}"
        return f"list_transform({column}, LAMBDA {item} : {_instants(item, dtype.element, depth + 1)})"
    return f"make_timestamptz(epoch_us({column}))" if dtype.name == "timestamp" else column


def no_rows(session: Session, table: ViewTable) -> str:
    """A query with the columns of a view and none of its rows."""
    name = session.name("view")
    session.show(name, pa.schema([(n, dtype.arrow) for n, dtype in table.columns.items()]).empty_table())
    return f"SELECT * FROM {name}"
