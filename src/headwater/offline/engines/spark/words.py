"""Spark's words for the columns of its tables: times as microseconds, keys and features in their dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import gcd

import pyarrow as pa
from sqlglot import parse_one

from headwater.clock import FIRST_MICROS, LAST_MICROS, from_micros
from headwater.offline.casts import Casts
from headwater.offline.misfits import Misfits
from headwater.offline.pieces import Pieces
from headwater.offline.trees import Tree
from headwater.offline.words import Place
from headwater.planning.buckets import DIGITS
from headwater.planning.local_time import LocalTimes
from headwater.planning.value_rule import FLOAT32_END
from headwater.types import DType, Float32, Timestamp

FAILED, FAILED_END = "headwater:<", ">:headwater"
"""Begin and end the text of an error that a query raises by itself, to be shown without Spark's words."""

_TYPES = {
    "int32": "INT",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "string": "STRING",
    "bytes": "BINARY",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
}
_SHOWN = 200
"""How much of a value an error shows."""
_DAY = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31, in days since 1970."""
_FIRST, _LAST = datetime(1700, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Between these every version of Spark reads and compares literals alike."""


def type_name(dtype: DType) -> str:
    """Spark's type for a dtype; timestamps are instants."""
    if dtype.name in ("array", "embedding"):
        return f"ARRAY<{type_name(dtype.element or Float32)}>"
    return _TYPES[dtype.name]


def tree(sql: str) -> Tree:
    """An expression in Spark's own words."""
    return _parsed(sql).copy()


@lru_cache(1024)
def _parsed(sql: str) -> Tree:
    return parse_one(sql, dialect="spark")


