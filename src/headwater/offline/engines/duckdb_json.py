"""JSON files as DuckDB tables: each row's values in the declared dtypes, what does not fit named by file and line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.clock import from_micros
from headwater.definitions.sources import JSONSource
from headwater.errors import SourceError, printable
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb_columns import name_sql
from headwater.offline.engines.duckdb_opened import FILE, ROW, Opened, Session, Wanted, check_columns, open_table
from headwater.offline.engines.duckdb_zones import source_zone
from headwater.offline.json_files import read_json_rows
from headwater.offline.local_files import SourceFile, list_local, root_of
from headwater.planning.local_time import LocalTimes
from headwater.planning.partitions import Partitions, partitions
from headwater.planning.text_values import PLAIN, json_value, micros_up, value_of_text
from headwater.types import DType, String

_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("json", "jsonl", "ndjson") for packed in ("", ".gz", ".zst"))
_BATCH = 20_000
_SAMPLED = 10_000
"""How many rows of each file are looked at for its columns."""


def json_files(source: JSONSource, folder: Path, where: str) -> list[SourceFile]:
    """The JSON files of a source.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, _SUFFIXES, where)


def json_schema(source: JSONSource, folder: Path, where: str) -> pa.Schema:
    """The columns in the first rows of each file; all are text, but those that the source's schema declares."""
    schema = source.schema or {}
    files = json_files(source, folder, where)
    names = _names(source, files, folder, where)
    return pa.schema([(name, schema[name].arrow if name in schema else pa.string()) for name in names])


def _names(source: JSONSource, files: Sequence[SourceFile], folder: Path, where: str) -> list[str]:
    names: dict[str, None] = dict.fromkeys(source.schema or {})
    for file in files:
        for _, row in itertools.islice(read_json_rows(file.location, source.lines, where), _SAMPLED):
            names |= dict.fromkeys(row)
    return list(names | dict.fromkeys(_parts(source, files, folder).types))


def _parts(source: JSONSource, files: Sequence[SourceFile], folder: Path) -> Partitions:
    # a column that a row has is the row's: which those are is not known before all are read
    return partitions([file.location for file in files], root_of(source.location, folder), source.schema or {})


def json_query(session: Session, source: JSONSource, folder: Path, where: str) -> str:
    """All rows of the files: text, but the columns that the source's schema declares."""
    files = json_files(source, folder, where)
    schema, names = source.schema or {}, _names(source, files, folder, where)
    wanted = Wanted(values={name: (schema.get(name, String),) for name in names})
    table = _load(session, source, files, range(len(files)), wanted, folder, where, text=True)
    return f"SELECT {', '.join(map(name_sql, names))} FROM {table}"


def open_json(
    session: Session, source: JSONSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope in a table; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read, a column that is missing, a value that is not of its dtype.
    """
    files = json_files(source, folder, where)
    chosen = [i for i, file in enumerate(files) if scope.opens(file.path)]
    if not chosen:
        return None
    names = _names(source, files, folder, where)
    check_columns(pa.schema([(name, pa.string()) for name in names]), wanted.columns, where)
    table = _load(session, source, files, chosen, wanted, folder, where, limit=scope.rows)
    return open_table(session, table, files, chosen, scope)


def _load(
    session: Session,
    source: JSONSource,
    files: Sequence[SourceFile],
    chosen: Sequence[int],
    wanted: Wanted,
    folder: Path,
    where: str,
    *,
    text: bool = False,
    limit: int | None = None,
) -> str:
    """A table of the rows of some files in their order, with the numbers of row and file.

    Raises:
        SourceError: naming file, line and column.
    """
    dtypes = {name: wanted.declared(name, "JSON", where) for name in wanted.columns}
    types = [(name, dtype.arrow) for name, dtype in dtypes.items()]
    schema = pa.schema([*types, (ROW, pa.int64()), (FILE, pa.int64())])
    parts, zone = _parts(source, files, folder), source_zone(source)

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        for i in chosen:
            given = parts.values[i] if parts.values else {}
            rows = itertools.islice(read_json_rows(files[i].location, source.lines, where), limit)
            while some := list(itertools.islice(rows, _BATCH)):
                columns: list[pa.Array] = []
                for name, kind in types:
                    folder_value = _of_folder(given.get(name), dtypes[name], name in wanted.times, zone)
                    values = [
                        _value(row[name], dtypes[name], name in wanted.times, text, zone)
                        if name in row
                        else folder_value
                        for _, row in some
                    ]
                    _check(values, some, name, dtypes[name], name in wanted.times, f"{where}: {files[i].location}")
                    columns.append(pa.array(values, kind))
                size = len(some)
                columns.append(pa.array(range(first, first + size), pa.int64()))
                columns.append(pa.array([i] * size, pa.int64()))
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
                first += size

    label = session.name("json")
    session.load(label, schema, batches())
    return session.table(label)


class _Bad:
    """Stands for a value that is not of its dtype."""


_BAD = _Bad()


def _value(value: Any, dtype: DType, time: bool, text: bool, zone: LocalTimes | None) -> Any:
    try:
        if value is None:
            return None
        if time:
            return from_micros(micros_up(value, PLAIN.times, zone)) if isinstance(value, str) else _BAD
        if text and dtype == String and not isinstance(value, str):
            return json.dumps(value)
        return json_value(value, dtype, zone)
    except ValueError:
        return _BAD


def _of_folder(text: str | None, dtype: DType, time: bool, zone: LocalTimes | None) -> Any:
    """The value that a folder's name gives."""
    if text is None:
        return None
    try:
        return from_micros(micros_up(text, PLAIN.times, zone)) if time else value_of_text(text, dtype, PLAIN, zone)
    except ValueError:
        return _BAD


def _check(
    values: Sequence[Any], rows: Sequence[tuple[str, dict[str, Any]]], name: str, dtype: DType, time: bool, where: str
) -> None:
    for value, (place, row) in zip(values, rows, strict=True):
        if value is _BAD:
            shown = printable(json.dumps(row.get(name), default=str)[:200])
            what = "a time (text in ISO 8601)" if time else str(dtype)
            raise SourceError(f"{where}: {place}, column {name!r}: {shown} is not {what}")
