"""CSV columns to their declared dtypes, in DuckDB's words; a text that does not cast is told by column and line."""

from __future__ import annotations

import pyarrow as pa

from headwater.offline.engines.duckdb_columns import first_last, name_sql, text_sql, type_name
from headwater.types import DType

_WHOLE = r"^\s*[+-]?\d+(\.0*)?\s*$"
_FINE = r"(\.\d{6})\d+"
_BEYOND = r"\.\d{6}\d*[1-9]"


def cast_text(column: str, dtype: DType) -> str:
    """The value of a column of text, NULL where the text is no such value."""
    sql = name_sql(column)
    if dtype.name == "string":
        return sql
    if dtype.name == "bytes":
        return f"encode({sql})"
    if dtype.name in ("int32", "int64"):
        return f"CASE WHEN regexp_matches({sql}, {text_sql(_WHOLE)}) THEN TRY_CAST({sql} AS {type_name(dtype)}) END"
    if dtype.name == "timestamp":
        return _within(f"CAST(TRY_CAST({sql} AS TIMESTAMPTZ) AS TIMESTAMP)", pa.timestamp("us"))
    if dtype.name == "date":
        day = f"TRY_CAST({sql} AS DATE)"
        return _within(f"CASE WHEN TRY_CAST({sql} AS TIMESTAMP) = {day} THEN {day} END", pa.date32())
    return f"TRY_CAST({sql} AS {type_name(dtype)})"


def cast_time(column: str) -> str:
    """The time in a column of text (ISO 8601; UTC where no zone is written), finer than microseconds rounded up."""
    sql = name_sql(column)
    cut = f"TRY_CAST(regexp_replace({sql}, {text_sql(_FINE)}, {text_sql(chr(92) + '1')}) AS TIMESTAMPTZ)"
    finer = f"CASE WHEN regexp_matches({sql}, {text_sql(_BEYOND)}) THEN 1 ELSE 0 END"
    return _within(f"make_timestamp(epoch_us({cut}) + {finer})", pa.timestamp("us"))


def _within(value: str, kind: pa.DataType) -> str:
    """A time, NULL where it is outside the years 1 to 9999: then the text is not such a value."""
    return f"CASE WHEN {value} BETWEEN {first_last(kind)} THEN {value} END"


def misfits(column: str, cast: str, table: str) -> str:
    """The first row whose text is there but has no value: (row, text)."""
    sql = name_sql(column)
    bad = f"{sql} IS NOT NULL AND ({cast}) IS NULL"
    return f"SELECT __row, {sql} FROM {table} WHERE {bad} ORDER BY __row LIMIT 1"