def text_sql(text: str) -> str:
    """A quoted text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def name_sql(name: str) -> str:
    """A quoted identifier."""
    return "`" + name.replace("`", "``") + "`"


class SparkWords:
    """See `headwater.offline.words.Words`; the session's time zone is UTC.

    Args:
        any_text: whether text may be bytes that are not UTF-8.
    """

    dialect = "spark"

    def __init__(self, *, any_text: bool) -> None:
        self._misfits = _SparkMisfits(any_text=any_text)

    def type_name(self, dtype: DType) -> str:
        return type_name(dtype)

    def micros(self, column: Tree, given: pa.DataType, *, up: bool = True) -> Tree:
        sql = _rendered(column)
        if pa.types.is_date(given):
            return tree(f"CAST(unix_date({sql}) AS BIGINT) * {_DAY}")
        instant = sql if given.tz is not None else f"CAST({sql} AS TIMESTAMP)"
        return tree(f"unix_micros({instant})")

    def cast(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree:
        return tree(_CASTS.cast(_rendered(column), given, dtype))

    def misfit(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree | None:
        found = self._misfits.condition(_rendered(column), given, dtype)
        return None if found is None else tree(found)

    def failed(self, before: str, value: Tree, after: str, place: Place | None) -> Tree:
        shown = f"left(CAST({_rendered(value)} AS STRING), {_SHOWN})"
        first, last = text_sql(f"{FAILED}{before}"), text_sql(f"{after}{FAILED_END}")
        return tree(f"raise_error(concat({first}, {shown}, {last}))")

    def time_literal(self, micros: int, given: pa.DataType) -> Tree | None:
        if not FIRST_MICROS <= micros <= LAST_MICROS:
            return None
        when = from_micros(micros)
        if not _FIRST < when < _LAST and 1 < when.year < 9999:
            return None
        if pa.types.is_date(given):
            return tree(f"CAST('{when.date()}' AS DATE)")
        if given.tz is not None:
            return tree(f"CAST('{when.date()} {when:%H:%M:%S.%f}Z' AS TIMESTAMP)")
        return tree(f"CAST('{when.date()} {when:%H:%M:%S.%f}' AS TIMESTAMP_NTZ)")

    def instant(self, micros: Tree) -> Tree:
        return tree(f"timestamp_micros({_rendered(micros)})")

    def in_zone(self, local: Tree, zone: LocalTimes) -> tuple[Tree, Tree] | None:
        sql = _rendered(local)
        return tree(_PIECES.instant(sql, zone)), tree(_PIECES.kind(sql, zone))

    def key_integer(self, key: Tree, dtype: DType) -> Tree:
        sql = _rendered(key)
        match dtype.name:
            case "date":
                return tree(f"CAST(unix_date({sql}) AS BIGINT)")
            case "bool":
                return tree(f"CAST(CAST({sql} AS INT) AS BIGINT)")
        return tree(f"CAST(conv(substring(md5(CAST({sql} AS BINARY)), 1, {DIGITS}), 16, 10) AS BIGINT)")


def _rendered(value: Tree) -> str:
    return value.sql(dialect="spark", identify=True)


class _SparkMisfits(Misfits):
    """See `Misfits`."""

    def __init__(self, *, any_text: bool) -> None:
        self._any_text = any_text

    def not_whole(self, sql: str, end: int, *, least: bool) -> str:
        first = ">=" if least else ">"
        # what is left of NaN and of an infinity is NaN
        return f"NOT ({sql} % 1 = 0 AND {sql} {first} -{end}D AND {sql} < {end}D)"

    def decimal_for_integer(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        return f"({sql} IS NOT NULL AND ({sql} % 1 <> 0 OR TRY_CAST({sql} AS {type_name(dtype)}) IS NULL))"

    def beyond_float32(self, sql: str) -> str:
        # a number of 39 digits is more than Spark's decimals have, which a literal would be
        end = f"CAST('{FLOAT32_END!r}' AS DOUBLE)"
        return f"(NOT isnan({sql}) AND abs({sql}) >= {end} AND abs({sql}) < CAST('Infinity' AS DOUBLE))"

    def text(self, sql: str) -> str | None:
        return f"NOT is_valid_utf8({sql})" if self._any_text else None

    def time(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        # Spark has years from -290,000 to 290,000, Python and the embedded engine those of ISO 8601
        if pa.types.is_date(given):
            return f"(unix_date({sql}) < {_FIRST_DAY} OR unix_date({sql}) > {_LAST_DAY})"
        instant = f"unix_micros({sql if given.tz is not None else f'CAST({sql} AS TIMESTAMP)'})"
        return f"({instant} < {_FIRST_DAY * _DAY} OR {instant} >= {(_LAST_DAY + 1) * _DAY})"

    def embedding(self, sql: str, dim: int) -> list[str]:
        return [f"size({sql}) <> {dim}", self.any_element(sql, "x0", "x0 IS NULL")]

    def any_element(self, sql: str, x: str, condition: str) -> str:
        return f"exists({sql}, {x} -> {condition})"

    def of_list(self, sql: str, conditions: list[str]) -> str:
        return f"({sql} IS NOT NULL AND ({' OR '.join(conditions)}))"


class _SparkPieces(Pieces):
    """See `Pieces`."""

    def item(self, numbers: Sequence[int], position: str) -> str:
        # one text, which is divided when a statement is planned: it costs less than a literal each
        unit = gcd(*numbers) or 1
        text = ",".join(str(number // unit) for number in numbers)
        times = f" * {unit}" if unit > 1 else ""
        return f"(element_at(CAST(split('{text}', ',') AS ARRAY<BIGINT>), CAST({position} AS INT)){times})"

    def shifted(self, number: str, bits: int) -> str:
        return f"({number}) DIV {1 << bits}"


class _SparkCasts(Casts):
    """See `Casts`."""

    def decimal(self, sql: str, given: pa.DataType, dtype: DType) -> str:
        if dtype.name in ("float32", "float64"):
            # by way of text, which is rounded once
            return self.plain(f"CAST({sql} AS STRING)", dtype)
        return self.plain(sql, dtype)

    def timestamp(self, sql: str, given: pa.DataType) -> str:
        return self.plain(sql, Timestamp)

    def elements(self, sql: str, x: str, inside: str, dtype: DType) -> str:
        return f"transform({sql}, {x} -> {inside})"


_CASTS = _SparkCasts(type_name)
_PIECES = _SparkPieces()
WORDS, VALID_TEXT_WORDS = SparkWords(any_text=True), SparkWords(any_text=False)
