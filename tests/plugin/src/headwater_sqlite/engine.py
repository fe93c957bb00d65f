"""An offline engine on SQLite: window functions and integers of 64 bits, neither arrays nor NaN nor as-of joins."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from headwater.definitions.source import Source
from headwater.definitions.sources import SQLSource
from headwater.errors import SourceError, StoreError
from headwater.observer import Observer, silent
from headwater.offline.backend import Backend
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join.relations import EngineTable
from headwater.offline.remote import RemoteEngine
from headwater.planning.buckets import text_number
from headwater.planning.local_time import LocalTimes
from headwater.types import DType

_TYPES = {"int32": "INTEGER", "int64": "INTEGER", "bool": "INTEGER", "timestamp": "INTEGER", "date": "INTEGER"}
_TYPES |= {"float32": "REAL", "float64": "REAL", "string": "TEXT", "bytes": "BLOB"}
_DECLARED = {
    "INTEGER": pa.int64(),
    "REAL": pa.float64(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "MICROS": pa.timestamp("us", tz="UTC"),
}
"""What a column of a table is by its declared type; days and microseconds since 1970 are integers."""
_A_DAY = 86_400_000_000


class SQLiteWords:
    """What is in a column has one form a type, so that little is to be said; see `headwater.offline.words.Words`."""

    dialect = "sqlite"

    def type_name(self, dtype: DType) -> str:
        if dtype.name not in _TYPES:
            raise SourceError(f"SQLite has no column of {dtype}: keep such features in files")
        return _TYPES[dtype.name]

    def micros(self, column: exp.Expression, given: pa.DataType, *, up: bool = True) -> exp.Expression:
        return column * _A_DAY if pa.types.is_date(given) else column

    def cast(self, column: exp.Expression, given: pa.DataType, dtype: DType) -> exp.Expression:
        if dtype.name == "timestamp" and pa.types.is_date(given):
            return column * _A_DAY
        return exp.cast(column, self.type_name(dtype), dialect=self.dialect)

    def misfit(self, column: exp.Expression, given: pa.DataType, dtype: DType) -> exp.Expression | None:
        whole = 2**24 if dtype.name == "float32" else 2**53
        if dtype.name == "int32":
            return exp.Not(this=exp.Between(this=column, low=exp.convert(-(2**31)), high=exp.convert(2**31 - 1)))
        if dtype.name in ("float32", "float64") and pa.types.is_integer(given):
            return exp.Not(this=exp.Between(this=column, low=exp.convert(-whole), high=exp.convert(whole)))
        if dtype.name == "int64" and pa.types.is_floating(given):
            text = column.sql(self.dialect, identify=True)
            return parse_one(f"NOT (abs({text}) < {2**53} AND {text} = CAST({text} AS INTEGER))", dialect=self.dialect)
        return None

    def failed(self, before: str, value: exp.Expression, after: str, place: object) -> exp.Expression:
        return exp.func("headwater_failed", exp.Literal.string(before), value, exp.Literal.string(after))

    def time_literal(self, micros: int, given: pa.DataType) -> exp.Expression | None:
        return None

    def instant(self, micros: exp.Expression) -> exp.Expression:
        return micros

    def in_zone(self, local: exp.Expression, zone: LocalTimes) -> None:
        return None  # times are integers there, and so instants

    def key_integer(self, key: exp.Expression, dtype: DType) -> exp.Expression:
        return exp.func("headwater_number", key) if dtype.name in ("string", "bytes") else key


class SQLiteBackend(Backend):
    """One connection, whose temporary tables nobody else sees."""

    words = SQLiteWords()

    def __init__(self, database: str) -> None:
        self.connection = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self.connection.create_function("headwater_failed", 3, self._fail, deterministic=True)
        self.connection.create_function("headwater_number", 1, _number, deterministic=True)
        self._failure: str | None = None

    def create(self, name: str, query: exp.Query) -> None:
        self._run(f'CREATE TEMP TABLE "{name}" AS {self._render(query)}')
        self._index(name)

    def drop(self, name: str) -> None:
        with suppress(StoreError):  # a stream that was left half way still reads it
            self._run(f'DROP TABLE temp."{name}"')

    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        with self._failing():
            return self.connection.execute(self._render(query)).fetchall()

    def batches(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        with self._failing():
            cursor = self.connection.execute(self._render(query))
            while found := cursor.fetchmany(rows):
                columns = zip(zip(*found, strict=True), schema, strict=True)
                yield pa.RecordBatch.from_arrays([_given_back(v, f.type) for v, f in columns], schema=schema)

    def upload(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        columns = ", ".join(f'"{column}"' for column in schema.names)
        self._run(f'CREATE TEMP TABLE "{name}" ({columns})')
        marks = ", ".join("?" for _ in schema)
        for batch in batches:
            values = [_kept(column) for column in batch.columns]
            with self._failing():
                self.connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', zip(*values, strict=True))
        self._index(name)

    def table_of(self, source: Source) -> EngineTable | None:
        """A query of one whole table of the database, named with its schema: `SELECT * FROM main.rides`."""
        table = _own_table(source)
        if table is None:
            return None
        declared = self.connection.execute("SELECT name, type FROM pragma_table_info(?)", [table.name]).fetchall()
        if not declared:
            raise SourceError(f"sqlite: there is no table {table.name!r} in the database")
        unknown = [f"{column} {kind}" for column, kind in declared if kind.upper() not in _DECLARED]
        if unknown:
            raise SourceError(f"sqlite: {table.name!r}: declare {', '.join(unknown)} as one of {', '.join(_DECLARED)}")
        return EngineTable(table, pa.schema([(column, _DECLARED[kind.upper()]) for column, kind in declared]))

    def cancel(self) -> None:
        self.connection.interrupt()

    def close(self) -> None:
        self.connection.close()

    def _index(self, name: str) -> None:
        """SQLite joins by indexes alone: one over what names a row, of whichever kind the table's rows are."""
        columns = {row[1] for row in self.connection.execute(f'PRAGMA temp.table_info("{name}")')}
        for first in (("rn",), ("k0", "ordinal"), ("k0", "place"), ("ordinal",), ("k0",)):
            if columns.issuperset(first):
                names = ", ".join(f'"{column}"' for column in first)
                self._run(f'CREATE INDEX temp."{name}_{"_".join(first)}" ON "{name}" ({names})')

    def _render(self, query: exp.Query) -> str:
        return query.sql(dialect=self.words.dialect, identify=True)

    def _run(self, sql: str) -> None:
        with self._failing():
            self.connection.execute(sql)

    def _fail(self, before: str, value: Any, after: str) -> None:
        self._failure = f"{before}{value}{after}"
        raise ValueError

    @contextmanager
    def _failing(self) -> Iterator[None]:
        self._failure = None
        try:
            yield
        except sqlite3.Error as bad:
            if self._failure is not None:
                raise SourceError(self._failure) from None
            raise StoreError(f"sqlite: {bad}") from bad


