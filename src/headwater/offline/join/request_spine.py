"""The spine of a request: rows that were given, those of a query, or a list of the known entities."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from headwater.errors import DataError, SourceError, SpineError, UsageError, brief
from headwater.offline.base import HistoryRequest
from headwater.offline.files.queried import in_project
from headwater.offline.join.entity_spine import EntitySpine, entity_keys
from headwater.offline.join.placed_spine import PlacedSpine
from headwater.offline.join.spine import FORMS, ParquetSpine, Spine, TableSpine
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.spine_query import is_file, spine_query
from headwater.offline.join.workspace import Workspace
from headwater.planning.local_time import NaiveTimes, local_times
from headwater.planning.tables import as_table
from headwater.types import DType

_ROWS = 100_000
_NO_NUMBERS = (
    "bucket=…: the views share no join key, so the number of a row decides, and the rows of a query have none: give a "
    "table or a Parquet file as the spine"
)
"""Why a query has no buckets without keys."""


def request_spine(request: HistoryRequest, workspace: Callable[[str], Workspace], *, folder: Path, base: Path) -> Spine:
    """The spine of a request, checked.

    Args:
        request: what is asked.
        workspace: opens a workspace, for a query.
        folder: where the answer of a query is kept while the spine lives.
        base: the project's folder.

    Raises:
        SpineError: a missing column, a key of another type, an unreadable file, a query that does not run.
        UsageError: there is neither a spine nor an instant, or views have no entities in common.
    """
    keys: dict[str, DType] = {}
    for view in request.views:
        for key in view.view.keys:
            keys.setdefault(key.column, key.dtype)
    bucket = SpineBucket.of(request.bucket, request.views, keys)
    if request.spine is None:
        if request.at is None:
            raise UsageError("without a spine give at=…: the instant at which every known entity is read")
        return EntitySpine(entity_keys(request.views), request.at, request.as_known, bucket)
    with workspace("spine") as space:
        return _given_spine(request, keys, bucket, space, folder, base)


def _given_spine(
    request: HistoryRequest,
    keys: Mapping[str, DType],
    bucket: SpineBucket | None,
    space: Workspace,
    folder: Path,
    base: Path,
) -> Spine:
    """The spine that the user gave: a table, rows, a Parquet path, or SQL.

    Args:
        request: what is asked.
        keys: column → dtype of each join key.
        bucket: only these rows; None: all.
        space: answers SQL.
        folder: where the answer of SQL is kept while the spine lives.
        base: the project's folder, where a relative path is looked for after the working directory.
    """
    given, at, named, timezone = request.spine, request.at, request.timestamp_column, request.timezone
    if at is not None and named is not None:
        raise UsageError("timestamp_column=… and at=… are mutually exclusive: the second is one instant for every row")
    earlier, later = (None if timezone is None else local_times(timezone, later=side) for side in (False, True))
    mixed: dict[str | None, NaiveTimes] = {}

    def settled(name: str) -> NaiveTimes:
        mixed[name] = NaiveTimes(later, dates=False) if name in keys else NaiveTimes(earlier)
        return mixed[name]

    spine: Spine
    text = spine_query(given) if isinstance(given, str) else None
    if text is not None:
        placed = _placed(space, text, request, keys)
        spine = placed or TableSpine(_kept(*_answer(space, text, base), folder), keys, named, at, given)
    elif isinstance(given, (str, Path)):
        spine = ParquetSpine(_file_of(given, base), keys, named, at)
    else:
        try:
            table = as_table(given, "spine", settled)
        except DataError as bad:
            raise SpineError(str(bad)) from bad
        spine = TableSpine(table, keys, named, at, given)
    spine.zone, spine.bucket = timezone, bucket
    if text is not None and bucket is not None and not bucket.keys:
        raise SpineError(_NO_NUMBERS)
    spine.prepare()
    if spine.timestamp_column in mixed:
        times = mixed[spine.timestamp_column]
        spine.repeated, spine.skipped = times.repeated, times.skipped
    return spine


def _answer(space: Workspace, sql: str, base: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches of a query's answer."""
    try:
        sql = in_project(sql, base, "the spine's query")
        space.check_sql(sql, "the spine's query")
    except SourceError as bad:
        raise SpineError(str(bad)) from bad
    try:
        schema, batches = space.schema_of(sql), _named_spine(space.stream_sql(sql, _ROWS))
    except SourceError as bad:
        raise SpineError(f"the spine's query does not run: {bad}") from bad
    # within another query DuckDB renames columns that differ only in case
    first = next(batches, None)
    return (schema, batches) if first is None else (first.schema, itertools.chain([first], batches))


def _named_spine(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The answer to the spine's query, its errors named so: a value that does not cast shows only when it is read."""
    try:
        yield from batches
    except SourceError as bad:
        raise SpineError(f"the spine's query fails: {bad}") from bad


def _placed(space: Workspace, sql: str, request: HistoryRequest, keys: Mapping[str, DType]) -> Spine | None:
    """The spine where the engine holds the rows of a query; None: it does not."""
    try:
        held = space.query_table(sql)
    except SourceError as bad:
        raise SpineError(str(bad)) from bad
    if held is None:
        return None
    return PlacedSpine(held, space.words, keys, request.timestamp_column, request.at, sql)


def _file_of(given: str | Path, base: Path) -> Path:
    for candidate in (Path(given), base / given):
        if is_file(candidate):
            return candidate
    raise SpineError(f"spine {brief(str(given))} is neither SQL nor a file here or in {base}: {FORMS}")


def _kept(schema: pa.Schema, batches: Iterator[pa.RecordBatch], folder: Path) -> pa.Table:
    """An answer in a file that is mapped into memory and has no name any more, so that it is gone with the table."""
    handle, name = tempfile.mkstemp(suffix=".arrow", dir=folder)
    os.close(handle)
    try:
        with pa.OSFile(name, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return pa.ipc.open_file(pa.memory_map(name)).read_all()
    finally:
        Path(name).unlink()
