"""A view's source and its slice of the log as the relations that the point-in-time query joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.clock import duration_micros
from headwater.definitions.feature import Feature
from headwater.definitions.sources import CSVSource, PushSource, Source, TableSource
from headwater.errors import SourceError
from headwater.offline.base import ARRIVAL, CREATED, POSITION, THROUGH, LogPart, LogSlice, ViewInput
from headwater.offline.engines.duckdb_columns import event_range, is_time, key, micros, name_sql, text_sql, tree, value
from headwater.offline.engines.duckdb_sources import (
    Opened,
    Session,
    Wanted,
    check_columns,
    open_source,
    show_table,
    source_schema,
    table_schema,
    time_range,
)
from headwater.offline.pit import hidden_rows
from headwater.offline.relations import Relation, Tree, ViewRows, column
from headwater.planning.resolve import ResolvedView
from headwater.planning.tables import match_key
from headwater.types import DType

_REACH = "reach"
_FAR = 2**62
"""Longer than any time apart (microseconds); a ttl or delay beyond is held at it."""


class ViewSession(Session, Protocol):
    """A session that can also run the query's trees."""

    def table(self, name: str) -> str:
        """The full name of a table."""
        ...

    def create(self, name: str, query: exp.Query) -> None:
        """Make a table of a query's rows."""
        ...

    def arrow(self, query: exp.Query) -> pa.Table:
        """An answer as a table."""
        ...

    def rows(self, query: exp.Query) -> list[tuple[object, ...]]:
        """A short answer."""
        ...


def where_of(view: ResolvedView) -> str:
    """A view version as errors name it."""
    return f"view {view.name!r} ({view.version})"


def check_view(session: Session, view: ViewInput, folder: Path) -> None:
    """Refuse a source that lacks a column of the view, or holds one in a type that does not fit.

    Raises:
        SourceError: naming view, column and both types.
    """
    source, where = view.source, where_of(view.view)
    if source is None or isinstance(source, PushSource):
        return
    if isinstance(source, TableSource):
        schema = table_schema(source, {k.source_column: k.dtype for k in view.view.keys}, where)
    else:
        schema = source_schema(session, source, folder, where)
    wanted = _wanted(view.view, source, view.view.view.feature_list)
    check_columns(schema, wanted.columns, f"{where}: its source")
    if not isinstance(source, CSVSource):
        _relation(view.view, source, Opened("x", schema, 0, lenient=True), view.view.view.feature_list, where)


def _wanted(view: ResolvedView, source: Source, features: Sequence[Feature]) -> Wanted:
    values: dict[str, tuple[DType, ...]] = {}
    for feature in features:
        values[feature.source_column] = (*values.get(feature.source_column, ()), feature.dtype)
    times = tuple(t for t in (source.event_time, source.created_time) if t is not None)
    return Wanted({k.source_column: k.dtype for k in view.keys}, times, values)


def open_view(session: ViewSession, view: ViewInput, label: str, features: Sequence[str], folder: Path) -> ViewRows:
    """The rows of a view version.

    Args:
        session: one run's tables.
        view: the view with its data.
        label: part of the names of its tables.
        features: the features to be among the columns.
        folder: the project's folder.
    """
    resolved, source, where = view.view, view.source, where_of(view.view)
    chosen = [resolved.view.feature(name) for name in features]
    declared = resolved.view.source
    relation = None
    if source is not None and not isinstance(source, PushSource):
        opened = open_source(session, source, folder, _wanted(resolved, source, chosen), where)
        relation = _relation(resolved, source, opened, chosen, where)
        relation = _named(session, relation, source.event_time if opened.prunes else None)
    parts = (
        []
        if view.log is None
        else [_named(session, _part(session, resolved, p, chosen, where), None) for p in fitting(resolved, view.log)]
    )
    if relation is None and not parts:
        empty = show_table(session, _empty(resolved, chosen), lenient=False)
        relation = _relation(resolved, declared, empty, chosen, where)
    rows = ViewRows(
        source=relation,
        log=tuple(parts),
        key_count=len(resolved.keys),
        timed=declared.event_time is not None,
        delay=max(-_FAR, min(_FAR, duration_micros(declared.delay_time))),
    )
    deletes = None if view.log is None else _deletes(session, resolved, view.log, rows)
    if deletes is None:
        return rows
    name = f"hidden_{label}"
    session.create(name, hidden_rows(rows, deletes))
    return rows.hiding(session.table(name), deletes)


