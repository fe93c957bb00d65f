"""Sources and log parts as DuckDB relations: files as views, what has no row numbers of its own as tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.definitions.sources import LACKING, CSVSource, ParquetSource, PushSource, Source, SQLSource, TableSource
from headwater.errors import DataError, SourceError, nearest
from headwater.offline.engines.duckdb_columns import name_sql
from headwater.offline.engines.duckdb_files import CSVFiles, ParquetFiles
from headwater.offline.engines.duckdb_text import cast_text, cast_time, misfits
from headwater.offline.engines.footers import lacking, read_footers
from headwater.planning.partitions import Partitions, partition_names, partitions
from headwater.planning.tables import as_table, is_pandas, match_key
from headwater.types import DType

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as fs

ROW = "__row"
_REMOTE = re.compile(r"^(s3|gs|gcs|abfs|az)://")


class Session(Protocol):
    """A connection to the engine, with the names of one run."""

    def run(self, sql: str) -> None:
        """Run a statement."""
        ...

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """A short answer."""
        ...

    def schema_of(self, sql: str) -> pa.Schema:
        """The Arrow schema of a query's answer."""
        ...

    def show(self, name: str, data: Any) -> None:
        """Let queries see an Arrow table, dataset or reader under a name."""
        ...

    def name(self, text: str) -> str:
        """A name of its own in this run."""
        ...


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


