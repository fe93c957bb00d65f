"""The events of a window version, one by one: its rows with keys and times, and the columns that it aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
from msgspec.structs import replace as replaced
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.offline.base import EventsRequest, ViewInput
from headwater.offline.join.keys import key_table
from headwater.offline.join.relations import ViewRelations, key_form
from headwater.offline.join.workspace import Each, Workspace
from headwater.offline.trees import BIGINT, Tree, column, number, table_named
from headwater.planning.windows.events import event_columns
from headwater.types import DType

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
    given = _given(request)
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
        if request.keys_alone:
            keys = [(name, key_form(key.dtype)) for name, key in zip(rows.key_names, plain.view.keys, strict=False)]
            named: list[Tree] = [column(k, "r") for k in rows.key_names]
            each = query.select(*(named or [number(1).as_("n")]), append=False)
            schema = pa.schema(keys or [("n", pa.int32())])
            for batch in space.stream(each.distinct(), schema, _ROWS):
                yield _keys(batch, plain)
            return
        if request.transactions_alone:
            yield from _transactions(space, query)
            return
        schema, shape = _schema(rows, plain)
        query = query.select(*[column(name, "r") for name in schema.names], append=False)
        for batch in space.stream(query, schema, _ROWS):
            yield shape(batch)


def run_each_key(
    request: EventsRequest, workspace: Callable[[str], Workspace], function: Each, answer: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """A function over the events of whole keys; see `OfflineEngine.each_key`."""
    plain = row_view(_given(request))
    names = [feature.name for feature in plain.view.features]
    with workspace(f"read {plain.view.name}@{plain.view.version}") as space:
        rows = space.event_relations(plain, "0", names, request.source)
        query = exp.select(exp.Star()).from_(rows.events(names).subquery("r", copy=False))
        for condition in _conditions(request):
            query = query.where(condition)
        schema, shape = _schema(rows, plain)
        query = query.select(*[column(name, "r") for name in schema.names], append=False)
        space.create_by_key("answers", query, schema, rows.key_names, OfEvents(shape, function), answer)
        told = exp.select(*[column(name) for name in answer.names]).from_(table_named(space.table("answers")))
        yield from space.stream(told, answer, _ROWS)


def _given(request: EventsRequest) -> ViewInput:
    """The version with the data that is asked for."""
    given = request.view
    if request.source is None:
        given = replace(given, source=None)
    if request.log is None and given.log is not None:
        given = replace(given, log=replace(given.log, parts=(), deletes=None, purges={}))
    return given


def _schema(rows: ViewRelations, plain: ViewInput) -> tuple[pa.Schema, EventShape]:
    """The columns of the rows of `ViewRelations.events`, and what makes events of them."""
    columns = plain.view.features
    keys = [(name, key_form(key.dtype)) for name, key in zip(rows.key_names, plain.view.keys, strict=False)]
    keys = keys or [("k0", pa.int64())]
    fixed = [("event", pa.int64()), ("created", pa.int64()), ("origin", pa.int8()), ("position", pa.int64())]
    ids = [("arrival", pa.int64()), ("event_id", rows.types.get("event_id", pa.string()))]
    values = [(f"f{i}", f.dtype.arrow) for i, f in enumerate(columns)]
    shape = EventShape(
        tuple((key.name, key.dtype) for key in plain.view.keys), tuple((f.name, f.dtype) for f in columns)
    )
    return pa.schema([*keys, *fixed, *ids, *values]), shape


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


@dataclass(frozen=True)
class EventShape:
    """How the rows of `ViewRelations.events` become what `OfflineEngine.events` promises; values alone.

    Attributes:
        keys: name and dtype of each join key.
        columns: name and dtype of each column of the version.
    """

    keys: tuple[tuple[str, DType], ...]
    columns: tuple[tuple[str, DType], ...]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        named = {name: batch.column(f"k{i}").cast(dtype.arrow) for i, (name, dtype) in enumerate(self.keys)}
        for name in ("event", "created", "origin", "position", "arrival", "event_id"):
            named[f"__{name}"] = batch.column(name)
        called = event_columns((name for name, _ in self.columns), named)
        named |= {called[name]: batch.column(f"f{i}").cast(dtype.arrow) for i, (name, dtype) in enumerate(self.columns)}
        return pa.RecordBatch.from_pydict(named)


@dataclass(frozen=True)
class OfEvents:
    """A function of events, of rows as the query has them."""

    shape: EventShape
    function: Each

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return self.function(self.shape(batch) for batch in batches)