def fitting(view: ResolvedView, log: LogSlice) -> list[LogPart]:
    """The parts of the log that have all columns of the version."""
    source = view.view.source
    needed = {k.source_column for k in view.keys} | {f.source_column for f in view.view.feature_list}
    if source.event_time is not None:
        needed.add(source.event_time)
    return [part for part in log.parts if needed <= part.columns]


def count_skipped(session: Session, view: ViewInput, after: int, until: int) -> int:
    """How many log rows with after < position ≤ until lack a column that the version needs."""
    if view.log is None:
        return 0
    taken = fitting(view.view, view.log)
    skipped = 0
    for part in view.log.parts:
        if any(part is other for other in taken):
            continue
        name, _ = _log_table(session, part)
        within = f"{POSITION} > {after} AND {POSITION} <= {until}"
        skipped += int(session.fetch(f"SELECT count(*) FROM {name} WHERE {within}")[0][0])
    return skipped


def _log_table(session: Session, part: LogPart) -> tuple[str, pa.Schema]:
    """The name of a part of the log, and its columns."""
    name = session.name("log")
    if part.table is not None:
        session.show(name, part.table)
        return name, part.table.schema
    files = "[" + ", ".join(text_sql(str(file)) for file in part.files) + "]"
    session.run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files}, union_by_name = true)")
    return name, session.schema_of(f"SELECT * FROM {name}")


def _empty(view: ResolvedView, features: Sequence[Feature]) -> pa.Table:
    """No rows, with the columns that the view declares."""
    source = view.view.source
    columns = {f.source_column: f.dtype.arrow for f in features}
    columns |= {k.source_column: k.dtype.arrow for k in view.keys}
    columns |= {t: pa.timestamp("us", tz="UTC") for t in (source.event_time, source.created_time) if t is not None}
    return pa.schema(list(columns.items())).empty_table()


def _relation(view: ResolvedView, source: Source, opened: Opened, features: Sequence[Feature], where: str) -> Relation:
    types = {field.name: field.type for field in opened.schema}
    event = None if source.event_time is None else micros(source.event_time, types[source.event_time], where)
    return Relation(
        table=exp.to_table(opened.name),
        ordinal=column(opened.row),
        size=opened.size,
        keys=tuple(key(k.source_column, types[k.source_column], k.dtype, where) for k in view.keys),
        event=event,
        created=None if source.created_time is None else micros(source.created_time, types[source.created_time], where),
        features=_values(features, types, where, opened.lenient),
        event_range=event_range(_REACH, types[source.event_time])
        if opened.prunes and source.event_time is not None
        else None,
        bounds=_bounds(source, opened),
    )


def _bounds(source: Source, opened: Opened) -> tuple[int, int, int, int] | None:
    """The ranges of both times, from the footers of files."""
    if not opened.files or source.event_time is None:
        return None
    event = time_range(opened.files, source.event_time)
    if event is None:
        return None
    if source.created_time is not None:
        created = time_range(opened.files, source.created_time)
        return None if created is None else (*event, *created)
    delay = max(-_FAR, min(_FAR, duration_micros(source.delay_time)))
    return (*event, event[0] + delay, event[1] + delay)


def _named(session: Session, relation: Relation, reach: str | None) -> Relation:
    """The same rows behind a view, so that the query names columns where the source needs expressions.

    Args:
        session: one run's tables.
        relation: the rows.
        reach: the source's own event column, kept for filters.
    """
    columns = {f"k{i}": k for i, k in enumerate(relation.keys)} | {"ordinal": relation.ordinal}
    columns |= {n: e for n, e in (("event", relation.event), ("created", relation.created)) if e is not None}
    columns |= {f"f_{name}": e for name, e in relation.features.items()}
    if reach is not None:
        columns[_REACH] = column(reach)
    chosen = ", ".join(f"{e.sql('duckdb')} AS {name_sql(n)}" for n, e in columns.items())
    name = session.name("view")
    session.run(f"CREATE VIEW {name} AS SELECT {chosen} FROM {relation.table.sql('duckdb')}")
    return replace(
        relation,
        table=exp.to_table(name),
        ordinal=column("ordinal"),
        keys=tuple(column(f"k{i}") for i in range(len(relation.keys))),
        event=None if relation.event is None else column("event"),
        created=None if relation.created is None else column("created"),
        features={name: column(f"f_{name}") for name in relation.features},
    )


def _values(features: Sequence[Feature], types: dict[str, pa.DataType], where: str, lenient: bool) -> dict[str, Tree]:
    return {
        f.name: value(f.source_column, types[f.source_column], f.dtype, f"{where}, feature {f.name!r}", lenient=lenient)
        for f in features
    }