@dataclass(frozen=True)
class Wanted:
    """The columns asked of a source, with what they will be.

    Attributes:
        keys: column → dtype of a join key.
        times: the event and created time columns.
        values: column → dtypes of the features it holds.
    """

    keys: Mapping[str, DType] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    values: Mapping[str, tuple[DType, ...]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Every column, once."""
        return list(dict.fromkeys([*self.keys, *self.times, *self.values]))


@dataclass(frozen=True)
class Opened:
    """A source as a relation.

    Attributes:
        name: the view or table.
        schema: its columns, `__row` aside.
        size: the end of its row numbers.
        row: the column of its row numbers.
        lenient: whether its values were Python's own.
        footers: of the Parquet files it reads, where a filter on a time column spares reading; else empty.
        lacking: column → which of its files lack it.
    """

    name: str
    schema: pa.Schema
    size: int
    row: str = ROW
    lenient: bool = False
    footers: tuple[pq.FileMetaData, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)


def check_columns(schema: pa.Schema, wanted: Sequence[str], where: str) -> None:
    """Refuse a source that lacks a column.

    Raises:
        SourceError: with the nearest name and those there are.
    """
    for name in wanted:
        if name not in schema.names:
            there = ", ".join(n for n in schema.names if not n.startswith("__"))
            raise SourceError(f"{where} has no column {name!r}{nearest(name, schema.names)}; it has {there}")


def open_source(session: Session, source: Source, folder: Path, wanted: Wanted, where: str) -> Opened:
    """A source with row numbers that stay the same for the run.

    Raises:
        SourceError: a source that is missing, unreadable, or lacks a column.
    """
    match source:
        case ParquetSource() if not _REMOTE.match(source.location):
            return _open_parquet(session, _parquet(source, folder, where), wanted, where)
        case ParquetSource():
            return _open_remote(session, source, wanted, where)
        case CSVSource():
            return _open_csv(session, source, folder, wanted, where)
        case SQLSource():
            query = sql_query(session, source, folder, where)
            return _materialized(
                session, query, _schema_of(session, query, f"{where}: its query does not run"), wanted, where
            )
        case TableSource():
            return _open_table(session, source, wanted, where)
    raise SourceError(f"{where}: the duckdb engine cannot read a {type(source).__name__}")


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
        case ParquetSource() if not _REMOTE.match(source.location):
            files = _parquet(source, folder, where)
            schema = _schema_of(session, files.query(), where)
            return _with_lacking(schema, files, where) if every_file else schema
        case ParquetSource():
            return _remote(source, where).schema
        case CSVSource():
            return _schema_of(session, _csv(session, source, folder, where).query(), where)
        case SQLSource():
            return _schema_of(session, sql_query(session, source, folder, where), f"{where}: its query does not run")
        case TableSource():
            return _table_of(source, where).schema
        case PushSource():
            return pa.schema([(name, dtype.arrow) for name, dtype in (source.schema or {}).items()])
    raise SourceError(f"{where}: the duckdb engine cannot read a {type(source).__name__}")


# -- files


def _root(location: str, folder: Path) -> Path:
    """The path that a location names; of a glob what comes before its first wildcard."""
    path = Path(location) if Path(location).is_absolute() else folder / location
    if any(mark in location for mark in "*?["):
        return Path(*itertools.takewhile(lambda part: not any(mark in part for mark in "*?["), path.parts))
    return path


def _files(location: str, folder: Path, suffixes: tuple[str, ...], where: str) -> list[str]:
    """The files of a path, folder or glob, in order of name."""
    path = Path(location) if Path(location).is_absolute() else folder / location
    if any(mark in location for mark in "*?["):
        pattern = str(path.relative_to(path.anchor))
        fixed = _root(location, folder)
        found = sorted(str(p) for p in Path(path.anchor or ".").glob(pattern) if p.is_file() and not _hidden(p, fixed))
    elif path.is_dir():
        found = sorted(str(p) for s in suffixes for p in path.rglob(f"*{s}") if p.is_file() and not _hidden(p, path))
    else:
        found = [str(path)] if path.is_file() else []
    if not found:
        raise SourceError(f"{where}: no file at {path}; paths are relative to the project folder {folder}")
    return found


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)


def parquet_files(source: ParquetSource, folder: Path, where: str) -> list[str]:
    """The Parquet files of a source.

    Raises:
        SourceError: none is there.
    """
    return _files(source.location, folder, (".parquet", ".pq", ".parq"), where)


def csv_files(source: CSVSource, folder: Path, where: str) -> list[str]:
    """The CSV files of a source.

    Raises:
        SourceError: none is there.
    """
    return _files(source.location, folder, (".csv", ".csv.gz", ".tsv"), where)


def _parquet(source: ParquetSource, folder: Path, where: str) -> ParquetFiles:
    """The files of a source with their partitions; footers are read only where there may be any."""
    files, root = parquet_files(source, folder, where), _root(source.location, folder)
    if not partition_names(files, root):
        return ParquetFiles(files, root, Partitions())
    columns = {name for footer in read_footers(files, where) for name in footer.schema.to_arrow_schema().names}
    return ParquetFiles(files, root, partitions(files, root, columns))


def _csv(session: Session, source: CSVSource, folder: Path, where: str) -> CSVFiles:
    """The files of a source with their partitions."""
    found = CSVFiles(source, csv_files(source, folder, where), Partitions())
    root = _root(source.location, folder)
    if not partition_names(found.files, root):
        return found
    return replace(found, parts=partitions(found.files, root, _schema_of(session, found.query(), where).names))


def _with_lacking(schema: pa.Schema, files: ParquetFiles, where: str) -> pa.Schema:
    lack = (
        lacking(files.files, read_footers(files.files, where), schema.names, files.parts)
        if len(files.files) > 1
        else {}
    )
    return pa.schema([f.with_metadata({LACKING: lack[f.name].encode()}) if f.name in lack else f for f in schema])


def _open_parquet(session: Session, found: ParquetFiles, wanted: Wanted, where: str) -> Opened:
    files = found.files
    schema = _schema_of(session, found.query(), where)
    check_columns(schema, wanted.columns, where)
    footers = read_footers(files, where)
    lack = lacking(files, footers, wanted.columns, found.parts)
    for column in (*wanted.keys, *wanted.times):
        if column in lack:
            raise SourceError(f"{where}: {lack[column]}: no column {column!r}; every file has the keys and times")
    most = max(footer.num_rows for footer in footers)
    bits = max(1, most.bit_length())
    row = "file_row_number" if len(files) == 1 else f"(CAST(file_index AS BIGINT) << {bits}) | file_row_number"
    name = session.name("file")
    session.run(f"CREATE VIEW {name} AS {found.query(f'{row} AS {ROW}')}")
    return Opened(name, schema, most if len(files) == 1 else len(files) << bits, footers=footers, lacking=lack)


def _remote(source: ParquetSource, where: str) -> ds.Dataset:
    # what only object stores need: it takes pandas along where that is installed, half a second
    import pyarrow.fs as fs

    try:
        filesystem, path = fs.FileSystem.from_uri(re.sub(r"^gcs://", "gs://", source.location))
        return _dataset(filesystem, path)
    except (pa.ArrowException, OSError, ValueError) as bad:
        if source.shown_location == source.location:
            raise SourceError(f"{where}: cannot read {source.location}: {bad}") from bad
    # what PyArrow says may hold the credentials, so that it is not among the error's causes either
    raise SourceError(f"{where}: cannot read {source.shown_location}")


def _dataset(filesystem: fs.FileSystem, path: str) -> ds.Dataset:
    """Parquet files in an object store with their partitions; footers are read only where there may be any."""
    import pyarrow.dataset as ds

    found = ds.dataset(path, filesystem=filesystem, format="parquet", partitioning=None)
    root = path.rstrip("/")
    if not partition_names(found.files, root):
        return found
    columns = {name for fragment in found.get_fragments() for name in fragment.physical_schema.names}
    parts = partitions(found.files, root, columns)
    fragments = [
        found.format.make_fragment(file, filesystem, _all_of(parts.types, values))
        for file, values in zip(found.files, parts.values, strict=True)
    ]
    schema = pa.schema([*found.schema, *(pa.field(name, kind) for name, kind in parts.types.items())])
    return ds.FileSystemDataset(fragments, schema, found.format, filesystem)


def _all_of(types: Mapping[str, pa.DataType], values: Mapping[str, str | None]) -> ds.Expression:
    """What holds for every row of a file: its partitions' values."""
    import pyarrow.compute as pc

    holds = pc.scalar(True)
    for name, text in values.items():
        value = pa.scalar(text, pa.string()).cast(types[name])
        holds = holds & (pc.field(name).is_null() if text is None else pc.field(name) == pc.scalar(value))
    return holds


def _open_remote(session: Session, source: ParquetSource, wanted: Wanted, where: str) -> Opened:
    dataset, shown = _remote(source, where), session.name("remote")
    session.show(shown, dataset)
    return _materialized(session, f"SELECT * FROM {shown}", dataset.schema, wanted, where)


def _open_csv(session: Session, source: CSVSource, folder: Path, wanted: Wanted, where: str) -> Opened:
    found = _csv(session, source, folder, where)
    raw = session.name("csv")
    names = session.schema_of(found.query())
    check_columns(names, wanted.columns, where)
    kept = ", ".join(name_sql(n) for n in wanted.columns) or "NULL AS nothing"
    # the first line of a file is its header, so that its first row stands in line 2
    session.run(f"CREATE TABLE {raw} AS SELECT {kept}, row_number() OVER () + 1 AS __row FROM ({found.query()})")
    casts: dict[str, str] = {}
    problems: list[str] = []
    for column in wanted.columns:
        dtypes = [d for d in (wanted.keys.get(column), *wanted.values.get(column, ())) if d is not None]
        time = column in wanted.times
        if len({str(d) for d in dtypes}) > 1 or (time and any(d.name != "timestamp" for d in dtypes)):
            raise SourceError(
                f"{where}: column {column!r} is declared as {', '.join(map(str, dtypes))}; "
                "a CSV column is cast to one dtype"
            )
        casts[column] = cast_time(column) if time else cast_text(column, dtypes[0])
        what = "a time" if time else str(dtypes[0])
        for row, text in session.fetch(misfits(column, casts[column], raw)):
            file, line = _place_of(session, found, row)
            problems.append(f"{file}: column {column!r}, line {line}: {text!r} is not {what}")
    if problems:
        raise SourceError(f"{where}: {'; '.join(problems)}; correct what is there, or name it in nulls=(…)")
    typed = session.name("rows")
    columns = ", ".join(f"{cast} AS {name_sql(column)}" for column, cast in casts.items()) or "NULL AS nothing"
    session.run(f"CREATE TABLE {typed} AS SELECT {columns} FROM {raw} ORDER BY __row")
    session.run(f"DROP TABLE {raw}")
    return Opened(typed, session.schema_of(f"SELECT * FROM {typed}"), _count(session, typed), row="rowid")


def _place_of(session: Session, found: CSVFiles, line: int) -> tuple[str, int]:
    """The file and line of a row of all files, which are read in order; each begins with its header."""
    for file in found.files[:-1]:
        rows = int(session.fetch(f"SELECT count(*) FROM {found.scan([file])}")[0][0])
        if line <= rows + 1:
            return file, line
        line -= rows
    return found.files[-1], line


# -- queries and tables


def sql_query(session: Session, source: SQLSource, folder: Path, where: str) -> str:
    """The query with each of its tables in front, named as the user named it."""
    parts = []
    for name, table in source.tables.items():
        inner = f"{where}, table {name!r}"
        parts.append(f"{name_sql(name)} AS (SELECT * FROM {_plain(session, table, folder, inner)})")
    query = source.query.strip().rstrip(";").rstrip()
    if not parts:
        return f"SELECT * FROM (\n{query}\n)"
    return f"WITH {', '.join(parts)} SELECT * FROM (\n{query}\n)"


def _schema_of(session: Session, query: str, where: str) -> pa.Schema:
    try:
        return session.schema_of(query)
    except SourceError as bad:
        raise SourceError(f"{where}: {bad}") from bad


def _plain(session: Session, source: Source, folder: Path, where: str) -> str:
    """What a query's FROM names for one of its tables."""
    match source:
        case ParquetSource() if not _REMOTE.match(source.location):
            return f"({_parquet(source, folder, where).query()})"
        case ParquetSource():
            shown = session.name("remote")
            session.show(shown, _remote(source, where))
            return shown
        case CSVSource():
            return f"({replace(_csv(session, source, folder, where), typed=True).query()})"
        case SQLSource():
            return f"({sql_query(session, source, folder, where)})"
        case TableSource():
            shown = session.name("table")
            session.show(shown, readable(_table_of(source, where)))
            return shown
    raise SourceError(f"{where}: a query cannot read a {type(source).__name__}")


def _materialized(session: Session, query: str, schema: pa.Schema, wanted: Wanted, where: str) -> Opened:
    check_columns(schema, wanted.columns, where)
    name = session.name("rows")
    kept = ", ".join(name_sql(n) for n in wanted.columns) or "NULL AS nothing"
    session.run(f"CREATE TABLE {name} AS SELECT {kept} FROM ({query})")
    return Opened(name, schema, _count(session, name), row="rowid")


def _count(session: Session, table: str) -> int:
    return int(session.fetch(f"SELECT count(*) FROM {table}")[0][0])


def _table_of(source: TableSource, where: str) -> pa.Table:
    if source.table is None:
        raise SourceError(
            f"{where}: its table lives in the store object that was given it; "
            "give this store the table (sources=…) or use a file"
        )
    try:
        return as_table(source.table, where)
    except DataError as bad:
        raise SourceError(str(bad)) from bad


def table_schema(source: TableSource, keys: Mapping[str, DType], where: str) -> pa.Schema:
    """The columns of a table as they will be: in pandas a float column may hold an integer key."""
    schema = _table_of(source, where).schema
    if is_pandas(source.table):
        for name, dtype in keys.items():
            place = schema.get_field_index(name)
            if place >= 0 and dtype.name.startswith("int") and pa.types.is_floating(schema.field(place).type):
                schema = schema.set(place, pa.field(name, pa.int64()))
    return schema


def readable(table: pa.Table) -> pa.Table:
    """The table without Arrow types that DuckDB cannot take in."""
    for i, column in enumerate(table.schema):
        if pa.types.is_float16(column.type):
            table = table.set_column(i, column.name, table.column(i).cast(pa.float32()))
    return table


def _open_table(session: Session, source: TableSource, wanted: Wanted, where: str) -> Opened:
    table = _table_of(source, where)
    check_columns(table.schema, wanted.columns, where)
    table = readable(table.select(wanted.columns))
    for name, dtype in wanted.keys.items():
        if name not in wanted.values and name not in wanted.times:
            matched = match_key(
                table.column(name), dtype, f"{where}: column {name!r}", SourceError, pandas=is_pandas(source.table)
            )
            table = table.set_column(table.column_names.index(name), name, matched)
    lenient = isinstance(source.table, (list, tuple, Mapping)) or is_pandas(source.table)
    return show_table(session, table, lenient=lenient)


def show_table(session: Session, table: pa.Table, *, lenient: bool) -> Opened:
    """An Arrow table with row numbers."""
    name = session.name("table")
    session.show(name, table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64))))
    return Opened(name, table.schema, table.num_rows, lenient=lenient)
