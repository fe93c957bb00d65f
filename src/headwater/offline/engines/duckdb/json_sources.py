"""JSON files as DuckDB tables: each row's values in the declared dtypes, what does not fit named by file and line."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.clock import from_micros
from headwater.definitions.sources import JSONSource
from headwater.errors import SourceError, printable
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.opened import (
    FILE,
    ROW,
    Opened,
    Session,
    TextTable,
    Wanted,
    check_columns,
    open_table,
)
from headwater.offline.engines.duckdb.words import name_sql
from headwater.offline.engines.duckdb.zones import offset_problem, source_zone
from headwater.offline.files.json_files import read_json_names, read_json_rows
from headwater.offline.files.lacking import check_case, with_files
from headwater.offline.files.local import SourceFile, list_local, root_of
from headwater.planning.local_time import REPEATED, SKIPPED, LocalTimes
from headwater.planning.partitions import Partitions, partitions
from headwater.planning.text_hints import json_time_hint, text_hint
from headwater.planning.text_values import (
    PLAIN,
    clock_change,
    json_value,
    micros_up,
    value_of_text,
    written_time,
)
from headwater.planning.value_rule import Misfit
from headwater.types import DType, String, Timestamp

_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("json", "jsonl", "ndjson") for packed in ("", ".gz", ".zst"))
_BATCH = 20_000
_SAMPLED = 10_000
"""How many rows of each file are looked at for its columns, where they have all that are asked for."""


def json_files(source: JSONSource, folder: Path, where: str) -> list[SourceFile]:
    """The JSON files of a source.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, _SUFFIXES, where)


def json_schema(source: JSONSource, folder: Path, where: str) -> pa.Schema:
    """The columns that any row has; all are text, but those that the source's schema declares."""
    schema = source.schema or {}
    files = json_files(source, folder, where)
    names = _names(source, files, folder, where)
    types = pa.schema([(name, schema[name].arrow if name in schema else pa.string()) for name in names])
    return with_files(types, {name: file for name, file in names.items() if file})


def _names(
    source: JSONSource, files: Sequence[SourceFile], folder: Path, where: str, wanted: Iterable[str] | None = None
) -> dict[str, str]:
    """The columns that any row has, each with the first file that has it, empty where only the schema or folders do.

    Where some are asked for, of later rows only as many are read as it takes to find these.
    """
    names: dict[str, str] = {}
    stated = dict.fromkeys(source.schema or {}, "")
    parts = dict.fromkeys(_parts(source, files, folder).types, "")
    first = None if wanted is None else _SAMPLED
    for file in files:
        for row in itertools.islice(read_json_names(file.location, source.lines, where, _SAMPLED), first):
            for name in row:
                names.setdefault(name, file.location)
    missing = set(wanted or ()) - set(names) - set(parts) - set(stated)
    for file in files if missing else ():
        for row in read_json_names(file.location, source.lines, where, 0):
            for name in row:
                names.setdefault(name, file.location)
            if not (missing := missing.difference(row)):
                break
    return stated | names | {name: file for name, file in parts.items() if name not in names}


def _parts(source: JSONSource, files: Sequence[SourceFile], folder: Path) -> Partitions:
    # a column that a row has is the row's: which those are is not known before all are read
    return partitions([file.location for file in files], root_of(source.location, folder), source.schema or {})


def json_query(session: Session, source: JSONSource, table: TextTable) -> str:
    """All rows of the files as a table of a query.

    Raises:
        SourceError: a file that cannot be read, a value that is not of its dtype.
    """
    folder, where = table.folder, table.where
    files = json_files(source, folder, where)
    schema, names = source.schema or {}, _names(source, files, folder, where)
    wanted = Wanted(values={name: (schema.get(name, String),) for name in names})
    outer = None if source.timezone is not None else table.outer
    chosen = range(len(files)) if table.rows else ()
    loaded, _ = _load(session, source, files, chosen, wanted, folder, where, text=True, outer=outer)
    naive = {name for name, dtype in schema.items() if dtype == Timestamp} if source.timezone is None else set()
    columns = [
        f"make_timestamp(epoch_us({c})) AS {c}" if n in naive else c
        for n, c in zip(names, map(name_sql, names), strict=True)
    ]
    return f"SELECT {', '.join(columns)} FROM {loaded}"


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
    names = _names(source, files, folder, where, wanted.columns)
    check_case(list(names.values()), [[name] for name in names], wanted.columns, where)
    check_columns(pa.schema([(name, pa.string()) for name in names]), wanted.columns, where)
    table, changes = _load(session, source, files, chosen, wanted, folder, where, limit=scope.rows)
    opened = open_table(session, table, files, chosen, scope)
    return replace(opened, repeated_times=changes[REPEATED], skipped_times=changes[SKIPPED])


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
    outer: str | None = None,
) -> tuple[str, Counter[int]]:
    """A table of the rows of some files in their order, with the numbers of row and file.

    With it, how many times are in an hour that a clock change repeats, and how many in one that it skips.

    Args:
        session: the names of one run.
        source: the source.
        files: its files.
        chosen: which of them.
        wanted: the columns.
        folder: the project's folder.
        where: for errors.
        text: whether columns of text hold any value, as JSON.
        limit: how many rows of each file, the first ones; None: all.
        outer: the time zone that a query takes naive times in; None: the source's, or UTC.

    Raises:
        SourceError: naming file, line and column.
    """
    dtypes = {name: wanted.declared(name, "JSON", where) for name in wanted.columns}
    types = [(name, dtype.arrow) for name, dtype in dtypes.items()]
    schema = pa.schema([*types, (ROW, pa.int64()), (FILE, pa.int64())])
    parts, zone = _parts(source, files, folder), source_zone(source)
    changes: Counter[int] = Counter()

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
                    inside = f"{where}: {files[i].location}"
                    _check(values, some, name, dtypes[name], name in wanted.times, inside)
                    if zone is not None and name in wanted.times:
                        texts = (row.get(name, given.get(name)) for _, row in some)
                        changes.update(clock_change(t, PLAIN.times, zone) for t in texts if t is not None)
                    if outer is not None and dtypes[name] == Timestamp:
                        _check_naive(some, name, outer, inside)
                    columns.append(pa.array(values, kind))
                size = len(some)
                columns.append(pa.array(range(first, first + size), pa.int64()))
                columns.append(pa.array([i] * size, pa.int64()))
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
                first += size

    label = session.name("json")
    session.load(label, schema, batches())
    return session.table(label), changes


def _check_naive(rows: Sequence[tuple[str, dict[str, Any]]], name: str, outer: str, where: str) -> None:
    """Refuse times with an offset in a column that stays naive: the query would take them for times of its zone."""
    for place, row in rows:
        text = row.get(name)
        if text is not None and written_time(text, PLAIN.times).offset is not None:
            raise SourceError(f"{where}: {place}, column {name!r}: {offset_problem(text, outer, 'JSONSource')}")


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
            if time or dtype == Timestamp:
                hint = json_time_hint(row.get(name), name)
                what = f"a time (text in ISO 8601{'; ' if hint else ''}{hint})"
            else:
                what = f"{dtype}{_reason(row.get(name), dtype)}"
            raise SourceError(f"{where}: {place}, column {name!r}: {shown} is not {what}")


def _reason(value: Any, dtype: DType) -> str:
    """Why a value of JSON does not fit, where that can be said."""
    if isinstance(value, str) and dtype.name == "bytes":
        return text_hint(value, dtype, PLAIN)
    try:
        json_value(value, dtype)
    except Misfit as misfit:
        return f": {misfit}"
    except ValueError:
        return ""
    return ""
