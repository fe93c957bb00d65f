"""DuckDB's expressions for a source's columns: times as microseconds, keys and features in their dtypes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from sqlglot import exp, parse_one

from headwater.clock import from_micros
from headwater.errors import SourceError
from headwater.offline.join.relations import EventRange, Tree
from headwater.planning.value_rule import BITS, FLOAT32_END, WHOLE
from headwater.types import DType, Float32, Int64, castable, declare_hint, key_castable

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
    return parse_one(sql, dialect="duckdb")


def is_time(given: pa.DataType) -> bool:
    """Whether a column can be an event or created time."""
    return bool(pa.types.is_timestamp(given) or pa.types.is_date(given))


def first_last(kind: pa.DataType) -> str:
    """The first and last time of a type that Python can hold, for BETWEEN."""
    if pa.types.is_date(kind):
        return "DATE '0001-01-01' AND DATE '9999-12-31'"
    if kind.tz is not None:
        return "TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    end = "9999-12-31 23:59:59" + {"s": "", "ms": ".999", "us": ".999999"}[kind.unit]
    return f"CAST('0001-01-01' AS {_TIMES[kind.unit]}) AND CAST('{end}' AS {_TIMES[kind.unit]})"


def micros(name: str, given: pa.DataType, where: str) -> Tree:
    """A time column as microseconds since 1970 (int64), finer times rounded up.

    Raises:
        SourceError: a column that is no time.
    """
    if pa.types.is_null(given):
        return tree("CAST(NULL AS BIGINT)")  # a column of NULLs fits everything: its rows are left out
    sql = name_sql(name)
    if not is_time(given):
        raise SourceError(f"{where}: column {name!r} is {given}, not a timestamp or date; cast it, e.g. in a SQLSource")
    if pa.types.is_timestamp(given) and given.unit == "ns":
        nanos = f"epoch_ns({sql})"
        return tree(f"CASE WHEN {nanos} > 0 THEN ({nanos} - 1) // 1000 + 1 ELSE {nanos} // 1000 END")
    return tree(f"epoch_us({sql})")


def event_range(name: str, given: pa.DataType) -> EventRange:
    """The filter on a time column that DuckDB takes down to row groups and partitions."""
    if pa.types.is_null(given):
        return lambda lower, upper: None
    kind = "DATE" if pa.types.is_date(given) else "TIMESTAMP_NS" if given.unit == "ns" else "TIMESTAMP"
    if pa.types.is_timestamp(given) and given.tz is not None:
        kind = "TIMESTAMPTZ_NS" if given.unit == "ns" else "TIMESTAMPTZ"

    def literal(at: int) -> str | None:
        first, last = _PRUNED
        if not -(2**55) < at < 2**55 or not first < (when := from_micros(at)) < last:
            return None
        text = when.strftime("%Y-%m-%d") if kind == "DATE" else when.strftime("%Y-%m-%d %H:%M:%S.%f")
        return f"CAST('{text}{'+00' if kind.startswith('TIMESTAMPTZ') else ''}' AS {kind})"

    def within(lower: int | None, upper: int | None) -> Tree | None:
        sql = name_sql(name)
        ends = [(">=", None if lower is None else literal(lower - 86_400_000_000 if kind == "DATE" else lower - 1))]
        ends.append(("<=", None if upper is None else literal(upper)))
        conditions = [tree(f"{sql} {sign} {end}") for sign, end in ends if end is not None]
        return exp.and_(*conditions) if conditions else None

    return within


@dataclass(frozen=True)
class Place:
    """What names the rows of a relation in errors.

    Attributes:
        number: by which the session knows the relation's names of its rows.
        row: the expression of a row's number.
    """

    number: int
    row: str

    def sql(self) -> str:
        """The text that `placed` finds."""
        return f" || '{_MARK}{self.number}:' || CAST({self.row} AS VARCHAR) || '>'"


def placed(text: str, names: Sequence[Callable[[int], str]]) -> str:
    """An error's text with the rows that it speaks of as the session names them."""
    return _PLACED.sub(lambda found: f" in {names[int(found[1])](int(found[2]))}", text)


