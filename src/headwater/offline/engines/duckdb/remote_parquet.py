"""Parquet files in object stores as DuckDB relations: tables of the rows that are read of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.clock import duration_micros
from headwater.definitions.sources import ParquetSource
from headwater.errors import SourceError
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.mixed import by_type, check_schemas, mixed_columns
from headwater.offline.engines.duckdb.opened import (
    ROW,
    WHOLE,
    Branch,
    Opened,
    Session,
    Wanted,
    check_columns,
    check_every_file,
    count_rows,
    split_table,
)
from headwater.offline.engines.duckdb.parquet_sources import SUFFIXES
from headwater.offline.engines.duckdb.unreadable import checked_batches, checked_text
from headwater.offline.files.lacking import check_case, first_files, saying, with_files
from headwater.offline.files.remote import RemoteFiles, RemoteRows, list_remote, read_all, remote_rows, rows_of, some_of


def list_remote_parquet(source: ParquetSource, where: str) -> RemoteFiles:
    """The Parquet files of a source in an object store."""
    return list_remote(source.location, where, SUFFIXES)


def read_remote(source: ParquetSource, where: str) -> RemoteRows:
    """The rows of a source in an object store: its files are listed, and their footers read."""
    return remote_rows(list_remote_parquet(source, where), where)


def remote_schema(source: ParquetSource, where: str, *, every_file: bool = False) -> pa.Schema:
    """Names and types of the columns of a source in an object store; `every_file` as of one on disk."""
    rows = read_remote(source, where)
    if not every_file:
        return rows.dataset.schema
    return with_files(saying(rows.dataset.schema, rows.lacking), first_files(rows.paths, rows.names))


def show_remote(session: Session, rows: RemoteRows) -> str:
    """What FROM names for all rows of a source in an object store."""
    shown = session.name("remote")
    session.show(shown, rows.dataset)
    return f"(SELECT {checked_text(rows.dataset.schema)} FROM {shown})"


def open_remote(
    session: Session, source: ParquetSource, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope in a table; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read; a column that the source lacks.
    """
    found = list_remote_parquet(source, where)
    rows = remote_rows(found, where)
    dataset = rows.dataset
    check_case(rows.paths, rows.names, wanted.columns, where)
    check_columns(dataset.schema, wanted.columns, where)
    check_schemas(rows.paths, rows.schemas, wanted.columns, where)
    mixed = mixed_columns(rows.paths, rows.schemas, source, wanted, where)
    check_every_file(rows.lacking, wanted, where)
    keys = {found.path_of(file.path): file.path for file in found.files}
    mine = [path for path in keys if scope.opens(path)]
    if not mine:
        return None
    whole = [path for path in mine if scope.takes_whole(path)]
    rest = [path for path in mine if path not in set(whole)]
    given = pa.schema([_with_types(dataset.schema, mixed, wanted, None).field(name) for name in wanted.columns])
    fitted = wanted.fitted(given.empty_table(), where).schema
    schema = fitted.append(pa.field(WHOLE, pa.bool_()))
    parts, file_rows = [], {}
    positions = {path: i for i, path in enumerate(rows.paths)}

    def of_types(paths: Sequence[str]) -> Iterator[Any]:
        """The files in datasets, each of files whose columns have the same types."""
        for group in by_type(mixed, [positions[path] for path in paths]):
            schema = _with_types(dataset.schema, mixed, wanted, group[0])
            yield some_of(dataset, [keys[rows.paths[i]] for i in group], schema)

    if whole:
        some = some_of(dataset, [keys[path] for path in whole]) if len(whole) < len(keys) else dataset
        file_rows = {} if scope == SourceScope() else rows_of(found, some, where)
        parts += [_marked(checked_batches(some, wanted, where), True) for some in of_types(whole)]
    if rest:
        assert scope.known_after is not None
        late = _known_after(source, dataset.schema, scope.known_after)
        parts += [_marked(_late_batches(some, late, wanted, where), False) for some in of_types(rest)]
    name, row = _loaded(session, schema, read_all(found, itertools.chain(*parts), where))
    branches = split_table(name) if whole and rest else (Branch(name, bool(whole)),)
    return Opened(
        name,
        fitted,
        count_rows(session, name),
        row=row,
        lacking={column: files for column, files in rows.lacking.items() if column in wanted.columns},
        branches=branches,
        file_rows=file_rows,
    )


def _loaded(session: Session, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> tuple[str, str]:
    """The name of a table of batches, and of what numbers its rows: DuckDB's own, unless a column has that name."""
    label = session.name("remote")
    row = "rowid" if all(name.casefold() != "rowid" for name in schema.names) else ROW
    if row == ROW:
        schema, batches = schema.append(pa.field(ROW, pa.int64())), _with_numbers(batches)
    session.load(label, schema, batches)
    return session.table(label), row


def _with_types(
    schema: pa.Schema, mixed: Mapping[str, Sequence[pa.DataType | None]], wanted: Wanted, file: int | None
) -> pa.Schema:
    """The columns of all files, those whose types differ in that of one file; None: in what they become."""
    fields = []
    for field in schema.remove_metadata():
        dtype = wanted.one_dtype(field.name) if field.name in mixed else None
        if dtype is not None:
            own = None if file is None else mixed[field.name][file]
            field = pa.field(field.name, own or dtype.arrow)
        fields.append(field.remove_metadata())
    return pa.schema(fields)


def _with_numbers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in batches:
        yield batch.append_column(ROW, pa.array(np.arange(first, first + batch.num_rows)))
        first += batch.num_rows


def _marked(batches: Iterator[pa.RecordBatch], whole: bool) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.append_column(WHOLE, pa.array(np.full(batch.num_rows, whole)))


def _late_batches(dataset: Any, late: Any, wanted: Wanted, where: str) -> Iterator[pa.RecordBatch]:
    """The rows that pass a filter; None: all."""
    try:
        yield from checked_batches(dataset if late is None else dataset.filter(late), wanted, where)
    except SourceError:
        # the row is to be named by its position in the file
        for _ in checked_batches(dataset, wanted, where) if late is not None else ():
            pass
        raise


def _known_after(source: ParquetSource, schema: pa.Schema, known_after: int) -> Any:
    """A filter that every row known after an instant passes, and whole row groups do not; None where there is none."""
    import pyarrow.dataset as ds

    delay = 0 if source.created_time is not None else max(0, duration_micros(source.delay_time))
    late = None
    for name in filter(None, (source.event_time, source.created_time)):
        kind = schema.field(name).type
        if not pa.types.is_timestamp(kind):
            return None
        units = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0}[kind.unit]
        at = known_after - delay
        count = at * 1_000 if not units else at // units
        if not -(2**63) <= count < 2**63:
            return None
        later = ds.field(name) > pa.scalar(count, pa.int64()).cast(kind)
        late = later if late is None else late | later
    return late
