"""What a source is once DuckDB can read it: its columns, its row numbers, and which of its rows a run takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.definitions.names import same_but_case, twin
from headwater.errors import SourceError, nearest
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.engines.duckdb.words import name_sql
from headwater.offline.files.local import SourceFile
from headwater.offline.join.relations import ViewRelations
from headwater.offline.words import Place
from headwater.planning.cast import fit, misfits
from headwater.types import DType, Int64, Timestamp, castable, key_castable, leaf_type

ROW = "__headwater_row"
WHOLE = "__headwater_whole"
FILE = "__headwater_file"
PLACE = "__headwater_place"
"""Columns of headwater's own beside those of a source, whose names are anybody's: these alone are taken."""


class Session(Protocol):
    """A connection to the engine, with the names of one run."""

    statements: list[str]

    def run(self, sql: str) -> None:
        """Run a statement."""
        ...

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """A short answer."""
        ...

    def schema_of(self, sql: str) -> pa.Schema:
        """The Arrow schema of a query's answer."""
        ...

    def read(self, sql: str) -> pa.Table:
        """An answer as a table."""
        ...

    def show(self, name: str, data: Any) -> None:
        """Let queries see an Arrow table, dataset or reader under a name."""
        ...

    def name(self, text: str) -> str:
        """A name of its own in this run."""
        ...

    def temp_file(self, suffix: str) -> Path:
        """The path of a file that may be written; it is gone with the session."""
        ...

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Make a table of batches; what they raise is raised."""
        ...

    def table(self, name: str) -> str:
        """The full name of a table that `load` makes."""
        ...

    def place(self, row: str, names: Callable[[int], str]) -> Place:
        """What names the rows of a relation in errors: the expression of a row's number, and the names of numbers."""
        ...

    def view_relations(self, view: ViewInput, label: str, features: Sequence[str]) -> ViewRelations:
        """All rows of a view version, of its source and its log."""
        ...


class ViewSession(Session, Protocol):
    """A session that can also run the query's trees."""

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
        event_id: the column that tells events of the same times apart.
        values: column → dtypes of the features it holds.
        named: column → the name of the first of them, for errors.
    """

    keys: Mapping[str, DType] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    values: Mapping[str, tuple[DType, ...]] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    event_id: str | None = None

    @property
    def columns(self) -> list[str]:
        """Every column, once."""
        ids = [] if self.event_id is None else [self.event_id]
        return list(dict.fromkeys([*self.keys, *self.times, *self.values, *ids]))

    def typed(self, schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
        """Every column with its type in a source."""
        types = dict(zip(schema.names, schema.types, strict=True))
        return [(name, types[name]) for name in self.columns]

    def fitted(self, table: pa.Table, where: str, first: int = 0) -> pa.Table:
        """A table in memory whose columns are fitted to their dtypes, but those that are times, or have several.

        Args:
            table: its columns are among the columns asked for.
            where: for errors.
            first: the number of its first row.

        Raises:
            SourceError: a value that does not fit, with its column and row.
        """
        for i, given in enumerate(table.schema):
            dtype = self.one_dtype(given.name)
            can = key_castable if given.name in self.keys else castable
            if dtype is None or given.type == dtype.arrow or not can(given.type, dtype):
                continue
            leaf = leaf_type(given.type)
            if pa.types.is_timestamp(leaf) and leaf.tz is None:
                continue  # its time zone is for the source to say
            found = fit(table.column(i), dtype)
            if found.bad is not None:
                what = misfits(table.column(i), found.bad, dtype, first)
                feature = f", feature {self.named[given.name]!r}" if given.name in self.named else ""
                raise SourceError(f"{where}{feature}: column {given.name!r} ({given.type}): {what}")
            table = table.set_column(i, given.name, found.values)
        return table

    def one_dtype(self, name: str) -> DType | None:
        """The one dtype that a column is to be fitted to; None where there are several, or it is a time.

        Keys of integers are held in 64 bits.
        """
        wanted = set(self.values.get(name, ()))
        if name in self.keys:
            key = self.keys[name]
            wanted.add(Int64 if key.name == "int32" else key)
        return None if name in self.times or len(wanted) != 1 else wanted.pop()

    def declared(self, name: str, kind: str, where: str) -> DType:
        """The one dtype that a column of text is declared as; a time's is a timestamp.

        Args:
            name: the column.
            kind: of the source, for errors.
            where: for errors.

        Raises:
            SourceError: several dtypes.
        """
        dtypes = [d for d in (self.keys.get(name), *self.values.get(name, ())) if d is not None]
        time = name in self.times
        if len({str(d) for d in dtypes}) > 1 or (time and any(d != Timestamp for d in dtypes)):
            raise SourceError(
                f"{where}: column {name!r} is declared as {', '.join(map(str, dtypes))}; "
                f"a {kind} column is cast to one dtype"
            )
        return Timestamp if time else dtypes[0]

    @property
    def features_alone(self) -> list[str]:
        """The columns that are neither key nor time."""
        return [name for name in self.values if name not in self.keys and name not in self.times]

    @property
    def selected(self) -> str:
        """Every column, as SELECT names them."""
        return ", ".join(name_sql(name) for name in self.columns) or "NULL AS nothing"


@dataclass(frozen=True)
class Branch:
    """Some of a source's rows.

    Attributes:
        name: the view or table that they are in.
        whole: whether a run takes all of them, however long they have been known.
        condition: which of its rows they are; None: all.
    """

    name: str
    whole: bool = False
    condition: str | None = None


@dataclass(frozen=True)
class Opened:
    """A source as a relation.

    Attributes:
        name: the view or table.
        schema: its columns, that of the row numbers aside.
        size: the end of its row numbers.
        row: the column of its row numbers.
        rows: a row's number → what errors call it.
        footers: of the Parquet files it reads, where a filter on a time column spares reading; else empty.
        lacking: column → which of its files lack it.
        branches: its rows, in parts that a run reads in different ways; empty: in one, by the times of its rows.
        file_rows: file → how many rows it has, of those that are read whole.
        dates: the columns that were dates and became the instants of their midnights.
        repeated_times, skipped_times: how many times are in an hour that a clock change repeats, or skips.
        fixed: whether each statement sees the same rows, whatever becomes of the files.
        row_count: how many rows there are, where footers tell; else 0.
    """

    name: str
    schema: pa.Schema
    size: int
    row: str = ROW
    rows: Callable[[int], str] = "row {}".format
    footers: tuple[pq.FileMetaData, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    file_rows: Mapping[str, int] = field(default_factory=dict)
    fixed: bool = True
    dates: frozenset[str] = frozenset()
    repeated_times: int = 0
    skipped_times: int = 0
    row_count: int = 0


@dataclass(frozen=True)
class TextTable:
    """A source of text files as a table of a query: its columns are text, but those that its schema declares.

    Timestamps are instants where the source states a time zone, and naive where it states none.

    Attributes:
        folder: the project's folder.
        where: for errors.
        outer: the time zone of the query that reads the rows, in which it takes naive times; None: UTC.
        rows: whether there are any; else the files are looked at for their columns alone.
    """

    folder: Path
    where: str
    outer: str | None = None
    rows: bool = True


def check_names(names: Iterable[str], wanted: Sequence[str], where: str) -> None:
    """Refuse data with a column whose name differs from that of a wanted one only in case: DuckDB takes them for one.

    Raises:
        SourceError: with both names.
    """
    names = list(names)
    every = dict.fromkeys([*names, *wanted])
    for name in wanted:
        other = twin(name, every)
        if other is not None:
            if name not in names and other not in wanted:
                raise SourceError(f"{where} has no column {name!r}; it has {other!r}")
            raise SourceError(f"{where}: {same_but_case(name, other)}")


def check_columns(schema: pa.Schema, wanted: Sequence[str], where: str) -> None:
    """Refuse a source that lacks a column, or has another whose name differs from it only in case.

    Raises:
        SourceError: with the nearest name and those there are.
    """
    check_names(schema.names, wanted, where)
    for name in wanted:
        if name not in schema.names:
            there = ", ".join(n for n in schema.names if n not in (ROW, WHOLE, FILE, PLACE))
            raise SourceError(f"{where} has no column {name!r}{nearest(name, schema.names)}; it has {there}")


def check_every_file(lack: Mapping[str, str], wanted: Wanted, where: str) -> None:
    """Refuse files that lack a key or a time.

    Args:
        lack: column → which files lack it.
        wanted: the columns.
        where: for errors.

    Raises:
        SourceError: naming the first such file.
    """
    for column in (*wanted.keys, *wanted.times):
        if column in lack:
            raise SourceError(f"{where}: {lack[column]}: no column {column!r}; every file must have the keys and times")


def with_twins(schema: pa.Schema, names: Iterable[str]) -> pa.Schema:
    """A schema of DuckDB's and the columns that it renames, since their names differ from others only in case."""
    there = schema.names
    return pa.schema(
        [*schema, *(pa.field(name, pa.null()) for name in names if name not in there and twin(name, there) is not None)]
    )


