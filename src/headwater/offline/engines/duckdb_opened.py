"""What a source is once DuckDB can read it: its columns, its row numbers, and which of its rows a run takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.errors import SourceError, nearest
from headwater.offline.engines.duckdb_columns import name_sql
from headwater.types import DType

ROW = "__row"
WHOLE = "__whole"


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

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Make a table of batches; what they raise is raised."""
        ...

    def table(self, name: str) -> str:
        """The full name of a table that `load` makes."""
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
        values: column → dtypes of the features it holds.
    """

    keys: Mapping[str, DType] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    values: Mapping[str, tuple[DType, ...]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Every column, once."""
        return list(dict.fromkeys([*self.keys, *self.times, *self.values]))

    def typed(self, schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
        """Every column with its type in a source."""
        types = dict(zip(schema.names, schema.types, strict=True))
        return [(name, types[name]) for name in self.columns]

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
        schema: its columns, `__row` aside.
        size: the end of its row numbers.
        row: the column of its row numbers.
        lenient: whether its values were Python's own.
        footers: of the Parquet files it reads, where a filter on a time column spares reading; else empty.
        lacking: column → which of its files lack it.
        branches: its rows, in parts that a run reads in different ways; empty: in one, by the times of its rows.
        file_rows: file → how many rows it has, of those that are read whole.
        fixed: whether each statement sees the same rows, whatever becomes of the files.
    """

    name: str
    schema: pa.Schema
    size: int
    row: str = ROW
    lenient: bool = False
    footers: tuple[pq.FileMetaData, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    branches: tuple[Branch, ...] = ()
    file_rows: Mapping[str, int] = field(default_factory=dict)
    fixed: bool = True


def check_columns(schema: pa.Schema, wanted: Sequence[str], where: str) -> None:
    """Refuse a source that lacks a column.

    Raises:
        SourceError: with the nearest name and those there are.
    """
    for name in wanted:
        if name not in schema.names:
            there = ", ".join(n for n in schema.names if not n.startswith("__"))
            raise SourceError(f"{where} has no column {name!r}{nearest(name, schema.names)}; it has {there}")


def schema_of(session: Session, query: str, where: str) -> pa.Schema:
    """The Arrow schema of a query's answer.

    Raises:
        SourceError: it does not run; `where` begins the message.
    """
    try:
        return session.schema_of(query)
    except SourceError as bad:
        raise SourceError(f"{where}: {bad}") from bad


def count_rows(session: Session, table: str) -> int:
    """How many rows a table has."""
    return int(session.fetch(f"SELECT count(*) FROM {table}")[0][0])


def split_table(name: str) -> tuple[Branch, ...]:
    """The branches of a table with the column `__whole`."""
    return (Branch(name, True, WHOLE), Branch(name, False, f"NOT {WHOLE}"))
