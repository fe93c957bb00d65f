"""An engine from its backend: the query runs there; what it does not hold, the embedded engine opens and uploads.

Files, tables in memory, the log and its deletes are local and have one reader, the embedded engine: it puts them into
the query's form, checks their values and hands them over. So a backend needs words for its own tables alone.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
from sqlglot import exp

from headwater import forks
from headwater.clock import duration_micros
from headwater.definitions.sources import ParquetSource, PushSource, Source, SQLSource
from headwater.definitions.view_tables import ViewTable
from headwater.errors import Cancelled, SourceError, listing, nearest
from headwater.offline.backend import Backend
from headwater.offline.base import (
    ChangeCounts,
    ChangesRequest,
    EventsRequest,
    HistoryRequest,
    HistoryRun,
    OfflineEngine,
    SourceScope,
    ViewInput,
)
from headwater.offline.fitting import Columns
from headwater.offline.join.changes import run_changes, run_puts
from headwater.offline.join.deletes import delete_rows
from headwater.offline.join.events import as_rows, run_each_key, run_events
from headwater.offline.join.history import PointInTimeRun
from headwater.offline.join.ids import ids_as
from headwater.offline.join.pit import hidden_rows
from headwater.offline.join.relations import (
    EngineTable,
    Relation,
    Tree,
    ViewRelations,
    ascending,
    big,
    column,
    is_not_null,
    key_form,
    number,
)
from headwater.offline.join.source_check import value_problems
from headwater.offline.join.workspace import CANCELLED, Each, Workspace, conformed
from headwater.offline.remote_queries import in_engine, rows_of_view
from headwater.offline.sink import PutCounts, Sink
from headwater.offline.words import Words
from headwater.planning.files import FileIdentity
from headwater.planning.resolve import ResolvedView

_ROWS = 65_536
_FAR = 2**62
_AGAIN = 0.02
"""Seconds between two calls that end a backend's statement."""


class EmbeddedEngine(Protocol):
    """What a remote engine asks of the embedded one, beside what every engine does."""

    folder: Path

    @property
    def temp_folder(self) -> Path:
        """The folder for temporary files."""
        ...

    def workspace(self, label: str = "") -> Workspace:
        """A run's tables."""
        ...

    def check_view(self, view: ViewInput) -> None:
        """Refuse a source that lacks a column of the view, or holds one in a type that does not fit."""
        ...

    def source_schema(self, source: Source) -> pa.Schema: ...
    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None: ...
    def check_values(self, view: ViewInput, rows: int) -> list[str]: ...
    def close(self) -> None: ...


