"""A view's source and its slice of the log as the relations that the point-in-time query joins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.clock import duration_micros
from headwater.definitions.feature import Feature
from headwater.definitions.names import VALID_TO
from headwater.definitions.source import Source
from headwater.definitions.sources import TEXT_SOURCES, PushSource
from headwater.offline.base import ARRIVAL, POSITION, SourceScope, ViewInput, unreadable_rows
from headwater.offline.engines.duckdb.indexes import indexed_files, indexed_rows
from headwater.offline.engines.duckdb.log import ShownPart, days_in_log, deletes_of, fitting, show_part, unfit_rows
from headwater.offline.engines.duckdb.opened import (
    ROW,
    Branch,
    Opened,
    Session,
    ViewSession,
    Wanted,
    check_columns,
    check_names,
)
from headwater.offline.engines.duckdb.sources import EVERYTHING, open_source, show_table, source_schema
from headwater.offline.engines.duckdb.words import WORDS, name_sql, tree
from headwater.offline.engines.duckdb.zones import day_sql, source_zone
from headwater.offline.files.footers import null_count, time_range
from headwater.offline.fitting import Columns, event_range, is_time
from headwater.offline.index.folder import IndexRules, KeptIndexes, RowIndexes
from headwater.offline.join.pit import hidden_rows
from headwater.offline.join.relations import Relation, ViewRelations, key_form
from headwater.offline.trees import Tree, column, number
from headwater.planning.local_time import LocalTimes
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import created_columns
from headwater.types import Date, DType, Int64, String

_REACH = "reach"
_FAR = 2**62
"""Longer than any time apart (microseconds); a ttl or delay beyond is held at it."""


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
    schema = source_schema(session, source, folder, where)
    wanted = _wanted(view.view, source, view.view.view.row_features)
    check_columns(schema, wanted.columns, f"{where}: its source")
    if not isinstance(source, TEXT_SOURCES):
        _relation(session, view.view, source, Opened("x", schema, 0), view.view.view.row_features, where)


def _wanted(view: ResolvedView, source: Source, features: Sequence[Feature]) -> Wanted:
    values: dict[str, tuple[DType, ...]] = {}
    features = [feature for feature in features if feature.name != VALID_TO]
    for feature in features:
        values[feature.source_column] = (*values.get(feature.source_column, ()), feature.dtype)
    times = source.times
    event_id = source.event_id
    if (
        isinstance(source, TEXT_SOURCES)
        and event_id is not None
        and event_id not in (*times, *(k.source_column for k in view.keys))
    ):
        values.setdefault(event_id, ((getattr(source, "schema", None) or {}).get(event_id, String),))
    named = {feature.source_column: feature.name for feature in reversed(features)}
    return Wanted({k.source_column: k.dtype for k in view.keys}, times, values, named, source.event_id)


@dataclass(frozen=True)
class _LogRows:
    """The rows of the log that a view version takes.

    Attributes:
        parts: of them, one for each schema.
        null_times: rows without an event time.
        unreadable: rows that are left out since nothing could read their values back.
    """

    parts: tuple[Relation, ...] = ()
    null_times: int = 0
    unreadable: int = 0


def _opened_log(session: ViewSession, view: ViewInput, chosen: Sequence[Feature], where: str) -> _LogRows:
    """The rows of the log that a view version takes, as relations."""
    if view.log is None:
        return _LogRows()
    resolved, declared, inside = view.view, view.view.view.source, f"{where}, offline log"
    parts, null_times, unreadable = [], 0, unreadable_rows(view.log)
    for part in fitting(resolved, view.log):
        check_names(part.columns, _wanted(resolved, declared, chosen).columns, inside)
        shown = show_part(session, part, inside)
        unfit = unfit_rows(resolved, shown.schema)
        some = [] if unfit is None else [Branch(shown.name, True, f"{unfit} IS NOT TRUE")]
        parts.append(_named(session, _part(session, resolved, shown, chosen, inside), None, some))
        null_times += _null_times(session, shown.name, shown.footers, (declared.event_time,))
        unreadable += shown.unreadable
    return _LogRows(tuple(parts), null_times, unreadable)


def open_view(
    session: ViewSession,
    view: ViewInput,
    label: str,
    features: Sequence[str],
    folder: Path,
    scope: SourceScope | None = None,
    rules: IndexRules | None = None,
) -> ViewRelations:
    """The rows of a view version.

    Args:
        session: one run's tables.
        view: the view with its data.
        label: part of the names of its tables.
        features: the features to be among the columns.
        folder: the project's folder.
        scope: which rows of the source; None: all.
        rules: of indexes that are kept; None: none is.
    """
    resolved, source, where = view.view, view.source, where_of(view.view)
    chosen = [resolved.view.row_feature(name) for name in features]
    declared = resolved.view.source
    delay = max(-_FAR, min(_FAR, duration_micros(declared.delay_time)))
    relation, null_times = None, 0
    scope = scope or EVERYTHING
    opened: Opened | None = None
    indexes: RowIndexes | None = None
    began = len(session.statements)
    before = None if rules is None or scope != EVERYTHING else indexed_files(source, folder, where)
    if source is not None and not isinstance(source, PushSource):
        opened = open_source(session, source, folder, _wanted(resolved, source, chosen), where, scope)
    if source is not None and opened is not None:
        relation = _relation(session, resolved, source, opened, chosen, where)
        if rules is not None and before is not None and not opened.fixed:
            what = indexed_rows(session.statements[began:], relation, delay)
            indexes = KeptIndexes(
                rules, source.location, what, lambda: indexed_files(source, folder, where) or ("", 0), before
            )
        reach = source.event_time if opened.footers else None
        late = [] if scope.known_after is None else _known_after(source, opened, relation, scope.known_after)
        relation = _named(session, relation, reach, opened.branches, late)
        null_times += _null_times(session, opened.name, opened.footers, (source.event_time, source.created_time))
    log = _opened_log(session, view, chosen, where)
    if relation is None and not log.parts:
        empty = show_table(session, _empty(resolved, chosen))
        relation = _relation(session, resolved, declared, empty, chosen, where)
    rows = ViewRelations(
        source=relation,
        log=log.parts,
        key_count=len(resolved.keys),
        timed=declared.event_time is not None,
        delay=delay,
        null_times=null_times + log.null_times,
        unreadable=log.unreadable,
        lacking={} if opened is None else opened.lacking,
        file_rows={} if opened is None else opened.file_rows,
        repeated_times=0 if opened is None else opened.repeated_times,
        skipped_times=0 if opened is None else opened.skipped_times,
        types={f"k{i}": key_form(key.dtype) for i, key in enumerate(resolved.keys)} or {"k0": key_form(Int64)},
        indexes=indexes,
        row_count=0 if opened is None else opened.row_count,
    )
    deletes = None if view.log is None else deletes_of(session, resolved, view.log, rows)
    if deletes is None:
        return rows
    name = f"hidden_{label}"
    session.create(name, hidden_rows(rows, deletes))
    return rows.hiding(session.table(name), deletes)


def _empty(view: ResolvedView, features: Sequence[Feature]) -> pa.Table:
    """No rows, with the columns that the view declares."""
    source = view.view.source
    columns = {time: pa.timestamp("us", tz="UTC") for time in source.times}
    values = [feature for feature in features if feature.name != VALID_TO]
    for name in {f.source_column for f in values}:
        kinds = {f.dtype.arrow for f in values if f.source_column == name}
        # of NULLs, which fit every dtype, where one column is read as several: a date as a timestamp too, say
        columns[name] = kinds.pop() if len(kinds) == 1 else pa.null()
    columns |= {k.source_column: k.dtype.arrow for k in view.keys}
    if source.event_id is not None:
        columns.setdefault(source.event_id, pa.string())
    return pa.schema(list(columns.items())).empty_table()


def _relation(
    session: Session, view: ResolvedView, source: Source, opened: Opened, features: Sequence[Feature], where: str
) -> Relation:
    types = {field.name: field.type for field in opened.schema}
    place = session.place(name_sql(opened.row) if opened.row == ROW else opened.row, opened.rows)
    columns = Columns(WORDS, types, where, place)
    return Relation(
        table=exp.to_table(opened.name),
        ordinal=column(opened.row),
        size=opened.size,
        keys=tuple(columns.key(k.source_column, k.dtype) for k in view.keys),
        event=None if source.event_time is None else columns.time(source.event_time),
        created=None if source.created_time is None else columns.time(source.created_time),
        features=_values(features, columns, opened.dates, source_zone(source)),
        event_range=event_range(WORDS, _REACH, types[source.event_time])
        if opened.footers and source.event_time is not None
        else None,
        bounds=_bounds(source, opened),
        seekable=len(opened.footers) == 1,
        fixed=opened.fixed,
        event_id=None if source.event_id is None else column(source.event_id),
    )


def _bounds(source: Source, opened: Opened) -> tuple[int, int, int, int] | None:
    """The ranges of both times, from the footers of files."""
    if not opened.footers or source.event_time is None:
        return None
    event = time_range(opened.footers, source.event_time)
    if event is None:
        return None
    if source.created_time is not None:
        created = time_range(opened.footers, source.created_time)
        return None if created is None else (*event, *created)
    delay = max(-_FAR, min(_FAR, duration_micros(source.delay_time)))
    return (*event, event[0] + delay, event[1] + delay)


def _known_after(source: Source, opened: Opened, rows: Relation, known_after: int) -> list[Tree]:
    """Filters of which each row known after an instant passes one, no row two, and no other row any.

    Each begins with what DuckDB compares with the ranges of row groups: a column and a constant. One filter that asked
    for either time to be late would be tried row by row.
    """
    times = [t for t in (rows.event, rows.created) if t is not None]
    if not times:
        return [exp.false()]  # known since ever
    delay = 0 if source.created_time is not None else max(0, min(_FAR, duration_micros(source.delay_time)))
    known = exp.Greatest(this=times[0].copy(), expressions=[t.copy() for t in times[1:]]) if times[1:] else times[0]
    exact = known > number(known_after - delay)
    found: list[Tree] = []
    for name in (source.event_time, source.created_time):
        if name is not None and opened.footers:
            late = event_range(WORDS, name, opened.schema.field(name).type)(known_after + 1 - delay, None)
            if late is None:
                return [exact]
            found.append(late)
    if len(found) == 2:
        found[1] = exp.and_(exp.Not(this=exp.paren(found[0].copy())), found[1])
    return [exp.and_(late, exact.copy()) for late in found] or [exact]


def _null_times(session: Session, table: str, footers: Sequence[pq.FileMetaData], columns: Sequence[str | None]) -> int:
    """How many rows have a NULL time; read only where footers do not tell."""
    names = list(dict.fromkeys(name for name in columns if name is not None))
    counts = [null_count(footers, name) if footers else None for name in names]
    known = [count for count in counts if count is not None]
    # NULLs of both columns may stand in one row
    if len(known) == len(names) and sum(count > 0 for count in known) < 2:
        return sum(known)
    missing = " OR ".join(f"{name_sql(name)} IS NULL" for name in names)
    return int(session.fetch(f"SELECT count(*) FROM {table} WHERE {missing}")[0][0])


def _named(
    session: Session, relation: Relation, reach: str | None, branches: Sequence[Branch] = (), late: Sequence[Tree] = ()
) -> Relation:
    """The same rows behind a view, so that the query names columns where the source needs expressions.

    Args:
        session: one run's tables.
        relation: the rows.
        reach: the source's own event column, kept for filters.
        branches: the rows in parts; none: all in one.
        late: of parts that are not whole, just the rows that pass one of these; none: all.
    """
    columns = {f"k{i}": k for i, k in enumerate(relation.keys)} | {"ordinal": relation.ordinal}
    columns |= {n: e for n, e in (("event", relation.event), ("created", relation.created)) if e is not None}
    columns |= {f"f_{name}": e for name, e in relation.features.items()}
    more = {"event_id": relation.event_id, "arrival": relation.arrival, "stated_id": relation.stated_id}
    columns |= {name: given for name, given in more.items() if given is not None}
    if reach is not None:
        columns[_REACH] = column(reach)
    chosen = ", ".join(f"{e.sql('duckdb')} AS {name_sql(n)}" for n, e in columns.items())
    name, queries = session.name("view"), []
    for branch in branches or [Branch(relation.table.sql("duckdb"))]:
        filters = [tree.sql("duckdb") for tree in late] if late and not branch.whole else [None]
        for conditions in ([c for c in (branch.condition, only) if c is not None] for only in filters):
            where = f" WHERE {' AND '.join(f'({c})' for c in conditions)}" if conditions else ""
            queries.append(f"SELECT {chosen} FROM {branch.name}{where}")
    session.run(f"CREATE VIEW {name} AS {' UNION ALL '.join(queries)}")
    return replace(
        relation,
        table=exp.to_table(name),
        ordinal=column("ordinal"),
        keys=tuple(column(f"k{i}") for i in range(len(relation.keys))),
        event=None if relation.event is None else column("event"),
        created=None if relation.created is None else column("created"),
        features={name: column(f"f_{name}") for name in relation.features},
        event_id=None if relation.event_id is None else column("event_id"),
        arrival=None if relation.arrival is None else column("arrival"),
        stated_id=None if relation.stated_id is None else column("stated_id"),
    )


def _values(
    features: Sequence[Feature], columns: Columns, days: Collection[str], zone: LocalTimes | None
) -> dict[str, Tree]:
    """Each feature in its dtype.

    Args:
        features: the features.
        columns: those of the source, or of a part of the log.
        days: the columns whose times are midnights of dates.
        zone: of these dates; None: UTC.
    """
    return {
        f.name: tree(day_sql(f"epoch_us({name_sql(f.source_column)})", zone))
        if f.dtype == Date and f.source_column in days
        else columns.feature(f)
        for f in features
    }


def _part(session: Session, view: ResolvedView, shown: ShownPart, features: Sequence[Feature], where: str) -> Relation:
    """Rows of the log, read as this version reads them."""
    types = {field.name: field.type for field in shown.schema}
    source = view.view.source
    carried = created_columns(source.created_time, shown.schema)
    columns = Columns(WORDS, types, where, session.place(name_sql(POSITION), "position {}".format))
    created = [columns.time(name).sql("duckdb") for name in carried]
    arrival = f"epoch_us({name_sql(ARRIVAL)})" if is_time(types[ARRIVAL]) else name_sql(ARRIVAL)
    return Relation(
        table=exp.to_table(shown.name),
        ordinal=column(POSITION),
        size=shown.size,
        keys=tuple(columns.key(k.source_column, k.dtype, lenient=True) for k in view.keys),
        event=None if source.event_time is None else columns.time(source.event_time),
        created=tree(f"coalesce({', '.join([*created, arrival])})"),
        features=_values(features, columns, days_in_log(view, shown.schema), source_zone(source)),
        arrival=tree(arrival),
        stated_id=column(source.event_id) if source.event_id is not None and source.event_id in types else None,
    )