class SQLiteEngine(RemoteEngine):
    """The query in SQLite; files, tables in memory and the log are opened by DuckDB.

    Args:
        folder: the project's folder.
        database: the SQLite file whose tables sources may name; None: there are none.
        memory_limit, threads: of DuckDB.
        observer: told how far long statements are.
    """

    def __init__(
        self,
        folder: Path,
        database: str | None = None,
        memory_limit: str | None = None,
        threads: int | None = None,
        *,
        observer: Observer = silent,
    ) -> None:
        super().__init__(DuckDBEngine(folder, memory_limit, threads, observer=observer))
        self._database = ":memory:" if database is None else str(folder / database)

    def connect(self) -> SQLiteBackend:
        return SQLiteBackend(self._database)


def _number(value: str | bytes | None) -> int | None:
    return None if value is None else text_number(value)


def _own_table(source: Source) -> exp.Table | None:
    if not isinstance(source, SQLSource) or source.tables:
        return None
    try:
        query = parse_one(source.query, dialect="sqlite")
    except SqlglotError:
        return None
    table = query.find(exp.Table)
    if table is None or table.db != "main" or query != exp.select("*").from_(table.copy()):
        return None
    return table


def _kept(column: pa.Array) -> list[Any]:
    """Values as SQLite keeps them: numbers and texts as such, floats and lists as bytes, for it has no NaN."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _kept(column.dictionary_decode())
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_date(kind):
        return column.cast(pa.int32()).to_pylist()
    if pa.types.is_nested(kind):
        return _each(column.cast(_numbers(kind)).to_pylist(), msgspec.msgpack.encode)
    values = column.to_pylist()
    return _each(values, lambda value: struct.pack("<d", value)) if pa.types.is_floating(kind) else values


def _given_back(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """The same values in their Arrow type; what tables of the database hold is in its own form already."""
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if pa.types.is_date(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(_each(values, bool), kind)
    if pa.types.is_floating(kind):
        return pa.array(_each(values, lambda v: struct.unpack("<d", v)[0] if isinstance(v, bytes) else v), kind)
    if pa.types.is_nested(kind):
        return pa.array(_each(values, msgspec.msgpack.decode), _numbers(kind)).cast(kind)
    return pa.array(values, kind)


def _numbers(kind: pa.DataType) -> pa.DataType:
    """A type of lists with integers in place of times, which no text stands for."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_numbers(kind.value_type), kind.list_size)
    if pa.types.is_nested(kind):
        return pa.list_(_numbers(kind.value_type))
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return kind


def _each(values: Iterable[Any], change: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else change(value) for value in values]