class RemoteEngine(OfflineEngine):
    """An engine whose runs are in backends of its own; a subclass says how one is connected.

    Args:
        embedded: opens what the backend does not hold; closed with this engine.
    """

    def __init__(self, embedded: EmbeddedEngine) -> None:
        self.embedded = embedded

    @abstractmethod
    def connect(self) -> Backend:
        """A backend for one run."""

    def workspace(self, label: str = "") -> RemoteWorkspace:
        """A run's tables; the label names the step for the observer."""
        return RemoteWorkspace(self.connect(), self.embedded.workspace(label))

    def source_schema(self, source: Source) -> pa.Schema:
        held = self._held(source)
        return self.embedded.source_schema(source) if held is None else held.schema

    def list_files(self, source: Source) -> tuple[FileIdentity, ...] | None:
        return None if self._held(source) is not None else self.embedded.list_files(source)

    def check_values(self, view: ViewInput, rows: int) -> list[str]:
        if view.source is None or self._held(view.source) is None:
            return self.embedded.check_values(view, rows)
        return value_problems(as_rows(view), self.list_files(view.source), rows, self.workspace)

    def history(self, request: HistoryRequest) -> HistoryRun:
        for view in request.views:
            if view.view.windows is not None and not self.windows:
                raise self.no_windows(view)
            held = None if view.source is None else self._held(view.source)
            if held is None or view.source is None:
                self.embedded.check_view(view)
            else:
                read = as_rows(view).view
                with self.workspace() as space:
                    space.forms(read, view.source, held, read.view.feature_names)
        return PointInTimeRun(
            request,
            self.workspace,
            folder=self.embedded.temp_folder,
            base=self.embedded.folder,
            files=self.files_in_place,
        )

    def files_in_place(self, source: Source) -> Sequence[FileIdentity]:
        """What identifies the files of a source that statements read where they are."""
        return ()

    def changes(self, request: ChangesRequest, counts: ChangeCounts) -> Iterator[pa.RecordBatch]:
        return run_changes(request, counts, self.workspace)

    def events(self, request: EventsRequest) -> Iterator[pa.RecordBatch]:
        if not self.windows:
            raise self.no_windows(request.view)
        return run_events(request, self.workspace)

    def each_key(self, request: EventsRequest, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        if not self.windows:
            raise self.no_windows(request.view)
        return run_each_key(request, self.workspace, function, answer)

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        return run_puts(request, counts, self.workspace, sink)

    def close(self) -> None:
        self.embedded.close()

    def _held(self, source: Source) -> EngineTable | None:
        if isinstance(source, PushSource):
            return None
        with self.workspace() as space:
            return space.table_of(source, rows=False)


class RemoteWorkspace:
    """One run's tables in a backend; see `Workspace`.

    Args:
        backend: where the query runs; closed with this.
        embedded: opens what the backend does not hold, and settles ties unless the backend can.
    """

    def __init__(self, backend: Backend, embedded: Workspace) -> None:
        self.backend = backend
        self.words = backend.words
        self.powers = backend.powers
        self._own: list[str] = []
        self._embedded = embedded
        self._lock, self._running, self._cancelled = forks.lock(), dict[object, None](), False
        self._names = itertools.count()
        # temporary tables of several runs may share one room
        self._prefix = f"hw_{secrets.token_hex(6)}"

    @property
    def statements(self) -> Sequence[str]:
        return [*self._embedded.statements, *self._own]

    @property
    def settler(self) -> Workspace:
        return self if self.powers.settles_ties else self._embedded

    def table(self, name: str) -> str:
        return f"{self._prefix}_{name}"

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        with self._statement():
            self.backend.upload(self.table(name), schema, conformed(batches, schema))

    def create(self, name: str, query: exp.Query) -> None:
        for window in query.find_all(exp.Window):
            if isinstance(window.this, exp.RowNumber) and window.args.get("order") is None:
                # most engines number rows in any order only where the order says so
                window.set("order", ascending([exp.Null()]))
        self._own.append(f"CREATE TABLE {self.table(name)} AS {self._shown(query)}")
        with self._statement():
            self.backend.create(self.table(name), query)

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        self._own.append(f"CREATE TABLE {self.table(name)} AS {type(function).__name__} OF {self._shown(query)}")
        with self._statement():
            self.backend.create_by_key(self.table(name), query, schema, keys, function, answer)

    def drop(self, *tables: str) -> None:
        with self._statement():
            for table in tables:
                self.backend.drop(table)

    def rows(self, query: exp.Query) -> list[tuple[object, ...]]:
        self._own.append(self._shown(query))
        with self._statement():
            return self.backend.rows(query)

    def stream(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        self._own.append(self._shown(query))
        return self._streamed(self.backend.batches(query, schema, rows))

    def each(self, query: exp.Query, schema: pa.Schema, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        self._own.append(self._shown(query))
        return self._streamed(self.backend.each(query, schema, function, answer))

    def _streamed(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        while True:
            with self._statement():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            running = bool(self._running)
        self._embedded.cancel()
        if running:
            # not on this thread, which may be the very one that reads
            threading.Thread(target=self._end_statements, name="headwater-cancel", daemon=True).start()

    def _end_statements(self) -> None:
        while self._running:
            with suppress(Exception):
                self.backend.cancel()
            time.sleep(_AGAIN)

    @contextmanager
    def _statement(self) -> Iterator[None]:
        """A statement that `cancel` ends.

        Raises:
            Cancelled: it did, or had been called before.
        """
        me = object()
        try:
            with self._lock:
                if self._cancelled:
                    raise Cancelled(CANCELLED)
                self._running[me] = None
            yield
        except Exception as bad:
            if self._cancelled:
                raise Cancelled(CANCELLED) from bad
            raise
        finally:
            # in one step, which Ctrl-C cannot divide
            self._running.pop(me, None)

    def _shown(self, query: exp.Query) -> str:
        return _sql(query, self)

    def schema_of(self, sql: str) -> pa.Schema:
        return self._embedded.schema_of(sql)

    def check_sql(self, sql: str, where: str) -> None:
        self._embedded.check_sql(sql, where)

    def stream_sql(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        return self._embedded.stream_sql(sql, rows)

    def table_of(self, source: Source | None, *, rows: bool = True) -> EngineTable | None:
        """A source whose rows the engine holds; None: it is another's.

        Args:
            source: the source, with the data of the views that it reads.
            rows: whether those views have their rows; else they are there to be looked at.

        Raises:
            SourceError: a query of which the engine holds some tables only, or that it cannot run.
        """
        if source is None or isinstance(source, PushSource):
            return None

        def of_view(table: ViewTable) -> Source:
            return self._view_source(table, rows=rows)

        def holds(one: Source) -> bool:
            # files that it reads where they are are not its own
            return not isinstance(one, ParquetSource) and self.backend.table_of(one) is not None

        return self.backend.table_of(in_engine(source, holds, of_view))

    def _view_source(self, table: ViewTable, *, rows: bool) -> Source:
        """A query of a table with all rows of a view."""
        name = f"view_{next(self._names)}"
        if not rows:
            schema = pa.schema([(each, dtype.arrow) for each, dtype in table.columns.items()])
            self.load(name, schema, iter(()))
        elif isinstance(table.rows, ViewInput):
            features = [feature.name for feature in table.features]
            relations = self.event_relations(table.rows, name, features)
            self.create(name, rows_of_view(table, relations, self.words))
        else:
            raise SourceError(f"view {table.view.name!r} has its rows in a store; apply the views, then read")
        return SQLSource(f"SELECT * FROM {self.table(name)}")

    def query_table(self, sql: str) -> EngineTable | None:
        return self.backend.table_of(SQLSource(sql))

    def skipped_rows(self, view: ViewInput, after: int, until: int) -> int:
        return self._embedded.skipped_rows(view, after, until)

    def __enter__(self) -> RemoteWorkspace:
        self._embedded.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.backend.close()
        finally:
            self._embedded.__exit__(*exc)

    def view_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        return self._hiding(self._relations(view, label, features, scope), view, label)

    def event_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        rows = self._relations(view, label, features, scope, numbered=False)
        ids = [part.event_id or part.stated_id for part in (rows.source, *rows.log) if part is not None]
        if not any(ids):
            # a column of NULLs alone must have a type too
            absent = exp.cast(exp.Null(), "text")
            source = None if rows.source is None else replace(rows.source, event_id=absent)
            rows = replace(rows, source=source, log=tuple(replace(part, stated_id=absent) for part in rows.log))
        return self._with_deletes(rows, view, label)

    def _relations(
        self,
        view: ViewInput,
        label: str,
        features: Sequence[str],
        scope: SourceScope | None,
        *,
        numbered: bool = True,
    ) -> ViewRelations:
        """All rows; those of a table that the engine holds have a number of their own where that is asked for."""
        source, resolved = view.source, view.view
        held = self.table_of(source)
        # which keys have deletes is asked of all rows, wherever they are
        log = None if view.log is None else replace(view.log, deletes=None, purges={})
        local = replace(view, log=log) if held is None else replace(view, source=None, log=log)
        rows = self._embedded.view_relations(local, label, features, scope)
        keys = [(f"k{i}", key_form(key.dtype)) for i, key in enumerate(resolved.keys)] or [("k0", pa.int64())]
        rows = replace(rows, types=dict(keys))
        parts, whole = rows.log, rows
        if held is not None and source is not None:
            place = self._placed if numbered else self._in_place
            rows = place(f"rows_{label}", replace(rows, log=()), resolved, source, held, features, scope)
        elif rows.source is not None:
            rows = self._uploaded(f"rows_{label}", replace(rows, log=()), resolved, features)
        for i, part in enumerate(parts):
            log_rows = replace(whole, source=None, log=(part,), types=rows.types)
            log_rows = self._uploaded(f"log_{label}_{i}", log_rows, resolved, features)
            rows = replace(rows, log=(*(rows.log if i else ()), *log_rows.log), types=log_rows.types)
        return rows

    def _uploaded(self, name: str, rows: ViewRelations, view: ResolvedView, features: Sequence[str]) -> ViewRelations:
        """The same rows, those of one relation, in a table of the backend."""
        (part,) = [part for part in (rows.source, *rows.log) if part is not None]
        dtypes = {feature.name: feature.dtype for feature in view.view.feature_list}
        keys = [(name, rows.types[name]) for name in rows.key_names]
        schema = pa.schema([*keys, *[(n, pa.int64()) for n in ("event", "created", "ordinal")]])
        for i, feature in enumerate(features):
            schema = schema.append(pa.field(f"f{i}", dtypes[feature].arrow))
        ids = "event_id" if part.event_id is not None else "stated_id" if part.stated_id is not None else None
        more = [name for name in ("event_id", "arrival", "stated_id") if getattr(part, name) is not None]
        query = rows.narrow(nulls=True, features=features, more=more)
        schema = pa.schema([*schema, *[(each, pa.int64()) for each in more if each == "arrival"]])
        batches = self._embedded.stream(query, schema, _ROWS)
        if ids is not None:
            first = next(batches, None)
            given = self._embedded.schema_of(_sql(query, self._embedded)) if first is None else first.schema
            kind = rows.types.get("event_id", given.field(ids).type)
            where = f"view {view.name!r} ({view.version}), event_id {view.view.source.event_id!r}"
            batches = ids_as(itertools.chain([] if first is None else [first], batches), ids, kind, where)
            schema = schema.append(pa.field(ids, kind))
            rows = replace(rows, types={**rows.types, "event_id": kind})
        self.load(name, schema, batches)
        found = replace(
            part,
            table=exp.to_table(self.table(name)),
            ordinal=column("ordinal"),
            keys=tuple(column(f"k{i}") for i in range(len(part.keys))),
            event=None if part.event is None else column("event"),
            created=None if part.created is None else column("created"),
            features={feature: column(f"f{i}") for i, feature in enumerate(features)},
            event_id=None if part.event_id is None else column("event_id"),
            arrival=None if part.arrival is None else column("arrival"),
            stated_id=None if part.stated_id is None else column("stated_id"),
            event_range=None,
            seekable=False,
            fixed=True,
        )
        return replace(rows, source=found) if rows.source is not None else replace(rows, log=(found,))

    def forms(self, view: ResolvedView, source: Source, held: EngineTable, features: Sequence[str]) -> dict[str, Tree]:
        """The columns of a table that the engine holds, in the query's form: k0…, event, created, f0…, event_id.

        Raises:
            SourceError: a column that is missing, or of a type that does not fit.
        """
        where = f"view {view.name!r} ({view.version})"
        types = dict(zip(held.schema.names, held.schema.types, strict=True))
        chosen = [view.view.feature(name) for name in features]
        times = [t for t in (source.event_time, source.created_time) if t is not None]
        ids = [] if source.event_id is None else [source.event_id]
        for name in (*[k.source_column for k in view.keys], *times, *[f.source_column for f in chosen], *ids):
            if name not in types:
                raise SourceError(
                    f"{where}: its source has no column {name!r}{nearest(name, types)}; it has {listing(types)}"
                )
        naive = [t for t in times if pa.types.is_timestamp(types[t]) and types[t].tz is None]
        if source.timezone is not None and naive:
            raise SourceError(
                f"{where}: column {naive[0]!r} holds naive times, and this engine takes those as UTC alone: "
                "make them instants in the table or the query, and leave timezone= out"
            )
        columns = Columns(self.words, types, where)
        found = {f"k{i}": columns.key(k.source_column, k.dtype) for i, k in enumerate(view.keys)}
        found = found or {"k0": exp.cast(number(0), "bigint")}
        for name, time_column in (("event", source.event_time), ("created", source.created_time)):
            if time_column is not None:
                found[name] = columns.time(time_column)
        found |= {f"f{i}": columns.value(f.source_column, f.dtype, f.name) for i, f in enumerate(chosen)}
        return found | ({} if source.event_id is None else {"event_id": column(source.event_id)})

    def _null_times_of(self, taken: exp.Select, forms: Mapping[str, Tree]) -> int:
        """How many of a query's rows have no event time, or no created time where there is one."""
        nulls = [exp.Not(this=is_not_null(column(n, "x"))) for n in ("event", "created") if n in forms]
        if not nulls:
            return 0
        count = exp.select(exp.Count(this=exp.Star())).from_(taken.copy().subquery("x"))
        found: int = int(self.rows(count.where(exp.or_(*nulls)))[0][0])  # type: ignore[call-overload]
        return found

    def _placed(
        self,
        name: str,
        rows: ViewRelations,
        view: ResolvedView,
        source: Source,
        held: EngineTable,
        features: Sequence[str],
        scope: SourceScope | None,
    ) -> ViewRelations:
        """A source that the engine holds, in the query's form, its rows numbered within their keys: one table."""
        forms = self.forms(view, source, held, features)
        taken = exp.select(*[form.as_(n, quoted=True) for n, form in forms.items()]).from_(held.table.copy())
        if scope is not None and scope.rows is not None:
            taken = taken.limit(scope.rows)
        null_times = self._null_times_of(taken, forms)
        keys = [column(k, "x") for k in rows.key_names]
        times = [column(n, "x") for n in ("event", "created") if n in forms]
        order = ascending(times or [keys[0].copy()])
        place = exp.Window(this=exp.RowNumber(), partition_by=keys, order=order) - number(1)
        numbered = exp.select(*[column(n, "x") for n in forms], place.as_("ordinal")).from_(taken.subquery("x"))
        known_after = None if scope is None else scope.known_after
        if known_after is not None:
            numbered = numbered.where(_known(source, rows) > number(known_after) if times else exp.false())
        self.create(name, numbered)
        table = exp.to_table(self.table(name))
        last = self.rows(exp.select(exp.Max(this=column("ordinal"))).from_(table.copy()))[0][0]
        relation = Relation(
            table=table,
            ordinal=column("ordinal"),
            size=int(last or 0) + 1,  # type: ignore[call-overload]
            keys=tuple(column(f"k{i}") for i in range(len(view.keys))),
            event=column("event") if "event" in forms else None,
            created=column("created") if "created" in forms else None,
            features={feature: column(f"f{i}") for i, feature in enumerate(features)},
            event_id=column("event_id") if "event_id" in forms else None,
        )
        types = dict(rows.types)
        if source.event_id is not None:
            types["event_id"] = held.schema.field(source.event_id).type
        return replace(
            rows, source=relation, types=types, numbered_by_key=True, null_times=rows.null_times + null_times
        )

    def _in_place(
        self,
        name: str,
        rows: ViewRelations,
        view: ResolvedView,
        source: Source,
        held: EngineTable,
        features: Sequence[str],
        scope: SourceScope | None,
    ) -> ViewRelations:
        """A source that the engine holds, in the query's form, its rows read where they are and without numbers."""
        forms = self.forms(view, source, held, features)
        taken = exp.select(*[form.as_(n, quoted=True) for n, form in forms.items()]).from_(held.table.copy())
        null_times = self._null_times_of(taken, forms)
        event_range = None
        if source.event_time is not None:
            # the column itself, so that a filter on it reaches the files
            taken = taken.select(column(source.event_time).as_(_OWN_TIME, quoted=True))
            event_range = _OwnTimes(self.words, held.schema.field(source.event_time).type)
        known_after = None if scope is None else scope.known_after
        inner = taken
        if known_after is not None:
            inner = exp.select(exp.Star()).from_(taken.subquery("x"))
            timed = "event" in forms or "created" in forms
            inner = inner.where(_known(source, rows) > number(known_after) if timed else exp.false())
        relation = Relation(
            table=inner.subquery("p"),
            ordinal=big(0),
            size=1,
            keys=tuple(column(f"k{i}") for i in range(len(view.keys))),
            event=column("event") if "event" in forms else None,
            created=column("created") if "created" in forms else None,
            features={feature: column(f"f{i}") for i, feature in enumerate(features)},
            event_id=column("event_id") if "event_id" in forms else None,
            event_range=event_range,
            fixed=False,
        )
        types = dict(rows.types)
        if source.event_id is not None:
            types["event_id"] = held.schema.field(source.event_id).type
        return replace(rows, source=relation, types=types, null_times=rows.null_times + null_times)

    def _hiding(self, rows: ViewRelations, view: ViewInput, label: str) -> ViewRelations:
        """The rows with those that tombstones hide."""
        rows = self._with_deletes(rows, view, label)
        if rows.deletes is None:
            return rows
        self.create(f"hidden_{label}", hidden_rows(rows, rows.deletes))
        return rows.hiding(self.table(f"hidden_{label}"), rows.deletes)

    def _with_deletes(self, rows: ViewRelations, view: ViewInput, label: str) -> ViewRelations:
        """The rows with a table of tombstones, where there are any."""
        if view.log is None:
            return rows
        schema = pa.schema([(name, rows.types[name]) for name in rows.key_names])

        def keys_of(query: exp.Query) -> pa.Table:
            return pa.Table.from_batches(self.stream(query, schema, _ROWS), schema)

        deletes = delete_rows(view.view, view.log, rows, keys_of)
        if deletes is None:
            return rows
        self.load(f"deletes_{label}", deletes.schema, iter(deletes.to_batches()))
        return replace(rows, deletes=self.table(f"deletes_{label}"))


_OWN_TIME = "own_time"


@dataclass(frozen=True)
class _OwnTimes:
    """A filter on the event times as a table has them (`EventRange`)."""

    words: Words
    kind: pa.DataType

    def __call__(self, lower: int | None, upper: int | None) -> Tree | None:
        own = column(_OWN_TIME)
        first = None if lower is None else self.words.time_literal(lower, self.kind)
        last = None if upper is None else self.words.time_literal(upper, self.kind)
        bounds: list[Tree] = [] if first is None else [own >= first]
        bounds += [] if last is None else [own <= last]
        return exp.and_(*bounds) if bounds else None


def _sql(query: exp.Query, space: Workspace) -> str:
    return query.sql(dialect=space.words.dialect, identify=True)


def _known(source: Source, rows: ViewRelations) -> Tree:
    """When a row x of a table that the engine holds is known."""
    event = column("event", "x")
    if source.created_time is not None:
        return exp.Greatest(this=event, expressions=[column("created", "x")])
    delay = max(0, min(_FAR, duration_micros(source.delay_time)))
    return event + number(delay) if delay else event
