"""DuckDB's words for a source's columns: times as microseconds, keys and features in their dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import pyarrow as pa
from sqlglot import exp, parse_one

from headwater.clock import from_micros
from headwater.offline.casts import Casts
from headwater.offline.misfits import Misfits
from headwater.offline.trees import Tree
from headwater.offline.words import Place
from headwater.planning.buckets import DIGITS
from headwater.planning.local_time import LocalTimes
from headwater.planning.value_rule import FLOAT32_END
from headwater.types import DType

FAILED = "headwater:"
"""Begins the text of an error that a query raises by itself, to be shown without DuckDB's words."""

_TYPES = {
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "bytes": "BLOB",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
}
_TIMES = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP"}
_SHOWN = 200
"""How much of a value an error shows."""
_MARK = "<row "
_PLACED = re.compile(r"<row (\d+):(\d+)>")
_PRUNED = (datetime(1700, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def type_name(dtype: DType) -> str:
    """DuckDB's type for a dtype; timestamps are naive, in UTC."""
    if dtype.name == "array":
        assert dtype.element is not None
        return f"{type_name(dtype.element)}[]"
    return f"FLOAT[{dtype.dim}]" if dtype.name == "embedding" else _TYPES[dtype.name]


def name_sql(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_sql(text: str) -> str:
    """A quoted text."""
    return "'" + text.replace("'", "''") + "'"


def tree(sql: str) -> Tree:
    """An expression in DuckDB's own words."""
    return _parsed(sql).copy()


@lru_cache(1024)
def _parsed(sql: str) -> Tree:
    return parse_one(sql, dialect="duckdb")


def first_last(kind: pa.DataType) -> str:
    """The first and last time of a type that Python can hold, for BETWEEN."""
    if pa.types.is_date(kind):
        return "DATE '0001-01-01' AND DATE '9999-12-31'"
    if kind.tz is not None:
        return "TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    end = "9999-12-31 23:59:59" + {"s": "", "ms": ".999", "us": ".999999"}[kind.unit]
    return f"CAST('0001-01-01' AS {_TIMES[kind.unit]}) AND CAST('{end}' AS {_TIMES[kind.unit]})"


class DuckDBWords:
    """See `Words`."""

    dialect = "duckdb"

    def type_name(self, dtype: DType) -> str:
        return type_name(dtype)

    def micros(self, column: Tree, given: pa.DataType, *, up: bool = True) -> Tree:
        sql = _rendered(column)
        if pa.types.is_timestamp(given) and given.unit == "ns":
            nanos = f"epoch_ns({sql})"
            if not up:
                return tree(f"CASE WHEN {nanos} < 0 THEN ({nanos} + 1) // 1000 - 1 ELSE {nanos} // 1000 END")
            return tree(f"CASE WHEN {nanos} > 0 THEN ({nanos} - 1) // 1000 + 1 ELSE {nanos} // 1000 END")
        return tree(f"epoch_us({sql})")

    def cast(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree:
        return tree(_CASTS.cast(_rendered(column), given, dtype))

    def misfit(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree | None:
        found = _MISFITS.condition(_rendered(column), given, dtype)
        return None if found is None else tree(found)

    def failed(self, before: str, value: Tree, after: str, place: Place | None) -> Tree:
        shown = f"left(CAST({_rendered(value)} AS VARCHAR), {_SHOWN}){row_sql(place)}"
        return tree(f"error({text_sql(f'{FAILED}{before}')} || {shown} || {text_sql(after)})")

    def time_literal(self, micros: int, given: pa.DataType) -> Tree | None:
        kind = "DATE" if pa.types.is_date(given) else "TIMESTAMP_NS" if given.unit == "ns" else "TIMESTAMP"
        if pa.types.is_timestamp(given) and given.tz is not None:
            kind = "TIMESTAMPTZ_NS" if given.unit == "ns" else "TIMESTAMPTZ"
        first, last = _PRUNED
        if not -(2**55) < micros < 2**55 or not first < (when := from_micros(micros)) < last:
            return None
        text = when.strftime("%Y-%m-%d") if kind == "DATE" else when.strftime("%Y-%m-%d %H:%M:%S.%f")
        return tree(f"CAST('{text}{'+00' if kind.startswith('TIMESTAMPTZ') else ''}' AS {kind})")

    def instant(self, micros: Tree) -> Tree:
        return tree(f"make_timestamptz({_rendered(micros)})")

    def in_zone(self, local: Tree, zone: LocalTimes) -> tuple[Tree, Tree] | None:
        return None  # where sources are opened, their times are instants already (`zones`)

    def key_integer(self, key: Tree, dtype: DType) -> Tree:
        sql = _rendered(key)
        match dtype.name:
            case "date":
                return tree(f"date_diff('day', DATE '1970-01-01', {sql})")
            case "bool":
                return tree(f"CAST({sql} AS BIGINT)")
        return tree(f"CAST('0x' || left(md5({sql}), {DIGITS}) AS BIGINT)")


WORDS = DuckDBWords()


def _rendered(value: Tree) -> str:
    """A tree as text; a quoted column, as most are, without a generator."""
    alone = type(value) is exp.Column and not any(value.args.get(part) for part in ("table", "db", "catalog"))
    if alone and isinstance(value.this, exp.Identifier) and value.this.quoted:
        return name_sql(value.name)
    return value.sql(dialect="duckdb")


def row_sql(place: Place | None) -> str:
    """What an error's text has behind a value, for `placed` to find; empty where rows have no names."""
    return "" if place is None else f" || '{_MARK}{place.number}:' || CAST({place.row} AS VARCHAR) || '>'"


def placed(text: str, names: Sequence[Callable[[int], str]]) -> str:
    """An error's text with the rows that it speaks of as the session names them."""
    return _PLACED.sub(lambda found: f" in {names[int(found[1])](int(found[2]))}", text)


class _DuckDBMisfits(Misfits):
    """See `Misfits`."""

    def not_whole(self, sql: str, end: int, *, least: bool) -> str:
        first, bound = ">=" if least else ">", float(end)
        # the ranges that files state leave out NaN, so that DuckDB may drop comparisons with it
        return f"NOT (isfinite({sql}) AND {sql} = trunc({sql}) AND {sql} {first} {-bound!r} AND {sql} < {bound!r})"

    def decimal_for_integer(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        whole = f"TRY_CAST({_before_point(sql, given)} AS {type_name(dtype)}) IS NULL"
        if given.scale <= 0:
            return f"({sql} IS NOT NULL AND {whole})"
        return f"({sql} IS NOT NULL AND (regexp_matches(CAST({sql} AS VARCHAR), '[.][0-9]*[1-9]') OR {whole}))"

    def beyond_float32(self, sql: str) -> str:
        return f"(isfinite({sql}) AND abs({sql}) >= {FLOAT32_END!r})"

    def time(self, sql: str, given: pa.DataType, dtype: DType) -> str | None:
        finer = dtype.name == "timestamp" and pa.types.is_timestamp(given) and given.unit == "ns"
        return f"epoch_ns({sql}) % 1000 <> 0" if finer else None

    def embedding(self, sql: str, dim: int) -> list[str]:
        return [f"len({sql}) <> {dim}", f"list_count({sql}) <> {dim}"]

    def elements(self, sql: str, given: pa.DataType, dtype: DType, depth: int) -> str | None:
        if dtype.name == "float32" and pa.types.is_float64(given):
            # DuckDB's own cast makes the elements NULL that would be infinite, which is faster than to look at each
            return f"list_count(TRY_CAST({sql} AS FLOAT[])) <> list_count({sql})"
        return super().elements(sql, given, dtype, depth)

    def any_element(self, sql: str, x: str, condition: str) -> str:
        return f"len(list_filter({sql}, LAMBDA {x} : {condition})) > 0"

    def of_list(self, sql: str, conditions: list[str]) -> str:
        return f"({' OR '.join(conditions)})"


_MISFITS = _DuckDBMisfits()


def _before_point(sql: str, given: pa.DataType) -> str:
    """The text of a whole decimal; DuckDB writes no digit before the point where the type has none."""
    if given.precision == given.scale:
        return f"CASE WHEN {sql} IS NOT NULL THEN '0' END"
    return f"split_part(CAST({sql} AS VARCHAR), '.', 1)"


class _DuckDBCasts(Casts):
    """See `Casts`."""

    def decimal(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        if dtype.name in ("int32", "int64"):
            return self.plain(_before_point(sql, given), dtype)
        # by way of text: DuckDB's own cast rounds more than once
        return self.plain(f"CAST({sql} AS VARCHAR)", dtype)

    def timestamp(self, sql: str, given: pa.DataType) -> str:
        return f"make_timestamp({f'epoch_ns({sql}) // 1000' if given.unit == 'ns' else f'epoch_us({sql})'})"

    def elements(self, sql: str, x: str, inside: str, dtype: DType) -> str:
        return self.plain(f"list_transform({sql}, LAMBDA {x} : {inside})", dtype)


_CASTS = _DuckDBCasts(type_name)
