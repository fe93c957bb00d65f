"""Writes and deletes over HTTP, without a network: rows and keys as requests, and the report in the reply."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import pyarrow as pa

from headwater.client.calls import Call, Reply, json_body, reading
from headwater.client.reading import JSON, entities_body
from headwater.client.sessions import session_headers
from headwater.clock import YEARS
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.compute.writing.given_rows import given_groups, rejected
from headwater.errors import EntityKeyError, UsageError, brief
from headwater.online.reading.entities import EntityBatch
from headwater.online.session import Session
from headwater.planning.cast import Column, plain
from headwater.planning.data_kinds import is_column
from headwater.planning.python_arrays import array_of_values, refuse_mixed
from headwater.planning.value_checks import NOT_TEXT
from headwater.types import DType, WriteTarget, is_utf8
from headwater.wire.arrow_streams import CONTENT_TYPE, METADATA
from headwater.wire.json_values import NoForm, value_to_json
from headwater.wire.names import DELETE, IDEMPOTENCY_KEY, WRITE, listed

R = TypeVar("R", WriteReport, DeleteReport)


def once_headers() -> dict[str, str]:
    """A key of its own for a write or delete: sent again with it, it is done once."""
    return {IDEMPOTENCY_KEY: secrets.token_hex(16)}


def write_call(
    view: str,
    rows: Any,
    to: WriteTarget | str,
    session: Session | None,
    durability: int,
    errors: str,
    created: str,
    arrow: bool,
) -> Call:
    """The request for a write; see `FeatureStore.write`.

    Raises:
        DataError: rows that are not a table.
        UsageError: a value that cannot be sent.
    """
    fields = {"view": view, "to": str(to), "durability": durability, "errors": errors, "created": created}
    # what is in the online store alone has no place where a key could be kept
    once = str(to) != WriteTarget.ONLINE.value
    headers = session_headers(session) | (once_headers() if once else {})
    groups, count = given_groups(view, rows)
    names = list(dict.fromkeys(name for group in groups for name in group.columns))

    def stream() -> bytes | None:
        columns, absent = _whole(groups, names, count)
        return _stream(fields, columns, absent)

    def document() -> bytes:
        rows = [{n: value_to_json(v) for n, v in row.items()} for row in _rows(groups, count)]
        return json_body({**fields, "rows": rows})

    try:
        body, kind = _body(f"rows of {view!r}", stream, document, arrow)
    except (UsageError, OverflowError):
        _refuse_rows(view, groups, count)
        raise
    return Call("POST", WRITE, body, headers | {"content-type": kind}, repeatable=once)


def _refuse_rows(view: str, groups: Sequence[Any], count: int) -> None:
    """Refuse rows of which some have values that no store takes, in a store's words.

    Raises:
        RowsRejected: it names each.
    """
    problems: dict[int, list[str]] = {}
    for group in groups:
        for name, column in group.columns.items():
            for row, value in zip(group.rows.tolist(), _listed(column), strict=True):
                if why := _never_stored(value):
                    problems.setdefault(row, []).append(f"column {name!r}: {brief(value)} is {why}")
    if problems:
        lines = [f"row {row}: {'; '.join(problems[row])}" for row in sorted(problems)]
        raise rejected(view, lines, len(lines), count)


def _never_stored(value: Any) -> str | None:
    """Why no store takes a value: text that is none, a time that is of no year."""
    if isinstance(value, str):
        return None if is_utf8(value) else NOT_TEXT
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_never_stored, value)), None)
    try:
        if isinstance(value, datetime) and value.tzinfo is not None:
            value.astimezone(UTC)
    except OverflowError:
        return f"{YEARS} in UTC"
    return None


def _body(
    what: str, stream: Callable[[], bytes | None], document: Callable[[], bytes], arrow: bool
) -> tuple[bytes, str]:
    """A body in the form that is wanted, else in the other one where only that can hold the values; and its type.

    Raises:
        UsageError: neither can.
    """
    if arrow and (body := stream()) is not None:
        return body, CONTENT_TYPE
    try:
        return document(), JSON
    except NoForm as bad:
        body = None if arrow else stream()
        if body is None:
            raise UsageError(
                f"{what}: {brief(bad.value)} cannot be sent over HTTP beside other kinds of values"
            ) from None
        return body, CONTENT_TYPE


def _whole(groups: list[Any], names: list[str], count: int) -> tuple[dict[str, Column], dict[str, list[int]]]:
    """The rows as columns, NULL where a row lacks one; and column → the rows that lack it."""
    if len(groups) == 1:
        return groups[0].columns, {}
    columns: dict[str, list[Any]] = {name: [None] * count for name in names}
    absent: dict[str, list[int]] = {}
    for group in groups:
        positions = group.rows.tolist()
        for name in names:
            if name not in group.columns:
                absent.setdefault(name, []).extend(positions)
                continue
            for position, value in zip(positions, group.columns[name], strict=True):
                columns[name][position] = value
    return columns, absent


def _rows(groups: list[Any], count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for group in groups:
        for name, column in group.columns.items():
            for position, value in zip(group.rows.tolist(), _listed(column), strict=True):
                rows[position][name] = value
    return rows


def _listed(column: Column) -> list[Any]:
    return column.to_pylist() if isinstance(column, (pa.Array, pa.ChunkedArray)) else column


def _stream(
    fields: Mapping[str, Any], columns: Mapping[str, Column], absent: Mapping[str, list[int]] | None
) -> bytes | None:
    """Rows as an Arrow IPC stream; None where a column mixes kinds of values, so that Arrow cannot hold it."""
    if not all(map(is_utf8, columns)):
        return None
    try:
        arrays = [_array(name, column) for name, column in columns.items()]
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return None
    document = json_body(fields if absent is None else {**fields, "absent": absent})
    schema = pa.schema(
        [pa.field(name, array.type) for name, array in zip(columns, arrays, strict=True)], {METADATA: document}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _array(name: str, column: Column) -> pa.Array | pa.ChunkedArray:
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return plain(column)
    return array_of_values(column, refuse_mixed, name)


def is_name(name: Any) -> bool:
    """Whether something may be the name of what is registered; others have no path."""
    return isinstance(name, str) and name not in ("", ".", "..") and is_utf8(name)


def named_path(kind: str, name: Any, query: Mapping[str, str] | None = None) -> str:
    """The path of one of a kind of what is registered: `views`, `services` or `entities`."""
    return f"{listed(kind)}/{quote(str(name), safe='')}{'?' + urlencode(query) if query else ''}"


def keys_in(reply: Reply) -> dict[str, DType]:
    """The join keys of a view."""
    with reading(reply):
        document: Any = msgspec.json.decode(reply.body)
        return {name: DType.parse(dtype) for name, dtype in document["join_keys"].items()}


def delete_call(
    view: str, batch: EntityBatch, keys: Mapping[str, DType], purge: bool, session: Session | None, arrow: bool
) -> Call:
    """The request for a delete; see `FeatureStore.delete`.

    Raises:
        EntityKeyError: keys that no store could be asked for.
    """
    body, kind = entities_body({"view": view, "purge": bool(purge)}, batch, keys, arrow)
    return Call("POST", DELETE, body, session_headers(session) | once_headers() | {"content-type": kind})


def raw_delete_call(view: str, entities: Any, purge: bool, session: Session | None, arrow: bool) -> Call:
    """The same for keys that are not those of the live version, by their own types.

    Raises:
        EntityKeyError, UsageError: they have no form of keys.
    """
    fields = {"view": view, "purge": bool(purge)}
    columns = _raw_columns(entities)

    def stream() -> bytes | None:
        return None if columns is None else _stream(fields, columns, None)

    def document() -> bytes:
        listed: Any = value_to_json(entities) if columns is None else None
        named = {name: value_to_json(_listed(column)) for name, column in (columns or {}).items()}
        return json_body({**fields, "entities": listed or named})

    body, kind = _body(f"entities of {view!r}", stream, document, arrow)
    return Call("POST", DELETE, body, session_headers(session) | once_headers() | {"content-type": kind})


def _raw_columns(entities: Any) -> Mapping[str, Column] | None:
    """Keys as columns; None where they are a plain list of values."""
    if isinstance(entities, (list, tuple)) and not all(isinstance(entity, Mapping) for entity in entities):
        return None
    if isinstance(entities, Mapping):
        size = max((len(v) for v in entities.values() if is_column(v)), default=1)
        entities = {name: v if is_column(v) else [v] * size for name, v in entities.items()}
    groups, _ = given_groups("keys", entities)
    if len(groups) != 1:
        raise EntityKeyError("entities: all must have the same join keys")
    return groups[0].columns


def report_in(reply: Reply, kind: type[R]) -> R:
    """The report of a write or delete."""
    with reading(reply):
        report: R = msgspec.json.decode(reply.body, type=kind)
        return report
