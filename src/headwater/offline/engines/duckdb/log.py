"""The offline log's parts and tombstones as DuckDB relations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.offline.base import POSITION, LogPart, LogSlice, ViewInput
from headwater.offline.engines.duckdb.files import stored_files
from headwater.offline.engines.duckdb.opened import Session, ViewSession
from headwater.offline.engines.duckdb.sources import readable
from headwater.offline.engines.duckdb.unreadable import beyond_rows, without_unreadable
from headwater.offline.engines.duckdb.words import WORDS, name_sql
from headwater.offline.engines.duckdb.zones import source_zone, within_day_sql
from headwater.offline.files.footers import greatest, read_footers
from headwater.offline.fitting import misfit
from headwater.offline.join.deletes import delete_rows
from headwater.offline.join.relations import ViewRelations
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion
from headwater.types import Date


@dataclass(frozen=True)
class ShownPart:
    """A part of the log as queries see it.

    Attributes:
        name: the table or view.
        schema: its columns.
        size: the end of its positions.
        footers: of its files, where it has any.
        unreadable: how many rows are left out since nothing could read them back.
    """

    name: str
    schema: pa.Schema
    size: int
    footers: tuple[pq.FileMetaData, ...] = ()
    unreadable: int = 0


def show_part(session: Session, part: LogPart, where: str) -> ShownPart:
    """Let queries see a part of the log.

    Raises:
        SourceError: a file that is missing or damaged.
    """
    name = session.name("log")
    if part.table is not None:
        last = int(np.max(part.table.column(POSITION).to_numpy(), initial=0))
        table, unreadable = without_unreadable(readable(part.table))
        session.show(name, table)
        return ShownPart(name, table.schema, last + 1, unreadable=unreadable)
    footers = read_footers(part.files, where)
    types = list(zip(part.schema.names, part.schema.types, strict=True)) if part.schema is not None else []
    far = beyond_rows(footers, types)
    files = stored_files(part.files)
    session.run(f"CREATE VIEW {name} AS SELECT * FROM {files}" + (f" WHERE ({far}) IS NOT TRUE" if far else ""))
    unreadable = int(session.fetch(f"SELECT count(*) FROM {files} WHERE {far}")[0][0]) if far else 0
    newest = greatest(footers, POSITION)
    if newest is None:
        newest = int(session.fetch(f"SELECT coalesce(max({POSITION}), 0) FROM {name}")[0][0])
    return ShownPart(name, session.schema_of(f"SELECT * FROM {name}"), newest + 1, footers, unreadable)


def fitting(view: ResolvedView, log: LogSlice) -> list[LogPart]:
    """The parts of the log that have all columns of the version."""
    needed = RowVersion(view).needs.keys()
    return [part for part in log.parts if needed <= part.columns]


def unfit_rows(view: ResolvedView, schema: pa.Schema) -> str | None:
    """The condition of rows of the log whose values do not fit the version: they were written for another.

    None: all of the schema fit.
    """
    types = {field.name: field.type for field in schema}
    bad = [misfit(WORDS, f.source_column, types[f.source_column], f.dtype) for f in view.view.feature_list]
    conditions = [None if condition is None else condition.sql(WORDS.dialect) for condition in bad]
    zone = source_zone(view.view.source)
    conditions += [within_day_sql(f"epoch_us({name_sql(name)})", zone) for name in days_in_log(view, schema)]
    found = list(dict.fromkeys(condition for condition in conditions if condition is not None))
    return f"({' OR '.join(found)})" if found else None


def days_in_log(view: ResolvedView, schema: pa.Schema) -> list[str]:
    """The columns of rows of the log that are a date of the version and a time too: the log keeps them as instants."""
    times = view.view.source.times
    types = {field.name: field.type for field in schema}
    return [
        f.source_column
        for f in view.view.feature_list
        if f.dtype == Date and f.source_column in times and pa.types.is_timestamp(types[f.source_column])
    ]


def count_skipped(session: Session, view: ViewInput, after: int, until: int) -> int:
    """How many log rows with after < position ≤ until lack a column that the version needs, or do not fit it."""
    if view.log is None:
        return 0
    taken = fitting(view.view, view.log)
    skipped = 0
    for part in view.log.parts:
        within = f"{POSITION} > {after} AND {POSITION} <= {until}"
        if any(part is other for other in taken):
            schema = part.schema if part.table is None else part.table.schema
            unfit = None if schema is None else unfit_rows(view.view, schema)
            if unfit is None:
                continue
            within += f" AND {unfit}"
        name = show_part(session, part, f"view {view.view.name!r}, offline log").name
        skipped += int(session.fetch(f"SELECT count(*) FROM {name} WHERE {within}")[0][0])
    return skipped


def deletes_of(session: ViewSession, view: ResolvedView, log: LogSlice, rows: ViewRelations) -> str | None:
    """A table of keys (k0…), `through` (D) and `position` (P), of deletes and purges; None where there are none."""
    found = delete_rows(view, log, rows, session.arrow)
    if found is None:
        return None
    name = session.name("deletes")
    session.show(name, found)
    return name
