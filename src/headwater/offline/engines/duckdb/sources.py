"""Sources as DuckDB relations: files as views, what has no row numbers of its own as tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pyarrow as pa
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from headwater.definitions.names import named_in, repeated, same_but_case
from headwater.definitions.source import Source
from headwater.definitions.sources import (
    TEXT_SOURCES,
    CSVSource,
    JSONSource,
    ParquetSource,
    PushSource,
    SparkSource,
    SQLSource,
    TableSource,
)
from headwater.definitions.transforms import TransformSource, tables_of
from headwater.definitions.view_tables import ViewTable
from headwater.errors import DataError, SourceError
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.csv_sources import csv_files, csv_query, csv_schema, open_csv
from headwater.offline.engines.duckdb.json_sources import json_files, json_query, json_schema, open_json
from headwater.offline.engines.duckdb.merged import check_merged, check_reads
from headwater.offline.engines.duckdb.mixed import check_type
from headwater.offline.engines.duckdb.opened import (
    ROW,
    Branch,
    Opened,
    Session,
    TextTable,
    Wanted,
    check_columns,
    count_rows,
    numbered,
    schema_of,
    with_twins,
)
from headwater.offline.engines.duckdb.parquet_sources import (
    open_parquet,
    parquet_files,
    parquet_query,
    parquet_schema,
    parquet_schemas,
)
from headwater.offline.engines.duckdb.remote_parquet import (
    list_remote_parquet,
    open_remote,
    read_remote,
    remote_schema,
    show_remote,
)
from headwater.offline.engines.duckdb.transformed import run_transform, transformed_schema
from headwater.offline.engines.duckdb.unreadable import check_input, check_rows, check_table
from headwater.offline.engines.duckdb.view_rows import no_rows, rows_of_view
from headwater.offline.engines.duckdb.words import name_sql
from headwater.offline.engines.duckdb.zones import in_zone, query_in_zone, source_zone
from headwater.offline.files.footers import read_footers
from headwater.offline.files.local import local_identities
from headwater.offline.files.locations import is_remote
from headwater.offline.files.queried import in_project, used_names
from headwater.offline.files.remote import RemoteRows, remote_identities
from headwater.planning.files import FileIdentity
from headwater.planning.local_time import LocalTimes, NaiveTimes
from headwater.planning.tables import as_table
from headwater.types import is_list, leaf_type

EVERYTHING = SourceScope()
_RENAMED = re.compile(r"_\d+$")


def open_source(
    session: Session, source: Source, folder: Path, wanted: Wanted, where: str, scope: SourceScope = EVERYTHING
) -> Opened | None:
    """The rows of a scope with row numbers that stay the same for the run; None where no file of the scope is there.

    Raises:
        SourceError: a source that is missing, unreadable, or lacks a column.
    """
    opened = _open(session, source, folder, wanted, where, scope)
    # naive times in text are settled where they are read
    if opened is None or isinstance(source, TEXT_SOURCES):
        return opened
    return in_zone(session, source, opened, wanted, where)


def _open(
    session: Session, source: Source, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    match source:
        case ParquetSource() if not is_remote(source.location):
            return open_parquet(session, source, folder, wanted, where, scope)
        case ParquetSource():
            return open_remote(session, source, wanted, where, scope)
        case CSVSource():
            return open_csv(session, source, folder, wanted, where, scope)
        case JSONSource():
            return open_json(session, source, folder, wanted, where, scope)
        case SQLSource():
            return _open_query(session, source, folder, wanted, where, scope)
        case TransformSource():
            opened = _open_table(session, _transformed(session, source, folder, where), wanted, where)
            whole = scope.known_after is None or bool(scope.whole) or scope.only is not None
            file_rows = _rows_of_tables(source, folder, where, scope.whole)
            return replace(opened, branches=(Branch(opened.name, whole),), file_rows=file_rows)
        case TableSource():
            return _open_table(session, source, wanted, where)
        case SparkSource():
            raise SourceError(_of_spark(where))
    raise SourceError(f"{where}: the duckdb engine cannot read a {type(source).__name__}")


def list_files(source: Source, folder: Path, where: str) -> tuple[FileIdentity, ...] | None:
    """The files of a source, each with what identifies its content; see `OfflineEngine.list_files`."""
    match source:
        case ParquetSource() if not is_remote(source.location):
            return tuple(local_identities(parquet_files(source, folder, where), where))
        case ParquetSource():
            return tuple(remote_identities(list_remote_parquet(source, where), where))
        case CSVSource():
            return tuple(local_identities(csv_files(source, folder, where), where))
        case JSONSource():
            return tuple(local_identities(json_files(source, folder, where), where))
        case SQLSource() | TransformSource() if source.tables and _reads_its_tables_alone(source):
            found: dict[str, FileIdentity] = {}
            for name, table in source.tables.items():
                files = list_files(table, folder, f"{where}, table {name!r}")
                if files is None:
                    return None
                found |= {file.path: file for file in files}
            return tuple(found.values())
        case ViewTable() if source.rows is not None:
            read = source.rows.source
            return () if read is None else list_files(read, folder, where)
    return None


def _reads_its_tables_alone(source: SQLSource | TransformSource) -> bool:
    """Whether a query reads nothing but its tables; a file that it names itself may change though none of them does."""
    if isinstance(source, TransformSource):
        return True
    try:
        tree = parse_one(source.query, dialect="duckdb")
    except SqlglotError:
        return False
    named = {name.casefold() for name in source.tables} | {cte.alias.casefold() for cte in tree.find_all(exp.CTE)}
    return all(_is_one_of(table, named) for table in tree.find_all(exp.Table))


def _is_one_of(table: exp.Table, named: set[str]) -> bool:
    if isinstance(table.this, exp.Identifier):
        return not table.db and table.name.casefold() in named
    # a function: these make rows of their arguments alone
    return table.name.casefold() in ("range", "generate_series", "unnest") or isinstance(
        table.this, (exp.GenerateSeries, exp.Unnest)
    )


def source_schema(session: Session, source: Source, folder: Path, where: str, *, every_file: bool = False) -> pa.Schema:
    """Names and Arrow types of a source's columns; those of a CSV are text.

    Args:
        session: the names of one run.
        source: the source.
        folder: the project's folder.
        where: for errors.
        every_file: whether a column that some Parquet files lack says so in its metadata (`LACKING`).
    """
    match source:
        case ParquetSource() if not is_remote(source.location):
            return parquet_schema(session, source, folder, where, every_file=every_file)
        case ParquetSource():
            return remote_schema(source, where, every_file=every_file)
        case CSVSource():
            return csv_schema(session, source, folder, where)
        case JSONSource():
            return json_schema(source, folder, where)
        case SQLSource():
            query = sql_query(session, source, folder, where, rows=False)
            return _schema_of_query(session, source, folder, where, query)
        case TableSource():
            return _table_of(source, where).schema
        case ViewTable():
            return pa.schema([(name, dtype.arrow) for name, dtype in source.columns.items()])
        case TransformSource():
            return transformed_schema(source)
        case PushSource():
            return pa.schema([(name, dtype.arrow) for name, dtype in (source.schema or {}).items()])
        case SparkSource():
            raise SourceError(_of_spark(where))
    raise SourceError(f"{where}: the duckdb engine cannot read a {type(source).__name__}")


def _of_spark(where: str) -> str:
    return f'{where}: only Spark reads it: set [offline] engine = "spark" in headwater.toml'


# -- queries and tables


def sql_query(
    session: Session,
    source: SQLSource,
    folder: Path,
    where: str,
    zone: LocalTimes | None = None,
    *,
    rows: bool = True,
) -> str:
    """The query with each of its tables in front, named as the user named it.

    Args:
        session: the names of one run.
        source: the query.
        folder: the project's.
        where: for errors.
        zone: of naive times of a query that reads this one as a table.
        rows: whether tables that are read from text have their rows; the columns of an answer need none.
    """
    parts = _parts(session, source, folder, where, source_zone(source) or zone, rows=rows)
    query = _text_of(source, folder, where)
    check_reads(session, query, used_names(source.query), where)
    if not parts:
        return f"SELECT * FROM (\n{query}\n)"
    return f"WITH {', '.join(parts)} SELECT * FROM (\n{query}\n)"


def _text_of(source: SQLSource, folder: Path, where: str) -> str:
    return in_project(source.query.strip().rstrip(";").rstrip(), folder, where)


def _parts(
    session: Session, source: SQLSource, folder: Path, where: str, zone: LocalTimes | None, *, rows: bool
) -> list[str]:
    """The tables of a query, as WITH names them.

    A table that states a time zone has instants in it; in another, naive times are for the query's zone to settle.
    """
    # the columns of a pivot are values of its rows
    rows = rows or "pivot" in source.query.casefold()
    parts, used = [], used_names(source.query)
    for name, table in source.tables.items():
        inner = f"{where}, table {name!r}"
        # listed once: what is checked is what the query reads
        remote = read_remote(table, inner) if _is_remote(table) else None
        schema = source_schema(session, table, folder, inner) if remote is None else remote.dataset.schema
        if remote is not None:
            _check_files(remote.paths, remote.schemas, schema, used, inner)
        elif isinstance(table, ParquetSource):
            _check_files(*parquet_schemas(table, folder, inner), schema, used, inner)
        plain = _plain(session, table, folder, inner, zone, rows=rows, remote=remote)
        for one, other in repeated(schema.names):
            if used is None or one.casefold() in used:
                files = (named_in(schema, one), named_in(schema, other))
                raise SourceError(f"{inner}: {same_but_case(one, other, files)}")
        parts.append(f"{name_sql(name)} AS (SELECT * FROM {plain})")
    return parts


def _is_remote(source: Source) -> TypeGuard[ParquetSource]:
    return isinstance(source, ParquetSource) and is_remote(source.location)


def _check_files(
    files: Sequence[str], schemas: Sequence[pa.Schema], made: pa.Schema, used: set[str] | None, where: str
) -> None:
    """Refuse a query's table of Parquet files, a used column of which is not the same in all.

    Raises:
        SourceError: naming files, column and types.
    """
    check_merged(files, schemas, made, used, where)
    for schema in schemas:
        for one, other in repeated(schema.names):
            if used is None or one.casefold() in used:
                raise SourceError(f"{where}: {same_but_case(one, other)}")


def _schema_of_query(session: Session, source: SQLSource, folder: Path, where: str, query: str) -> pa.Schema:
    """The columns of a query, and those that DuckDB renames since their names differ from others only in case."""
    schema = schema_of(session, query, f"{where}: its query does not run")
    if not any(_RENAMED.search(name) for name in schema.names):
        return schema
    parts = ", ".join(_parts(session, source, folder, where, source_zone(source), rows=False))
    text = _text_of(source, folder, where)
    if parts:
        begins = re.match(r"with\b(\s+recursive\b)?", text, re.IGNORECASE)
        text = f"WITH {parts} {text}" if begins is None else f"{begins[0]} {parts}, {text[begins.end() :]}"
    try:
        return with_twins(schema, [str(row[0]) for row in session.fetch(f"DESCRIBE {text}")])
    except SourceError:
        return schema


def _plain(
    session: Session,
    source: Source,
    folder: Path,
    where: str,
    zone: LocalTimes | None,
    *,
    rows: bool,
    remote: RemoteRows | None,
) -> str:
    """What a query's FROM names for one of its tables, whose own time zone its naive times are of.

    Args:
        session: the names of one run.
        source: the table.
        folder: the project's folder.
        where: for errors.
        zone: of the query's naive times.
        rows: whether a table that is read from text has its rows.
        remote: the rows of a table in an object store.
    """
    text = TextTable(folder, where, None if zone is None else zone.name, rows)
    match source:
        case CSVSource():
            return f"({csv_query(session, source, text)})"
        case JSONSource():
            return f"({json_query(session, source, text)})"
    query = (
        _native(session, source, folder, where, zone, rows=rows)
        if remote is None
        else f"SELECT * FROM {show_remote(session, remote)}"
    )
    if source.timezone is not None:
        query = query_in_zone(session, query, source_zone(source), where)
    return f"({query})"


def _native(session: Session, source: Source, folder: Path, where: str, zone: LocalTimes | None, *, rows: bool) -> str:
    """All rows of a source on this host whose columns have types of their own."""
    match source:
        case ParquetSource():
            return parquet_query(source, folder, where)
        case SQLSource():
            return sql_query(session, source, folder, where, zone, rows=rows)
        case ViewTable():
            return rows_of_view(session, source, where) if rows else no_rows(session, source)
        case TransformSource():
            made = _transformed(session, source, folder, where) if rows else None
            shown = session.name("table")
            session.show(shown, transformed_schema(source).empty_table() if made is None else readable(made.table))
            return f"SELECT * FROM {shown}"
        case TableSource():
            table, shown = _table_of(source, where, zone), session.name("table")
            check_input(table, where)
            for field in table.schema:
                if pa.types.is_decimal256(leaf_type(field.type)):
                    check_type(field.type, f"{where}: column {field.name!r}")
            session.show(shown, readable(table))
            return f"SELECT * FROM {shown}"
    raise SourceError(f"{where}: a query cannot read a {type(source).__name__}")


def _open_query(
    session: Session, source: SQLSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened:
    """All rows of a query: where any file that it reads is new or changed, any row may be."""
    query = sql_query(session, source, folder, where)
    schema = _schema_of_query(session, source, folder, where, query)
    check_columns(schema, wanted.columns, where)
    name = session.name("rows")
    selected, row = numbered(wanted.selected, wanted.columns)
    try:
        limit = "" if scope.rows is None else f" LIMIT {scope.rows}"
        session.run(f"CREATE TABLE {name} AS SELECT {selected} FROM ({query}){limit}")
    except SourceError as bad:
        raise SourceError(f"{where}: its query fails: {bad}") from bad
    check_rows(session.fetch, name, wanted.typed(schema), where, f"'row ' || {row}")
    branch = Branch(name, scope.known_after is None or bool(scope.whole) or scope.only is not None)
    file_rows = _rows_of_tables(source, folder, where, scope.whole)
    return Opened(name, schema, count_rows(session, name), row=row, branches=(branch,), file_rows=file_rows)


def _transformed(session: Session, source: TransformSource, folder: Path, where: str) -> TableSource:
    """What a function makes of its sources, as a table in memory."""
    given = {}
    for name, table in source.tables.items():
        query = SQLSource(f"SELECT * FROM {name_sql(name)}", tables={name: table})
        given[name] = session.read(sql_query(session, query, folder, f"{where}, source {name!r}"))
    return TableSource(
        run_transform(source, given, where),
        event_time=source.event_time,
        created_time=source.created_time,
        valid_from=source.valid_from,
        valid_to=source.valid_to,
        event_id=source.event_id,
        delay=source.delay,
        timezone=source.timezone,
    )


def _rows_of_tables(source: Source, folder: Path, where: str, files: frozenset[str]) -> dict[str, int]:
    """How many rows those of the files have of which footers tell."""
    tables = tables_of(source).values() if files else ()
    found: dict[str, int] = {}
    for table in tables:
        if isinstance(table, ParquetSource) and not is_remote(table.location):
            some = [file for file in parquet_files(table, folder, where) if file.path in files]
            footers = read_footers([file.location for file in some], where)
            found |= {file.path: footer.num_rows for file, footer in zip(some, footers, strict=True)}
        else:
            found |= _rows_of_tables(table, folder, where, files)
    return found


def _table_of(
    source: TableSource, where: str, zone: LocalTimes | None = None, settled: dict[str, NaiveTimes] | None = None
) -> pa.Table:
    """A source's table.

    Args:
        source: the source.
        where: for errors.
        zone: of its naive times, where it says none itself; None: UTC.
        settled: gets the columns that mix kinds of times, with how many of these a clock change repeats or skips.

    Raises:
        SourceError: it has none here, or holds no table.
    """
    found = {} if settled is None else settled
    own = source_zone(source)

    def settle(name: str) -> NaiveTimes:
        # of a query's table the query says which columns are its times
        dates = name in source.times or own is None
        found[name] = NaiveTimes(own or zone, dates)
        return found[name]

    if source.table is None:
        raise SourceError(
            f"{where}: its table lives in the store object that was given it; "
            "give this store the table (sources=…) or use a file"
        )
    try:
        return as_table(source.table, where, settle)
    except DataError as bad:
        raise SourceError(str(bad)) from bad


def readable(table: pa.Table) -> pa.Table:
    """The table without Arrow types that DuckDB cannot take in."""
    for i, column in enumerate(table.schema):
        wanted = _taken(column.type)
        if wanted != column.type:
            table = table.set_column(i, column.name, table.column(i).cast(wanted))
    return table


def _taken(kind: pa.DataType) -> pa.DataType:
    """A type as DuckDB takes it: floats of 16 bits as such of 32."""
    if pa.types.is_float16(kind):
        return pa.float32()
    if is_list(kind):
        inner = _taken(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def _open_table(session: Session, source: TableSource, wanted: Wanted, where: str) -> Opened:
    settled: dict[str, NaiveTimes] = {}
    table = _table_of(source, where, settled=settled)
    check_columns(table.schema, wanted.columns, where)
    table = table.select(wanted.columns)
    check_table(table, where)
    times = [found for name, found in settled.items() if name in wanted.times]
    return replace(
        show_table(session, readable(wanted.fitted(table, where))),
        repeated_times=sum(found.repeated for found in times),
        skipped_times=sum(found.skipped for found in times),
    )


def show_table(session: Session, table: pa.Table) -> Opened:
    """An Arrow table with row numbers."""
    name = session.name("table")
    session.show(name, table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64))))
    return Opened(name, table.schema, table.num_rows)
