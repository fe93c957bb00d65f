"""The spine of a request: rows that were given, those of a query, or a list of the known entities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from headwater.errors import SourceError, SpineError, UsageError
from headwater.offline.base import HistoryRequest
from headwater.offline.files.queried import in_project
from headwater.offline.join.entity_spine import EntitySpine, entity_keys
from headwater.offline.join.placed_spine import PlacedSpine
from headwater.offline.join.spine import Spine, open_spine
from headwater.offline.join.spine_bucket import SpineBucket
from headwater.offline.join.workspace import Workspace
from headwater.types import DType

_ROWS = 100_000


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
        return open_spine(
            request.spine,
            keys,
            request.timestamp_column,
            request.at,
            query=lambda sql: _answer(space, sql, base),
            place=lambda sql: _placed(space, sql, request, keys),
            folder=folder,
            base=base,
            timezone=request.timezone,
            bucket=bucket,
        )


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


def _placed(space: Workspace, sql: str, request: HistoryRequest, keys: dict[str, DType]) -> Spine | None:
    """The spine where the engine holds the rows of a query; None: it does not."""
    try:
        held = space.query_table(sql)
    except SourceError as bad:
        raise SpineError(str(bad)) from bad
    if held is None:
        return None
    return PlacedSpine(held, space.words, keys, request.timestamp_column, request.at, sql)
