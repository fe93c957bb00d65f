"""Sources: where a view's rows come from, and which columns hold their times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar

from headwater.clock import parse_duration
from headwater.definitions.csv_format import CSV_NULLS, CSV_OPTIONS, CSVFormat
from headwater.types import DType
from headwater.urls import shown_location

LACKING = b"headwater.lacking"
"""In the metadata of a column of a source: which files lack it (text)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What every source names.

    Attributes:
        event_time: the column that says when a row became true; None: valid always (a dimension table).
        created_time: the column that says when a row was known; None: at event time + `delay`.
        event_id: the column that tells events apart, where a source may repeat them.
        delay: how long after its event time a row is known, where no column says so.
        timezone: of naive times and dates (`Europe/Berlin`, `+02:00`); None: UTC. Of a query's table: of its naive
            timestamps, which the query sees as instants; None: they stay naive, and are of the query's zone.
    """

    kind: ClassVar[str] = ""

    event_time: str | None = None
    created_time: str | None = None
    event_id: str | None = None
    delay: timedelta | str = timedelta(0)
    timezone: str | None = None
    problems: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "delay", parse_duration(self.delay))
        except ValueError as bad:
            object.__setattr__(self, "delay", timedelta(0))
            object.__setattr__(self, "problems", (f"delay: {bad}",))

    @property
    def delay_time(self) -> timedelta:
        """`delay` as a timedelta."""
        assert isinstance(self.delay, timedelta)
        return self.delay

    @property
    def location(self) -> str:
        """Where the data is, as it was given; empty where the source has no location."""
        return ""

    @property
    def shown_location(self) -> str:
        """`location` for people, without credentials."""
        return shown_location(self.location)


@dataclass(frozen=True)
class ParquetSource(Source):
    """Parquet files: a file, a folder, a glob (`data/**/*.parquet`, hive partitions become columns), `s3://` or `gs://`."""

    kind: ClassVar[str] = "parquet"
    path: str = ""

    @property
    def location(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class CSVSource(Source):
    """CSV files: a file, a folder, a glob; columns are cast to the declared dtypes.

    Attributes:
        path: as of a `ParquetSource`, on disk.
        nulls, delimiter, quote, escape, comment, header, skip, encoding, decimal, thousands, date_format,
            timestamp_format: how the files are written; see `CSVFormat`.
        schema: the dtype of columns that no feature, key or time declares, for queries; without it they are text.
        types_found: whether a query sees the types that DuckDB finds in the text, as an earlier release registered it.
        kept_types: those types, once a plan has written them down; never part of a version.
    """

    kind: ClassVar[str] = "csv"
    path: str = ""
    nulls: tuple[str, ...] = field(default=CSV_NULLS, kw_only=True)
    delimiter: str | None = field(default=None, kw_only=True)
    quote: str | None = field(default='"', kw_only=True)
    escape: str | None = field(default='"', kw_only=True)
    comment: str | None = field(default=None, kw_only=True)
    header: bool = field(default=True, kw_only=True)
    skip: int = field(default=0, kw_only=True)
    encoding: str = field(default="utf-8", kw_only=True)
    decimal: str = field(default=".", kw_only=True)
    thousands: str | None = field(default=None, kw_only=True)
    date_format: str | None = field(default=None, kw_only=True)
    timestamp_format: str | None = field(default=None, kw_only=True)
    schema: Mapping[str, DType] | None = field(default=None, kw_only=True)
    types_found: bool = field(default=False, kw_only=True, compare=False, repr=False)
    kept_types: Mapping[str, DType] | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        nulls = (self.nulls,) if isinstance(self.nulls, str) else tuple(self.nulls)
        object.__setattr__(self, "nulls", nulls)

    def __hash__(self) -> int:
        return hash((self.path, self.format))

    @property
    def location(self) -> str:
        return str(self.path)

    @property
    def query_types(self) -> Mapping[str, DType]:
        """The dtypes of columns that a query sees; others are text."""
        return self.schema or self.kept_types or {}

    @property
    def format(self) -> CSVFormat:
        """How the files are written."""
        return CSVFormat(**{name: getattr(self, name) for name in CSV_OPTIONS})


@dataclass(frozen=True)
class JSONSource(Source):
    """JSON files: a file, a folder, a glob; an object a line, or one array of objects.

    A column that a row has not is NULL. Times, dates and bytes are text in JSON (ISO 8601, UTF-8).

    Attributes:
        path: as of a `ParquetSource`, on disk.
        lines: whether each line is an object; else each file is one array of objects.
        schema: the dtype of columns that no feature, key or time declares, for queries; without it they are text.
    """

    kind: ClassVar[str] = "json"
    path: str = ""
    lines: bool = field(default=True, kw_only=True)
    schema: Mapping[str, DType] | None = field(default=None, kw_only=True)

    def __hash__(self) -> int:
        return hash((self.path, self.lines))

    @property
    def location(self) -> str:
        return str(self.path)


TEXT_SOURCES = (CSVSource, JSONSource)
"""Sources of text, whose columns are cast when they are read."""


@dataclass(frozen=True)
class SQLSource(Source):
    """A query over other sources, named in `tables`; written in DuckDB's dialect."""

    kind: ClassVar[str] = "sql"
    query: str = ""
    tables: Mapping[str, Source] = field(default_factory=dict, kw_only=True)

    def __hash__(self) -> int:
        return hash((self.query, tuple(self.tables)))


@dataclass(frozen=True, eq=False)
class TableSource(Source):
    """A table in memory: pandas, polars, pyarrow or a list of dicts; it lives in the store object that was given it."""

    kind: ClassVar[str] = "table"
    table: Any = None


@dataclass(frozen=True)
class PushSource(Source):
    """Filled by `write` alone; its history is the offline log."""

    kind: ClassVar[str] = "push"
    schema: Mapping[str, DType] | None = field(default=None, kw_only=True)

    def __hash__(self) -> int:
        return hash((self.event_time, self.created_time))


def at_new_location(source: Source, old: Source, new: Source) -> Source:
    """A source that read data where another one did, where that one reads it now; each table of a query for itself."""
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
    return source


def reads_text(source: Source) -> bool:
    """Whether a source, or a table of a query, is one of text."""
    if isinstance(source, SQLSource):
        return any(reads_text(table) for table in source.tables.values())
    return isinstance(source, TEXT_SOURCES)