def _part(session: Session, view: ResolvedView, part: LogPart, features: Sequence[Feature], where: str) -> Relation:
    """Rows of the log, read as this version reads them."""
    where = f"{where}, offline log"
    name, schema = _log_table(session, part)
    types = {field.name: field.type for field in schema}
    source = view.view.source
    carried = [c for c in (source.created_time, CREATED) if c is not None and c in types]
    created = [
        micros(c, types[c], where).sql("duckdb") for c in dict.fromkeys(carried) if not pa.types.is_null(types[c])
    ]
    arrival = f"epoch_us({name_sql(ARRIVAL)})" if is_time(types[ARRIVAL]) else name_sql(ARRIVAL)
    return Relation(
        table=exp.to_table(name),
        ordinal=column(POSITION),
        size=_last_position(part) + 1,
        keys=tuple(key(k.source_column, types[k.source_column], k.dtype, where) for k in view.keys),
        event=None if source.event_time is None else _log_event(source.event_time, types, where),
        created=tree(f"coalesce({', '.join([*created, arrival])})"),
        features=_values(features, types, where, True),
    )


def _log_event(name: str, types: dict[str, pa.DataType], where: str) -> Tree:
    if pa.types.is_null(types[name]):
        return tree("CAST(NULL AS BIGINT)")
    return micros(name, types[name], where)


def _last_position(part: LogPart) -> int:
    """The greatest position in a part; from the footers of files."""
    if part.table is not None:
        return (
            max(part.table.column(POSITION).to_pylist(), default=0)
            if part.table.num_rows < 2
            else int(np.max(part.table.column(POSITION).to_numpy()))
        )
    last = 0
    for file in part.files:
        try:
            found = pq.ParquetFile(file)
            place = found.schema_arrow.get_field_index(POSITION)
            for group in range(found.metadata.num_row_groups):
                statistics = found.metadata.row_group(group).column(place).statistics
                if statistics is None or not statistics.has_min_max:
                    numbers = found.read_row_group(group, columns=[POSITION]).column(0).to_numpy()
                    last = max(last, int(np.max(numbers, initial=0)))
                else:
                    last = max(last, int(statistics.max))
        except (pa.ArrowException, OSError) as bad:
            raise SourceError(f"offline log: {file}: {bad}") from bad
    return last


def _deletes(session: ViewSession, view: ResolvedView, log: LogSlice, rows: ViewRows) -> str | None:
    """A table of keys (k0…) and `through`, of deletes and purges alike; None where there are none."""
    found = []
    if log.deletes is not None and log.deletes.num_rows:
        keys = [_plain_key(log.deletes.column(k.name), k.dtype, k.name) for k in view.keys]
        found.append(_marks(keys, log.deletes.column(THROUGH).cast(pa.int64()), rows))
    if log.purges and log.digests is not None:
        purged = _purged(session, view, log, rows)
        if purged is not None:
            found.append(purged)
    if not found:
        return None
    name = session.name("deletes")
    session.show(name, pa.concat_tables(found))
    return name


def _plain_key(values: pa.ChunkedArray, dtype: DType, name: str) -> pa.ChunkedArray:
    """Key values in the form of the query: timestamps as int64."""
    matched = match_key(values, dtype, f"offline log: deleted key {name!r}", SourceError)
    return matched.cast(pa.int64()) if dtype.name == "timestamp" else matched


def _marks(keys: list[pa.ChunkedArray], through: pa.ChunkedArray, rows: ViewRows) -> pa.Table:
    columns = (
        dict(zip(rows.key_names, keys, strict=False)) if keys else {"k0": pa.array(np.zeros(len(through), np.int64))}
    )
    return pa.table({**columns, "through": through})


def _purged(session: ViewSession, view: ResolvedView, log: LogSlice, rows: ViewRows) -> pa.Table | None:
    """The purged keys among those that still have rows, told by their digests."""
    assert log.digests is not None
    names = [column(k) for k in rows.key_names]
    there = session.arrow(exp.select(*names).distinct().from_(rows.narrow().subquery("r")))
    shown = {k.name: _shown_key(there.column(i), k.dtype) for i, k in enumerate(view.keys)}
    table = pa.table(shown) if shown else there.select([])
    marks = [(i, through) for i, digest in enumerate(log.digests(table)) for through in log.purges.get(digest, ())]
    if not marks:
        return None
    return there.take([i for i, _ in marks]).append_column("through", pa.array([t for _, t in marks], pa.int64()))


def _shown_key(values: pa.ChunkedArray, dtype: DType) -> pa.ChunkedArray:
    return values.cast(pa.timestamp("us", tz="UTC")) if dtype.name == "timestamp" else values
