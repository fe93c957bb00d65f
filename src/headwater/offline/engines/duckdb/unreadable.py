"""Values of sources that nothing could read back, refused with file, column and row before a query uses them.

Text that is not UTF-8: DuckDB refuses it in Parquet and CSV files, without a column or row; what comes to it from Arrow
it takes unchecked, and a function of text that meets it ends the whole database. Instants outside the years 1 to 9999:
DuckDB holds more of them, and infinite ones, than any reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.clock import FIRST_MICROS, LAST_MICROS, YEARS
from headwater.errors import SourceError, printable
from headwater.offline.engines.duckdb.opened import Wanted
from headwater.offline.engines.duckdb.words import first_last, name_sql
from headwater.offline.files.footers import time_ranges
from headwater.planning.value_checks import Rows, holds_text, holds_time, refuse_not_text, refuse_unreadable, unreadable
from headwater.types import is_list

if TYPE_CHECKING:
    import pyarrow.dataset as ds

Fetch = Callable[[str], list[tuple[object, ...]]]

_IN_A_FILE = re.compile(r'Invalid string encoding found in Parquet file "(.*?)": value', re.DOTALL)


def check_table(table: pa.Table, where: str) -> None:
    """Refuse a table in memory with such a value.

    Raises:
        SourceError: naming column and rows.
    """
    refuse_unreadable(zip(table.column_names, table.columns, strict=True), _column_of(where), SourceError)


def check_input(table: pa.Table, where: str) -> None:
    """Refuse a table in memory that DuckDB cannot take: text that is not UTF-8, instants beyond its microseconds.

    Raises:
        SourceError: naming column and rows.
    """
    columns = list(zip(table.column_names, table.columns, strict=True))
    refuse_not_text(columns, _column_of(where), SourceError)
    # DuckDB holds instants of microseconds that Python does not: a query may do away with them
    coarse = [(n, c) for n, c in columns if pa.types.is_date64(c.type) or getattr(c.type, "unit", "us") in ("s", "ms")]
    refuse_unreadable(coarse, _column_of(where), SourceError)


def check_files(
    files: Sequence[str], footers: Sequence[pq.FileMetaData], columns: Iterable[tuple[str, pa.DataType]], where: str
) -> list[str]:
    """Refuse Parquet files whose statistics show a time outside the years 1 to 9999.

    Args:
        files: their paths.
        footers: of each.
        columns: name and type of the columns that are read.
        where: the view, for errors.

    Returns:
        The columns of times that some file has no statistics of: they are to be looked at.

    Raises:
        SourceError: naming file, column and row.
    """
    times = [name for name, kind in columns if holds_time(kind)]
    unknown: dict[str, None] = {}
    for file, footer in zip(files, footers, strict=True) if times else ():
        for name, found in time_ranges(footer, times):
            if found is None:
                unknown[name] = None
            elif found[0] < FIRST_MICROS or found[1] > LAST_MICROS:
                _refuse_file(file, [name], where)
    return list(unknown)


def look_at_files(
    fetch: Fetch, files: Sequence[str], table: str, columns: Sequence[tuple[str, pa.DataType]], where: str, place: str
) -> None:
    """`check_rows` of Parquet files, the relation `table` of which has a column that says which row it is."""
    try:
        check_rows(fetch, table, columns, where, place)
    except SourceError:
        # milliseconds that DuckDB cannot hold fail without a word of where they are
        for file in files:
            _refuse_file(file, [name for name, _ in columns], where)
        raise


def _refuse_file(file: str, columns: Sequence[str], where: str) -> None:
    """Read a file whole for the first such value in some columns.

    Raises:
        SourceError: naming file, column and row.
    """
    with pq.ParquetFile(file) as opened:
        first = 0
        for batch in opened.iter_batches(columns=list(columns)):
            named = zip(batch.schema.names, batch.columns, strict=True)
            refuse_unreadable(named, _column_of(f"{where}: {file}"), SourceError, first)
            first += batch.num_rows


def check_rows(fetch: Fetch, table: str, columns: Iterable[tuple[str, pa.DataType]], where: str, row: str) -> None:
    """Refuse rows of a relation with a time outside the years 1 to 9999.

    Args:
        fetch: runs a query.
        table: what FROM names.
        columns: name and type of the columns that are looked at.
        where: the view, for errors.
        row: the expression of what says which row it is.

    Raises:
        SourceError: naming column and row.
    """
    beyond = {name: _beyond(name, kind) for name, kind in columns if holds_time(kind)}
    if not beyond:
        return
    anywhere = " OR ".join(beyond.values())
    which = " ".join(f"WHEN {condition} THEN {i}" for i, condition in enumerate(beyond.values()))
    shown = ", ".join(f"CAST({name_sql(name)} AS VARCHAR)" for name in beyond)
    query = f"SELECT {row}, CASE {which} END, {shown} FROM {table} WHERE {anywhere} LIMIT 1"
    for place, i, *values in fetch(query):
        assert isinstance(i, int)
        raise SourceError(f"{where}: column {list(beyond)[i]!r}: {values[i]} in {place} is {YEARS}")


def _beyond(name: str, kind: pa.DataType) -> str:
    """A column holds a time outside the years 1 to 9999, or an infinite one."""
    sql, depth = name_sql(name), 0
    while pa.types.is_dictionary(kind) or is_list(kind):
        depth, kind = depth + is_list(kind), kind.value_type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return "FALSE"
    ends = first_last(kind)
    if not depth:
        return f"({sql} NOT BETWEEN {ends})"
    for _ in range(depth - 1):
        sql = f"flatten({sql})"
    return f"(list_min({sql}) NOT BETWEEN {ends} OR list_max({sql}) NOT BETWEEN {ends})"


def beyond_rows(footers: Sequence[pq.FileMetaData], columns: Sequence[tuple[str, pa.DataType]]) -> str:
    """The condition of rows of files that hold a time outside the years 1 to 9999; empty where there are none."""
    times = {name: kind for name, kind in columns if holds_time(kind)}
    far: dict[str, None] = {}
    for footer in footers if times else ():
        for name, found in time_ranges(footer, times):
            if found is None or found[0] < FIRST_MICROS or found[1] > LAST_MICROS:
                far[name] = None
    return " OR ".join(_beyond(name, times[name]) for name in far)


def checked_batches(dataset: ds.Dataset, wanted: Wanted, where: str) -> Iterator[pa.RecordBatch]:
    """The rows of a dataset of files, in order, in the dtypes wanted; it is read by PyArrow, which checks no text.

    Raises:
        SourceError: naming file, column and row.
    """
    rows: dict[str, int] = {}
    for tagged in dataset.scanner(columns=wanted.columns).scan_batches():
        batch, file = tagged.record_batch, str(getattr(tagged.fragment, "path", ""))
        first = rows.get(file, 0)
        named = zip(batch.schema.names, batch.columns, strict=True)
        refuse_unreadable(named, _column_of(f"{where}: {file}"), SourceError, first)
        rows[file] = first + batch.num_rows
        yield from wanted.fitted(pa.Table.from_batches([batch]), f"{where}: {file}", first).to_batches()


def checked_text(schema: pa.Schema) -> str:
    """Select items of all columns of a relation that PyArrow reads, text of which is refused where it is not UTF-8."""
    return ", ".join(
        f"decode(encode({name_sql(field.name)})) AS {name_sql(field.name)}"
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        else name_sql(field.name)
        for field in schema
    )


def without_unreadable(table: pa.Table) -> tuple[pa.Table, int]:
    """The rows of a table of the log that can be read back, and how many cannot (an earlier release took them)."""
    gone: Rows = None
    for column in table.columns:
        if not (holds_text(column.type) or holds_time(column.type)):
            continue
        found, _ = unreadable(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
        gone = found if gone is None else gone if found is None else gone | found
    return (table, 0) if gone is None else (table.filter(pa.array(~gone)), int(gone.sum()))


def explained(text: str) -> str | None:
    """What DuckDB says of text in a file that is not UTF-8, with the column and row; None for any other error."""
    found = _IN_A_FILE.search(text)
    if found is None:
        return None
    file = found[1]
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
        _refuse_file(file, [field.name for field in schema if holds_text(field.type)], "duckdb")
    except SourceError as bad:
        return str(bad).removeprefix("duckdb: ")
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        pass
    return f"{file}: {printable(text)[:200]}"


def _column_of(where: str) -> Callable[[str], str]:
    return lambda name: f"{where}: column {name!r}"
