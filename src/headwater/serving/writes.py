"""`POST /v1/features:write` and `:delete`: as `write` and `delete` take them, reports as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

import pyarrow as pa

from headwater.async_store import AsyncFeatureStore
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.definitions.names import CREATED
from headwater.event_loops import WRITES
from headwater.offline.log.requests import Request as LogRequest
from headwater.online.session import Session
from headwater.planning.resolve import whole_view
from headwater.planning.row_reading import RowVersion
from headwater.serving import idempotency
from headwater.serving.answers import Answer, invalid, json_answer, too_large
from headwater.serving.bodies import DeleteBody, DeleteStream, WriteBody, WriteStream
from headwater.serving.metrics import Metrics
from headwater.serving.values import entities, entity_count, stream_entities, stream_entity_count
from headwater.store import FeatureStore
from headwater.types import DType, Timestamp
from headwater.wire.arrow_streams import MOST_COLUMNS
from headwater.wire.json_values import from_json, read_rows, to_json
from headwater.wire.names import DELETE, WRITE

Body: TypeAlias = WriteBody | WriteStream | DeleteBody | DeleteStream
_Change: TypeAlias = Callable[
    [pa.Table | None, Session | None, LogRequest | None], tuple[WriteReport | DeleteReport, bool]
]


async def change_rows(
    store: AsyncFeatureStore,
    body: Body,
    session: Session | None,
    *,
    most: int,
    metrics: Metrics,
    table: pa.Table | None = None,
    request: LogRequest | None = None,
) -> Answer:
    """The answer to a write or delete: its report.

    Args:
        store: the store.
        body: the request.
        session: advanced in place.
        most: rows of a write, or entities of a delete.
        metrics: counts what is written or deleted.
        table: the rows, or join keys, of an Arrow request.
        request: that it is, where it has an Idempotency-Key.

    Raises:
        HeadwaterError, Refused: as the store says, or a request that means nothing.
    """
    change: _Change
    if isinstance(body, WriteBody | WriteStream):
        route, what, verb, change = WRITE, "rows", "write", partial(_write, store.sync, body)
        count = len(table or ()) if isinstance(body, WriteStream) else _row_count(body.rows)
    else:
        route, what, verb, change = DELETE, "entities", "delete", partial(_delete, store.sync, body)
        given: Any = body.entities
        count = entity_count(given) if table is None else stream_entity_count(table, given)
    if count > most:
        raise too_large(f"{what}: {count:,} in one request, at most {most:,}: {verb} them in parts")
    metrics.batch(route, "", count)
    report, before = await WRITES.run(change, table, session, request)
    answer = json_answer(report_document(report))
    if before:
        answer.headers.append(idempotency.REPEATED)
    return answer


def _write(
    store: FeatureStore,
    body: WriteBody | WriteStream,
    table: pa.Table | None,
    session: Session | None,
    request: LogRequest | None,
) -> tuple[WriteReport, bool]:
    """Write the rows of a request; takes as long as they are many, and as the store takes."""
    options = {"to": body.to, "durability": body.durability, "errors": body.errors, "created": body.created}
    rows: Any
    if isinstance(body, WriteBody):
        rows = _read_rows(store, body)
    else:
        rows = _with_absent(table, body.absent) if body.absent else table
    if isinstance(rows, list):
        _check_sets(rows)
    return idempotency.write(store, request, body.view, rows, session, **options)


_MOST_SETS = 1_000
"""Sets of columns that the rows of a write may have: each set is checked by itself, which takes a millisecond."""


def _check_sets(rows: list[dict[str, Any]]) -> None:
    """Refuse rows with too many different sets of columns."""
    count = len(set(map(frozenset, rows)))
    if count > _MOST_SETS:
        text = f"{count:,} different sets of columns in one request, at most {_MOST_SETS:,}"
        raise too_large(f"rows: {text}: write rows with the same columns together, or send null for what a row lacks")


def _row_count(rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]) -> int:
    return max(map(len, rows.values()), default=0) if isinstance(rows, Mapping) else len(rows)


def _read_rows(store: FeatureStore, body: WriteBody) -> Any:
    """The rows of a JSON request in Python values, by row or by column as they were given."""
    rows, versions = body.rows, row_versions(store, body.view)
    dtypes, times = column_dtypes(versions), _time_columns(versions)
    names = rows.keys() if isinstance(rows, dict) else set[str]().union(*rows)
    if len(names) > MOST_COLUMNS:
        raise too_large(f"rows: {len(names):,} columns in one request, at most {MOST_COLUMNS:,}")
    # a text of another form is a bad value of its row, which the store names with all others
    if isinstance(rows, dict):
        return {
            name: from_json(values, dtypes[name], strict=False, marked=name in times) if name in dtypes else values
            for name, values in rows.items()
        }
    read_rows(rows, dtypes, times)
    return rows


def _with_absent(table: pa.Table, absent: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Rows of which some lack columns."""
    unknown = next((name for name in absent if name not in table.column_names), None)
    if unknown is not None:
        raise invalid(f"absent: the stream has no column {unknown!r}")
    lacking = {name: set(rows) for name, rows in absent.items()}
    beyond = next((row for rows in lacking.values() for row in rows if not 0 <= row < table.num_rows), None)
    if beyond is not None:
        raise invalid(f"absent: the stream has no row {beyond}, its rows are 0 to {table.num_rows - 1}")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return [
        {name: values[row] for name, values in columns.items() if row not in lacking.get(name, ())}
        for row in range(table.num_rows)
    ]


def _delete(
    store: FeatureStore,
    body: DeleteBody | DeleteStream,
    table: pa.Table | None,
    session: Session | None,
    request: LogRequest | None,
) -> tuple[DeleteReport, bool]:
    """Delete the entities of a request."""
    given: Any = body.entities
    join_keys = store.get_feature_view(body.view).join_keys
    keys = entities(given, join_keys) if table is None else stream_entities(table, given, join_keys)
    return idempotency.delete(store, request, body.view, keys, body.purge, session)


def row_versions(store: FeatureStore, view: str) -> list[RowVersion]:
    """The active versions that rows written to a view may be of, the live one first."""
    record = store.registry.snapshot().view(view)
    live = record.version()
    others = [version for version in reversed(record.active) if version is not live]
    return [RowVersion(whole_view(record, version)) for version in (live, *others)]


def column_dtypes(versions: Sequence[RowVersion]) -> dict[str, DType]:
    """The dtypes of the columns that rows written to a view have: its source's own names, and the reserved one.

    Of several versions the first one's counts.
    """
    out: dict[str, DType] = {}
    for version in versions:
        for name, dtype in version.dtypes.items():
            out.setdefault(name, dtype)
    out.setdefault(CREATED, Timestamp)
    return out


def _time_columns(versions: Sequence[RowVersion]) -> frozenset[str]:
    """The columns that are times for every version, and nothing else."""
    names = {CREATED}.union(*(version.dtypes for version in versions))
    return frozenset(
        name
        for name in names
        for kinds in [{dtype for version in versions for dtype in version.needs.get(name, ())}]
        if kinds <= {None, Timestamp} and all(v.dtypes.get(name, Timestamp) == Timestamp for v in versions)
    )


def report_document(report: Any) -> dict[str, Any]:
    """A report of the store's as JSON: its fields, times in their one form."""
    made = {}
    for field in fields(report):
        value = getattr(report, field.name)
        made[field.name] = to_json([value], Timestamp)[0] if isinstance(value, datetime) else value
    return made