def key(
    name: str, given: pa.DataType, dtype: DType, where: str, place: Place | None = None, *, lenient: bool = False
) -> Tree:
    """A key column in the form that the spine's keys have: integers and timestamps as int64.

    Args:
        name: the column.
        given: its Arrow type.
        dtype: the join key's dtype.
        where: the view, for errors.
        place: names the rows of values that do not fit.
        lenient: whether an integer outside of the join key's range is NULL instead: an earlier release's log may have
            such rows, which no store can take.

    Raises:
        SourceError: a column of another type.
    """
    form = given.value_type if pa.types.is_dictionary(given) else given
    if not key_castable(form, dtype):
        raise SourceError(
            f"{where}: column {name!r} is {given}, but the join key is {dtype}; "
            "headwater never casts a key: cast the column"
        )
    wanted = Int64 if dtype.name == "int32" else dtype
    if pa.types.is_null(form):
        return tree(f"CAST(NULL AS {'BIGINT' if wanted.name == 'timestamp' else type_name(wanted)})")
    if dtype != wanted and not lenient:
        return tree(f"CAST({_checked(name, _cast(name_sql(name), form, dtype), given, dtype, where, place)} AS BIGINT)")
    cast = _cast(name_sql(name), form, wanted)
    if dtype != wanted:
        cast = f"CAST(TRY_CAST({cast} AS {type_name(dtype)}) AS BIGINT)"
    if wanted.name == "timestamp":
        cast = f"epoch_us({cast})"
    return tree(_checked(name, cast, given, wanted, where, place))


def value(name: str, given: pa.DataType, dtype: DType, where: str, place: Place | None = None) -> Tree:
    """A feature's column in its dtype, by the rule of `value_rule.cast_value`; else an error when the value is read.

    Args:
        name: the column.
        given: its Arrow type.
        dtype: the feature's dtype.
        where: the view and feature, for errors.
        place: names the rows of values that do not fit.

    Raises:
        SourceError: a column whose type cannot become the dtype.
    """
    if not castable(given, dtype):
        raise SourceError(f"{where}: column {name!r} is {given}, which does not fit {dtype}{declare_hint(given)}")
    return tree(_checked(name, _cast(name_sql(name), given, dtype), given, dtype, where, place))


def misfit(name: str, given: pa.DataType, dtype: DType) -> str | None:
    """The condition of a column's values that do not fit; None where all of its type do."""
    return _misfit(name_sql(name), given, dtype) if castable(given, dtype) else None


def _checked(name: str, cast: str, given: pa.DataType, dtype: DType, where: str, place: Place | None) -> str:
    """A cast; of a value that does not fit an error."""
    sql = name_sql(name)
    bad = _misfit(sql, given, dtype)
    if bad is None:
        return cast
    before, after = (
        text_sql(f"{FAILED}{where}: column {name!r} ({given}): "),
        text_sql(f" does not fit {dtype}: {_why(given, dtype)}"),
    )
    found = f"left(CAST({sql} AS VARCHAR), {_SHOWN}){'' if place is None else place.sql()}"
    return f"CASE WHEN {bad} THEN error({before} || {found} || {after}) ELSE {cast} END"


def _why(given: pa.DataType, dtype: DType) -> str:
    """What values of a type must be to fit."""
    if pa.types.is_dictionary(given):
        given = given.value_type
    match dtype.name:
        case "embedding":
            return f"{dtype.dim} numbers are required, none of them NULL or beyond float32"
        case "array" if dtype.element is not None:
            return _why(given.value_type, dtype.element)
        case "int32" | "int64":
            whole = "not a whole number below 2**53" if pa.types.is_floating(given) else "not a whole number"
            return f"{'' if pa.types.is_integer(given) else f'{whole}, or '}beyond {BITS[dtype.name] + 1} bits"
        case "float32" | "float64" if pa.types.is_integer(given):
            bits = 24 if dtype.name == "float32" else 53
            return f"an integer beyond 2**{bits}, where a {dtype} does not hold all"
        case "timestamp":
            return "finer than a microsecond"
    return f"beyond the greatest {dtype}"


def _misfit(sql: str, given: pa.DataType, dtype: DType, depth: int = 0) -> str | None:
    """The condition of a value that does not fit; None where all of the type do."""
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given):
        return None
    match dtype.name:
        case "int32" | "int64":
            return _no_integer(sql, given, dtype)
        case "float32" | "float64":
            return _no_float(sql, given, dtype)
        case "timestamp" if pa.types.is_timestamp(given) and given.unit == "ns":
            return f"epoch_ns({sql}) % 1000 <> 0"
        case "array" | "embedding":
            return _no_list(sql, given, dtype, depth)
    return None


