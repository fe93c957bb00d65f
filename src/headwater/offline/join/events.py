"""The events of a window version, one by one: its rows with keys and times, and the columns that it aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa
from msgspec.structs import replace as replaced
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.offline.base import EventsRequest, ViewInput
from headwater.offline.join.keys import key_table
from headwater.offline.join.relations import BIGINT, Tree, column, key_form, number, table_named
from headwater.offline.join.workspace import Workspace
from headwater.planning.windows.events import event_columns

_ROWS = 65_536


def row_view(view: ViewInput) -> ViewInput:
    """A window version as a plain one, whose features are the columns that its aggregations read."""
    resolved = view.view
    columns = [Feature(name, dtype, column=name) for name, dtype in resolved.view.columns.items()]
    plain = replaced(resolved.view, features=columns, columns={}, ttl=None)
    definition = replace(resolved.definition, view=plain)
    return replace(view, view=replace(resolved, definition=definition, features=plain.feature_list))


def as_rows(view: ViewInput) -> ViewInput:
    """A version as its rows are read: a window version as `row_view`, any other as it is."""
    return view if view.view.windows is None else row_view(view)


def run_events(request: EventsRequest, workspace: Callable[[str], Workspace]) -> Iterator[pa.RecordBatch]:
    """The events asked for; see `OfflineEngine.events`."""
    given = request.view
    if request.source is None:
        given = replace(given, source=None)
    if request.log is None and given.log is not None:
        given = replace(given, log=replace(given.log, parts=(), deletes=None, purges={}))
    plain = row_view(given)
    columns = plain.view.features
    with workspace(f"read {given.view.name}@{given.view.version}") as space:
        rows = space.event_relations(plain, "0", [f.name for f in columns], request.source)
        query = exp.select(exp.Star()).from_(rows.events([f.name for f in columns]).subquery("r", copy=False))
        if request.keys is not None:
            wanted = key_table(request.keys, plain.view.keys)
            space.load("wanted", wanted.schema, iter(wanted.to_batches()))
            same = [column(k, "w").eq(column(k, "r")) for k in rows.key_names]
            query = query.join(table_named(space.table("wanted")).as_("w"), on=exp.and_(*same), join_type="semi")
        for condition in _conditions(request):
            query = query.where(condition)
        keys = [(name, key_form(key.dtype)) for name, key in zip(rows.key_names, plain.view.keys, strict=False)]
        if request.keys_alone:
            named: list[Tree] = [column(k, "r") for k in rows.key_names]
            each = query.select(*(named or [number(1).as_("n")]), append=False)
            schema = pa.schema(keys or [("n", pa.int32())])
            for batch in space.stream(each.distinct(), schema, _ROWS):
                yield _keys(batch, plain)
            return
        if request.transactions_alone:
            yield from _transactions(space, query)
            return
        fixed = [("event", pa.int64()), ("created", pa.int64()), ("origin", pa.int8()), ("position", pa.int64())]
        values = [(f"f{i}", f.dtype.arrow) for i, f in enumerate(columns)]
        ids = [("arrival", pa.int64()), ("event_id", rows.types.get("event_id", pa.string()))]
        schema = pa.schema([*keys, *fixed, *ids, *values])
        # by name: rows of a view without keys have one of no meaning
        query = query.select(*[column(name, "r") for name in schema.names], append=False)
        for batch in space.stream(query, schema, _ROWS):
            yield _shaped(batch, plain, columns)


def _transactions(space: Workspace, rows: exp.Select) -> Iterator[pa.RecordBatch]:
    """The last position of each arrival, and its rows: arrivals of window views are of one transaction each."""
    last = exp.Max(this=column("position", "r"))
    count = exp.cast(exp.Count(this=exp.Star()), BIGINT)
    each = rows.select(last.as_("position"), count.as_("rows"), append=False)
    schema = pa.schema([("position", pa.int64()), ("rows", pa.int64())])
    ordered = each.group_by(column("arrival", "r")).order_by(last.copy())
    for batch in space.stream(ordered, schema, _ROWS):
        yield batch.rename_columns(["__position", "__rows"])


def _conditions(request: EventsRequest) -> Iterator[Tree]:
    position, from_log = column("position", "r"), column("origin", "r").eq(number(1))
    if request.log is not None:
        after, until = request.log
        inside = exp.and_(position > number(after), position.copy() <= number(until))
        # of the log alone one that leaves parts of files unread
        yield inside if request.source is None else exp.or_(exp.Not(this=from_log), inside)
    known = exp.Greatest(this=column("event", "r"), expressions=[column("created", "r")])
    if request.known_until is not None:
        yield known <= number(request.known_until)
    if request.known_after is not None:
        yield known.copy() > number(request.known_after)


def _keys(batch: pa.RecordBatch, view: ViewInput) -> pa.RecordBatch:
    """The join keys of a batch by name; of a view that has none a column of no name, for the number of rows."""
    keys = view.view.keys
    named = {key.name: batch.column(f"k{i}").cast(key.dtype.arrow) for i, key in enumerate(keys)}
    return pa.RecordBatch.from_pydict(named or {"": batch.column(0)})


def _shaped(batch: pa.RecordBatch, view: ViewInput, columns: tuple[Feature, ...]) -> pa.RecordBatch:
    """A batch as `OfflineEngine.events` promises it."""
    named = {key.name: batch.column(f"k{i}").cast(key.dtype.arrow) for i, key in enumerate(view.view.keys)}
    for name in ("event", "created", "origin", "position", "arrival", "event_id"):
        named[f"__{name}"] = batch.column(name)
    called = event_columns((f.name for f in columns), named)
    named |= {called[f.name]: batch.column(f"f{i}").cast(f.dtype.arrow) for i, f in enumerate(columns)}
    return pa.RecordBatch.from_pydict(named)
