"""CSV files as DuckDB tables: text cast to the declared dtypes, what does not fit named by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from headwater.definitions.sources import CSVSource
from headwater.errors import SourceError
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb_columns import name_sql
from headwater.offline.engines.duckdb_files import CSVFiles
from headwater.offline.engines.duckdb_opened import (
    WHOLE,
    Branch,
    Opened,
    Session,
    Wanted,
    check_columns,
    count_rows,
    schema_of,
    split_table,
)
from headwater.offline.engines.duckdb_text import cast_text, cast_time, misfits
from headwater.offline.local_files import SourceFile, list_local, root_of
from headwater.planning.partitions import Partitions, partition_names, partitions

_SUFFIXES = (".csv", ".csv.gz", ".tsv")
_FILE = "__file"


def csv_files(source: CSVSource, folder: Path, where: str) -> list[SourceFile]:
    """The CSV files of a source.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, _SUFFIXES, where)


def csv_query(session: Session, source: CSVSource, folder: Path, where: str) -> str:
    """All rows of the files, in the types that DuckDB finds in the text."""
    return replace(_scanned(session, source, csv_files(source, folder, where), folder, where), typed=True).query()


def csv_schema(session: Session, source: CSVSource, folder: Path, where: str) -> pa.Schema:
    """The names of the columns; all are text."""
    return schema_of(session, _scanned(session, source, csv_files(source, folder, where), folder, where).query(), where)


def _scanned(session: Session, source: CSVSource, files: Sequence[SourceFile], folder: Path, where: str) -> CSVFiles:
    """The files as DuckDB reads them, with their partitions."""
    found = CSVFiles(source, [file.location for file in files], Partitions())
    root = root_of(source.location, folder)
    if not partition_names(found.files, root):
        return found
    return replace(found, parts=partitions(found.files, root, schema_of(session, found.query(), where).names))


def open_csv(
    session: Session, source: CSVSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope in a table; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read, a column that is missing, text that is not of its dtype.
    """
    files = csv_files(source, folder, where)
    files = [file for file in files if scope.only is None or file.path in scope.only]
    if not files:
        return None
    found = _scanned(session, source, files, folder, where)
    whole = [i for i, file in enumerate(files) if scope.known_after is None or file.path in scope.whole]
    check_columns(session.schema_of(found.query()), wanted.columns, where)
    raw = session.name("csv")
    # the first line of a file is its header, so that its first row stands in line 2
    session.run(
        f"CREATE TABLE {raw} AS SELECT {wanted.selected}, row_number() OVER () + 1 AS __row, {_FILE} "
        f"FROM ({found.query(f'CAST(file_index AS BIGINT) AS {_FILE}')})"
    )
    casts = _casts(session, found, wanted, raw, where)
    typed = session.name("rows")
    columns = [f"{cast} AS {name_sql(column)}" for column, cast in casts.items()] or ["NULL AS nothing"]
    mixed = 0 < len(whole) < len(files)
    if mixed:
        columns.append(f"{_FILE} IN ({', '.join(map(str, whole))}) AS {WHOLE}")
    session.run(f"CREATE TABLE {typed} AS SELECT {', '.join(columns)} FROM {raw} ORDER BY __row")
    file_rows = {} if scope == SourceScope() else _rows_of_files(session, raw, files, whole)
    session.run(f"DROP TABLE {raw}")
    return Opened(
        typed,
        session.schema_of(f"SELECT * FROM {typed}"),
        count_rows(session, typed),
        row="rowid",
        branches=split_table(typed) if mixed else (Branch(typed, bool(whole)),),
        file_rows=file_rows,
    )


def _rows_of_files(session: Session, raw: str, files: Sequence[SourceFile], whole: Sequence[int]) -> dict[str, int]:
    counts = dict(session.fetch(f"SELECT {_FILE}, count(*) FROM {raw} GROUP BY 1"))
    return {files[i].path: int(counts.get(i, 0)) for i in whole}


def _casts(session: Session, found: CSVFiles, wanted: Wanted, raw: str, where: str) -> dict[str, str]:
    """Column → its text in its dtype.

    Raises:
        SourceError: text that has no value of its dtype; all such columns at once.
    """
    casts: dict[str, str] = {}
    problems: list[str] = []
    for column in wanted.columns:
        dtypes = [d for d in (wanted.keys.get(column), *wanted.values.get(column, ())) if d is not None]
        time = column in wanted.times
        if len({str(d) for d in dtypes}) > 1 or (time and any(d.name != "timestamp" for d in dtypes)):
            raise SourceError(
                f"{where}: column {column!r} is declared as {', '.join(map(str, dtypes))}; "
                "a CSV column is cast to one dtype"
            )
        casts[column] = cast_time(column) if time else cast_text(column, dtypes[0])
        what = "a time" if time else str(dtypes[0])
        for row, text in session.fetch(misfits(column, casts[column], raw)):
            file, line = _place_of(session, found, row)
            problems.append(f"{file}: column {column!r}, line {line}: {text!r} is not {what}")
    if problems:
        raise SourceError(f"{where}: {'; '.join(problems)}; correct what is there, or name it in nulls=(…)")
    return casts


def _place_of(session: Session, found: CSVFiles, line: int) -> tuple[str, int]:
    """The file and line of a row of all files, which are read in order; each begins with its header."""
    for file in found.files[:-1]:
        rows = int(session.fetch(f"SELECT count(*) FROM {found.scan([file])}")[0][0])
        if line <= rows + 1:
            return file, line
        line -= rows
    return found.files[-1], line