def schema_of(session: Session, query: str, where: str) -> pa.Schema:
    """The Arrow schema of a query's answer.

    Raises:
        SourceError: it does not run; `where` begins the message.
    """
    try:
        return session.schema_of(query)
    except SourceError as bad:
        raise SourceError(f"{where}: {bad}") from bad


def numbered(columns: str, wanted: Iterable[str]) -> tuple[str, str]:
    """Select items and the column of their rows' numbers: DuckDB's `rowid`, unless a column has that name."""
    if all(name.casefold() != "rowid" for name in wanted):
        return columns, "rowid"
    return f"{columns}, row_number() OVER () - 1 AS {ROW}", ROW


def count_rows(session: Session, table: str) -> int:
    """How many rows a table has."""
    return int(session.fetch(f"SELECT count(*) FROM {table}")[0][0])


def open_table(
    session: Session, table: str, files: Sequence[SourceFile], chosen: Sequence[int], scope: SourceScope
) -> Opened:
    """A table of the rows of some files of text, with the numbers of each row and of its file, opened.

    Args:
        session: the names of one run.
        table: its name.
        files: the source's.
        chosen: which of them it holds.
        scope: which rows a run reads.
    """
    whole = [i for i in chosen if scope.takes_whole(files[i].path)]
    file_rows = {}
    if scope != SourceScope():
        counts = dict(session.fetch(f"SELECT {FILE}, count(*) FROM {table} GROUP BY 1"))
        file_rows = {files[i].path: int(counts.get(i, 0)) for i in whole}
    branches = [Branch(table, bool(whole))]
    if 0 < len(whole) < len(chosen):
        mine = f"{FILE} IN ({', '.join(map(str, whole))})"
        branches = [Branch(table, True, mine), Branch(table, False, f"NOT {mine}")]
    return Opened(
        table,
        pa.schema([field for field in session.schema_of(f"SELECT * FROM {table}") if field.name not in (ROW, FILE)]),
        count_rows(session, table),
        row=ROW,
        branches=tuple(branches),
        file_rows=file_rows,
    )


def split_table(name: str) -> tuple[Branch, ...]:
    """The branches of a table with the column `__whole`."""
    return (Branch(name, True, WHOLE), Branch(name, False, f"NOT {WHOLE}"))