def _no_integer(sql: str, given: pa.DataType, dtype: DType) -> str | None:
    bits, wanted = BITS[dtype.name], type_name(dtype)
    if pa.types.is_floating(given):
        end = 2.0 ** min(bits, 53)
        first = ">=" if bits < 53 else ">"
        # the ranges that files state leave out NaN, so that DuckDB may drop comparisons with it
        return f"NOT (isfinite({sql}) AND {sql} = trunc({sql}) AND {sql} {first} {-end!r} AND {sql} < {end!r})"
    if pa.types.is_decimal(given):
        text, whole = f"CAST({sql} AS VARCHAR)", f"TRY_CAST({_before_point(sql, given)} AS {wanted}) IS NULL"
        if given.scale <= 0:
            return f"({sql} IS NOT NULL AND {whole})"
        return f"({sql} IS NOT NULL AND (regexp_matches({text}, '[.][0-9]*[1-9]') OR {whole}))"
    if given.bit_width - pa.types.is_signed_integer(given) <= bits:
        return None
    beyond = f"{sql} > {2**bits - 1}"
    return f"({beyond} OR {sql} < {-(2**bits)})" if pa.types.is_signed_integer(given) else beyond


def _before_point(sql: str, given: pa.DataType) -> str:
    """The text of a whole decimal; DuckDB writes no digit before the point where the type has none."""
    if given.precision == given.scale:
        return f"CASE WHEN {sql} IS NOT NULL THEN '0' END"
    return f"split_part(CAST({sql} AS VARCHAR), '.', 1)"


def _no_float(sql: str, given: pa.DataType, dtype: DType) -> str | None:
    if pa.types.is_integer(given):
        whole = WHOLE[dtype.name]
        if given.bit_width + pa.types.is_unsigned_integer(given) <= whole.bit_length():
            return None
        beyond = f"{sql} > {whole}"
        return f"({beyond} OR {sql} < {-whole})" if pa.types.is_signed_integer(given) else beyond
    if dtype.name == "float32" and pa.types.is_float64(given):
        return f"(isfinite({sql}) AND abs({sql}) >= {FLOAT32_END!r})"
    return None  # of decimals DuckDB holds none beyond 10**38


def _no_list(sql: str, given: pa.DataType, dtype: DType, depth: int) -> str | None:
    element, x = dtype.element or Float32, f"x{depth}"
    conditions = []
    if dtype.name == "embedding":
        conditions += [f"len({sql}) <> {dtype.dim}", f"list_count({sql}) <> {dtype.dim}"]
    if element.name == "float32" and pa.types.is_float64(given.value_type):
        # DuckDB's own cast makes the elements NULL that would be infinite, which is faster than to look at each
        conditions.append(f"list_count(TRY_CAST({sql} AS FLOAT[])) <> list_count({sql})")
    elif (inside := _misfit(x, given.value_type, element, depth + 1)) is not None:
        conditions.append(f"len(list_filter({sql}, LAMBDA {x} : {inside})) > 0")
    return f"({' OR '.join(conditions)})" if conditions else None


def _cast(sql: str, given: pa.DataType, dtype: DType, depth: int = 0) -> str:
    """A value that fits in its dtype."""
    plain = f"CAST({sql} AS {type_name(dtype)})"
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given):
        return plain
    if pa.types.is_decimal(given):
        if dtype.name in ("int32", "int64"):
            return f"CAST({_before_point(sql, given)} AS {type_name(dtype)})"
        # by way of text: DuckDB's own cast rounds more than once
        return f"CAST(CAST({sql} AS VARCHAR) AS {type_name(dtype)})"
    if dtype.name == "timestamp" and pa.types.is_timestamp(given):
        return f"make_timestamp({f'epoch_ns({sql}) // 1000' if given.unit == 'ns' else f'epoch_us({sql})'})"
    if dtype.name in ("array", "embedding"):
        element, x = dtype.element or Float32, f"x{depth}"
        inside = _cast(x, given.value_type, element, depth + 1)
        if inside != f"CAST({x} AS {type_name(element)})":
            return f"CAST(list_transform({sql}, LAMBDA {x} : {inside}) AS {type_name(dtype)})"
    return plain
