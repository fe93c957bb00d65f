"""DuckDB's expressions for a source's columns: times as microseconds, keys and features in their dtypes."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
from sqlglot import exp, parse_one

from headwater.clock import from_micros
from headwater.errors import SourceError
from headwater.offline.relations import EventRange, Tree
from headwater.types import DType, declare_hint, fits

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


def key(name: str, given: pa.DataType, dtype: DType, where: str) -> Tree:
    """A key column in the form that the spine's keys have: integers and timestamps as int64.

    Raises:
        SourceError: a column of another type; keys are never cast.
    """
    sql = name_sql(name)
    form = given.value_type if pa.types.is_dictionary(given) else given
    if dtype.name in ("int32", "int64") and pa.types.is_integer(form):
        return tree(f"TRY_CAST({sql} AS BIGINT)" if pa.types.is_uint64(form) else f"CAST({sql} AS BIGINT)")
    if dtype.name == "timestamp" and pa.types.is_timestamp(form):
        if form.unit == "ns":
            return tree(f"CASE WHEN epoch_ns({sql}) % 1000 = 0 THEN epoch_ns({sql}) // 1000 END")
        return tree(f"epoch_us({sql})")
    if dtype.name in ("string", "bytes", "bool", "date") and fits(form, dtype):
        return tree(f"CAST({sql} AS {type_name(dtype)})")
    if pa.types.is_null(form):
        return tree(f"CAST(NULL AS {'BIGINT' if dtype.name in ('int32', 'timestamp') else type_name(dtype)})")
    raise SourceError(
        f"{where}: column {name!r} is {given}, but the join key is {dtype}; "
        "headwater never casts a key: cast the column"
    )


def value(name: str, given: pa.DataType, dtype: DType, where: str, *, lenient: bool = False) -> Tree:
    """A feature's column in its dtype; a value that would not survive is an error when it is read.

    Args:
        name: the column.
        given: its Arrow type.
        dtype: the feature's dtype.
        where: the view and feature, for errors.
        lenient: whether the values were Python's own, which have no width: a float may become a float32.

    Raises:
        SourceError: a column whose type cannot become the dtype.
    """
    sql, wanted = name_sql(name), type_name(dtype)
    cast = f"CAST({sql} AS {wanted})"
    if not fits(given, dtype):
        if not (lenient and _python_fits(given, dtype)):
            raise SourceError(
                f"{where}: column {name!r} is {given}, which does not fit {dtype} without loss{declare_hint(given)}"
            )
        if dtype.name == "int32":
            return _checked(name, cast, given, dtype, where)
        return tree(_whole_vector(sql, cast, dtype, name, where))
    if dtype.name == "embedding":
        return tree(_whole_vector(sql, cast, dtype, name, where))
    if dtype.name == "timestamp" and pa.types.is_timestamp(given):
        return tree(_timestamp(sql, given, f"{where}: column {name!r} ({given})"))
    return _checked(name, cast, given, dtype, where) if _may_lose(given, dtype) else tree(cast)


def _timestamp(sql: str, given: pa.DataType, where: str) -> str:
    """A timestamp in microseconds; one between two of them is an error."""
    if given.unit != "ns":
        return f"make_timestamp(epoch_us({sql}))"
    text = text_sql(f"{FAILED}{where} holds a value that timestamp cannot hold exactly: ")
    failed = f"error({text} || CAST({sql} AS VARCHAR))"
    return f"CASE WHEN epoch_ns({sql}) % 1000 <> 0 THEN {failed} ELSE make_timestamp(epoch_ns({sql}) // 1000) END"


def _may_lose(given: pa.DataType, dtype: DType) -> bool:
    """Whether some value of a type that fits does not become the dtype exactly."""
    if dtype.name == "array" and dtype.element is not None and not pa.types.is_null(given):
        return _may_lose(given.value_type, dtype.element)
    if pa.types.is_decimal(given):
        return True
    if dtype.name in ("float32", "float64") and pa.types.is_integer(given):
        bits = given.bit_width + pa.types.is_unsigned_integer(given)
        return bool(bits > (25 if dtype.name == "float32" else 54))
    return bool(dtype.name == "timestamp" and pa.types.is_timestamp(given) and given.unit == "ns") or (
        dtype.name == "date" and pa.types.is_date64(given)
    )


def _checked(name: str, cast: str, given: pa.DataType, dtype: DType, where: str) -> Tree:
    """A cast whose result must turn back into the value."""
    sql = name_sql(name)
    back = f"CAST({cast} AS {_own_type(given)})"
    text = text_sql(f"{FAILED}{where}: column {name!r} ({given}) holds a value that {dtype} cannot hold exactly: ")
    return tree(f"CASE WHEN {back} IS DISTINCT FROM {sql} THEN error({text} || CAST({sql} AS VARCHAR)) ELSE {cast} END")


def _own_type(given: pa.DataType) -> str:
    if pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given):
        return f"{_own_type(given.value_type)}[]"
    if pa.types.is_timestamp(given):
        return "TIMESTAMP_NS" if given.tz is None else "TIMESTAMPTZ_NS"
    if pa.types.is_decimal(given):
        return f"DECIMAL({given.precision}, {given.scale})"
    if pa.types.is_date64(given):
        return "DATE"
    return "HUGEINT"


def _python_fits(given: pa.DataType, dtype: DType) -> bool:
    """Whether Python's ints, floats and lists of them, which came as int64 and float64, fit a narrower dtype."""
    if dtype.name == "int32":
        return bool(pa.types.is_int64(given))
    if dtype.name == "float32":
        return bool(pa.types.is_float64(given))
    if dtype.name == "array":
        assert dtype.element is not None
        is_list = pa.types.is_list(given) or pa.types.is_large_list(given)
        return bool(is_list) and (
            fits(given.value_type, dtype.element) or _python_fits(given.value_type, dtype.element)
        )
    is_list = pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given)
    return bool(dtype.name == "embedding" and is_list and pa.types.is_float64(given.value_type))


def _whole_vector(sql: str, cast: str, dtype: DType, name: str, where: str) -> str:
    """The cast; of an embedding, with its length and elements checked."""
    if dtype.name != "embedding":
        return cast
    text = text_sql(f"{FAILED}{where}: column {name!r} holds a vector that is not {dtype.dim} numbers: ")
    bad = f"len({sql}) <> {dtype.dim} OR list_count({sql}) <> {dtype.dim}"
    return f"CASE WHEN {bad} THEN error({text} || CAST({sql} AS VARCHAR)) ELSE {cast} END"
