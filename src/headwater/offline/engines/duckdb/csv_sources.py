"""CSV files as DuckDB tables, their text cast to the declared dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from headwater.definitions.names import REPEATED_IN
from headwater.definitions.sources import CSVSource
from headwater.errors import SourceError
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.csv_casts import casts_of, check_casts, check_naive
from headwater.offline.engines.duckdb.csv_text import CSVFiles, character, described, load_text
from headwater.offline.engines.duckdb.files import files_sql, list_sql
from headwater.offline.engines.duckdb.opened import (
    FILE,
    ROW,
    Opened,
    Session,
    TextTable,
    Wanted,
    check_columns,
    check_every_file,
    open_table,
    schema_of,
)
from headwater.offline.engines.duckdb.text import time_kind
from headwater.offline.engines.duckdb.words import name_sql
from headwater.offline.engines.duckdb.zones import count_changes, source_zone
from headwater.offline.files.csv_files import (
    read_header,
)
from headwater.offline.files.lacking import check_case, first_files, saying, with_files
from headwater.offline.files.local import SourceFile, list_local
from headwater.types import String, Timestamp

_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("csv", "tsv", "tab", "txt") for packed in ("", ".gz", ".zst"))


def csv_files(source: CSVSource, folder: Path, where: str) -> list[SourceFile]:
    """The CSV files of a source.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, _SUFFIXES, where)


def csv_schema(session: Session, source: CSVSource, folder: Path, where: str) -> pa.Schema:
    """The columns of the files; all are text, but those that the source's schema declares."""
    if source.types_found:
        return schema_of(session, _found_types(source, folder, where), where)
    schema = source.query_types
    found = described(source, csv_files(source, folder, where), folder, where)
    types = pa.schema([(name, schema[name].arrow if name in schema else pa.string()) for name in found.names])
    twice = {name: {REPEATED_IN: file.encode()} for name, file in found.repeated.items()}
    types = pa.schema([f.with_metadata(twice[f.name]) if f.name in twice else f for f in types])
    types = saying(types, found.lacking(found.names))
    return with_files(types, first_files([file.location for file in found.files], found.headers))


def csv_query(session: Session, source: CSVSource, table: TextTable) -> str:
    """All rows of the files as a table of a query.

    Raises:
        SourceError: a file that cannot be read, a text that is not of its dtype.
    """
    folder, where = table.folder, table.where
    if source.types_found:
        return _found_types(source, folder, where)
    found = described(source, csv_files(source, folder, where), folder, where)
    schema = source.query_types
    wanted = Wanted(values={name: (schema.get(name, String),) for name in found.names})
    shown = _distinct(found.names)
    outer = None if source.timezone is not None else table.outer
    every = range(len(found.files)) if table.rows else ()
    name, _, _ = _load(session, found, wanted, every, shown=shown, outer=outer)
    _check_headers(found, every)
    instants = set() if source.timezone is None else {name for name, dtype in schema.items() if dtype == Timestamp}
    quoted = [(column, name_sql(as_shown)) for column, as_shown in shown.items()]
    columns = [f"make_timestamptz(epoch_us({c})) AS {c}" if n in instants else c for n, c in quoted]
    return f"SELECT {', '.join(columns)} FROM {name}"


def _found_types(source: CSVSource, folder: Path, where: str) -> str:
    """All rows as an earlier release read them for queries: in the types that DuckDB finds in the text."""
    files = [file.location for file in csv_files(source, folder, where)]
    nulls = list_sql(source.nulls or ("",))
    return (
        f"SELECT * FROM read_csv({files_sql(files)}, header = true, delim = "
        f"{character(source.format.delimiter_of(source.location))}, quote = '\"', escape = '\"', nullstr = {nulls}, "
        "sample_size = -1, hive_partitioning = false)"
    )


def _distinct(names: Sequence[str]) -> dict[str, str]:
    """Names as a query shows them, where two that differ only in case are one: the later is `name_1`."""
    shown: dict[str, str] = {}
    folded: set[str] = set()
    for name in names:
        made, count = name, 0
        while made.casefold() in folded:
            count += 1
            made = f"{name}_{count}"
        folded.add(made.casefold())
        shown[name] = made
    return shown


def open_csv(
    session: Session, source: CSVSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope in a table; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read, a column that is missing, text that is not of its dtype.
    """
    every = csv_files(source, folder, where)
    chosen = [i for i, file in enumerate(every) if scope.opens(file.path)]
    if not chosen:
        return None
    found = described(source, every, folder, where)
    check_case([file.location for file in found.files], found.headers, wanted.columns, where)
    check_columns(pa.schema([(name, pa.string()) for name in found.names]), wanted.columns, where)
    lack = found.lacking(wanted.columns)
    check_every_file(lack, wanted, where)
    table, repeated, skipped = _load(session, found, wanted, chosen, limit=scope.rows)
    _check_headers(found, chosen)
    opened = open_table(session, table, every, chosen, scope)
    return replace(opened, repeated_times=repeated, skipped_times=skipped, lacking=lack)


def _check_headers(found: CSVFiles, chosen: Sequence[int]) -> None:
    """Refuse files whose columns are others than before they were read: the fields would be taken for each other.

    Raises:
        SourceError: naming the file.
    """
    for i in chosen:
        file = found.files[i].location
        if read_header(file, found.source.format, found.where).names != found.headers[i]:
            raise SourceError(f"{found.where}: {file} was replaced by a file of other columns while it was read")


def _load(
    session: Session,
    found: CSVFiles,
    wanted: Wanted,
    chosen: Sequence[int],
    *,
    shown: Mapping[str, str] | None = None,
    limit: int | None = None,
    outer: str | None = None,
) -> tuple[str, int, int]:
    """A table of the rows of some files, in their order: the wanted columns in dtypes, numbers of row and file.

    With it, how many times are in an hour that a clock change repeats, and how many in one that it skips.

    Args:
        session: the names of one run.
        found: the files.
        wanted: the columns.
        chosen: which of the files.
        shown: column → its name in the table, where that is another.
        limit: how many rows, the first ones; None: all.
        outer: the time zone that a query takes naive times in; None: the source's, or UTC.

    Raises:
        SourceError: a file that cannot be read; text that is not of its dtype, of each column the first.
    """
    if shown is None:
        found.check_names(wanted.columns)
    raw = load_text(session, found, wanted.columns, chosen, limit)
    casts, problems = casts_of(session, found, wanted, raw)
    typed = session.name("rows")
    names = {column: name_sql((shown or {}).get(column, column)) for column in casts}
    columns = [*(f"{cast.value} AS {names[column]}" for column, cast in casts.items()), FILE, ROW]
    session.run(f"CREATE TABLE {typed} AS SELECT {', '.join(columns)} FROM {raw} ORDER BY {ROW}")
    check_casts(session, found, raw, typed, {names[column]: cast for column, cast in casts.items()}, problems)
    if outer is not None:
        check_naive(session, found, wanted, raw, outer)
    zone, times = source_zone(found.source), [f"c{i}" for i, c in enumerate(wanted.columns) if c in wanted.times]
    kinds = [] if zone is None else [time_kind(text, found.source.format, zone) for text in times]
    changes = count_changes(session, raw, kinds)
    session.run(f"DROP TABLE {raw}")
    return typed, *changes
