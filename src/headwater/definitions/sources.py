"""The kinds of sources: files, queries, tables of Spark's and in memory, what `write` fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from headwater.deferred import deferred
from headwater.definitions.csv_nulls import CSV_NULLS
from headwater.definitions.source import Source
from headwater.definitions.view_tables import ViewTable, as_source
from headwater.types import DType

if TYPE_CHECKING:
    from headwater.definitions import csv_format
else:
    csv_format = deferred("headwater.definitions.csv_format")

LACKING = b"headwater.lacking"
"""In the metadata of a column of a source: which files lack it (text)."""


class _Files(Source, frozen=True):
    """A source of files."""

    path: str = ""

    @property
    def location(self) -> str:
        return str(self.path)


class ParquetSource(_Files, frozen=True):
    """Parquet files.

    Attributes:
        path: a file, a folder, a glob (`data/**/*.parquet`), or a URL that begins with `s3://` or `gs://`. Relative
            paths start at the project's folder; Hive partitions (`day=2026-01-01/`) become columns.
    """

    kind: ClassVar[str] = "parquet"


class CSVSource(_Files, frozen=True, kw_only=True):
    """CSV files; columns are cast to the declared dtypes.

    Attributes:
        path: a file, a folder or a glob on disk; `.gz` and `.zst` files are decompressed.
        nulls: the texts that mean NULL, in quotes or not. By default the empty text does, except in quotes in a column
            of text or bytes: there `""` is the empty text, as most programs write it.
        delimiter: the field separator; None: a comma, or a tab in a .tsv or .tab file.
        quote: the character that encloses fields with delimiters, line breaks or quotes; None: there is none.
        escape: the character before a quote within quotes; by default the quote itself, written twice; None: there is
            none.
        comment: lines that begin with this character are left out; None: there are no comments.
        header: whether the first line names the columns; else they are column0, column1, ….
        skip: the number of lines before the header or the first row.
        encoding: the encoding by its Python name; a byte order mark of UTF-8 is ignored.
        decimal: the decimal separator of numbers.
        thousands: the thousands separator of numbers; None: there is none.
        date_format: how dates are written, in strftime directives; None: ISO 8601.
        timestamp_format: how times are written, in strftime directives; None: ISO 8601.
        schema: the dtypes of columns that no feature, key or time declares, for queries; without it they are text.
        types_found: whether a query sees the types that DuckDB finds in the text, as an earlier release registered it.
        kept_types: those types, once a plan has written them down; never part of a version.
    """

    kind: ClassVar[str] = "csv"
    not_compared: ClassVar[tuple[str, ...]] = ("types_found", "kept_types")
    nulls: tuple[str, ...] = CSV_NULLS
    delimiter: str | None = None
    quote: str | None = '"'
    escape: str | None = '"'
    comment: str | None = None
    header: bool = True
    skip: int = 0
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str | None = None
    date_format: str | None = None
    timestamp_format: str | None = None
    schema: Mapping[str, DType] | None = None
    types_found: bool = False
    kept_types: Mapping[str, DType] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        nulls = (self.nulls,) if isinstance(self.nulls, str) else tuple(self.nulls)
        force_setattr(self, "nulls", nulls)

    def __hash__(self) -> int:
        return hash((self.path, self.format))

    @property
    def query_types(self) -> Mapping[str, DType]:
        """The dtypes of columns that a query sees; others are text."""
        return self.schema or self.kept_types or {}

    @property
    def format(self) -> csv_format.CSVFormat:
        """How the files are written."""
        options = {name: getattr(self, name) for name in csv_format.CSV_OPTIONS}
        return csv_format.CSVFormat(**options)


class JSONSource(_Files, frozen=True, kw_only=True):
    """JSON files: one object per line, or one array of objects.

    A column that is missing in a row is NULL. Times, dates and bytes are text in JSON (ISO 8601, UTF-8).

    Attributes:
        path: a file, a folder or a glob on disk; `.gz` and `.zst` files are decompressed.
        lines: whether each line is an object; else each file is one array of objects.
        schema: the dtypes of columns that no feature, key or time declares, for queries; without it they are text.
    """

    kind: ClassVar[str] = "json"
    lines: bool = True
    schema: Mapping[str, DType] | None = None

    def __hash__(self) -> int:
        return hash((self.path, self.lines))


TEXT_SOURCES = (CSVSource, JSONSource)
"""Sources of text, whose columns are cast when they are read."""


class _Query(Source, frozen=True):
    """What a query may be given by position."""

    query: str = ""


class SQLSource(_Query, frozen=True, kw_only=True):
    """A query over other sources and over all rows of other views.

    Attributes:
        query: one SELECT in DuckDB's dialect.
        tables: the name of a table in the query → the source that it reads. A feature view given here is kept as a
            `ViewTable`: all of its rows, with the columns `event_time` and `known_at`.
    """

    kind: ClassVar[str] = "sql"
    tables: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.tables, Mapping) and any(not isinstance(t, Source) for t in self.tables.values()):
            tables = {name: as_source(table) for name, table in self.tables.items()}
            force_setattr(self, "tables", tables)

    def __hash__(self) -> int:
        return hash((self.query, tuple(self.tables)))


class SparkSource(Source, frozen=True, kw_only=True):
    """A table, a query or files that Spark reads itself; it needs `[offline] engine = "spark"`.

    Give one of table, query and path.

    Attributes:
        table: a table's name in Spark's catalog (`"db.rides"`, `"catalog.db.rides"`): Hive, Delta, Iceberg, whatever
            the session has.
        query: one SELECT in Spark's own SQL.
        path: a file or folder, as Spark takes it; relative paths start at the project's folder.
        format: the format of the files, by Spark's name (`"parquet"`, `"delta"`, `"orc"`); only with a path.
    """

    kind: ClassVar[str] = "spark"
    table: str | None = None
    query: str | None = None
    path: str | None = None
    format: str | None = None

    @property
    def location(self) -> str:
        return str(self.table or self.path or "")


class TableSource(Source, frozen=True):
    """A table in memory; it exists only in the store object that it was given to.

    Attributes:
        table: a pandas or polars frame, a pyarrow table or a list of dicts.
    """

    kind: ClassVar[str] = "table"
    table: Any = None

    # the registry holds no table: what it gives back equals what was applied
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(self._settings)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in Source.__struct_fields__)


class PushSource(Source, frozen=True, kw_only=True):
    """A source that only `write` fills; its history is the offline log.

    Attributes:
        schema: the dtypes of columns of written rows that no feature, key or time declares.
    """

    kind: ClassVar[str] = "push"
    schema: Mapping[str, DType] | None = None

    def __hash__(self) -> int:
        return hash((self.event_time, self.created_time))


def at_new_location(source: Source, old: Source, new: Source) -> Source:
    """The source `source`, which read its data at `old`'s location, at `new`'s; each table of a query by itself."""
    if isinstance(source, SQLSource) and isinstance(old, SQLSource) and isinstance(new, SQLSource):
        tables = {
            name: at_new_location(table, old.tables[name], new.tables[name])
            if name in old.tables and name in new.tables
            else table
            for name, table in source.tables.items()
        }
        return source if tables == dict(source.tables) else replace(source, tables=tables)
    moves = source.kind == new.kind and source.location == old.location != new.location
    if moves and isinstance(source, ParquetSource | CSVSource | JSONSource):
        return replace(source, path=new.location)
    if moves and isinstance(source, SparkSource) and isinstance(new, SparkSource):
        return replace(source, table=new.table, path=new.path)
    return source


def view_tables(source: Any) -> Iterator[ViewTable]:
    """The views that a source reads, by any of the queries in it."""
    if isinstance(source, ViewTable):
        yield source
    elif isinstance(source, SQLSource) and isinstance(source.tables, Mapping):
        for table in source.tables.values():
            yield from view_tables(table)


def reads_text(source: Source) -> bool:
    """Whether a source, or a table of a query, is one of text."""
    if isinstance(source, SQLSource):
        return any(reads_text(table) for table in source.tables.values())
    return isinstance(source, TEXT_SOURCES)
