"""One run's tables in a backend: its statements, their end, and the sources whose rows the backend holds."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pyarrow as pa
from sqlglot import exp

from headwater import forks
from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource, PushSource, SQLSource
from headwater.definitions.view_tables import ViewTable
from headwater.errors import Cancelled, SourceError
from headwater.offline.backend import Backend
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.join.relations import EngineTable, ViewRelations
from headwater.offline.join.workspace import CANCELLED, Each, Workspace, conformed
from headwater.offline.remote_queries import in_engine, rows_of_view
from headwater.offline.remote_relations import RemoteRows
from headwater.offline.remote_tables import TableRows
from headwater.offline.trees import ascending

_AGAIN = 0.02
"""Seconds between two calls that end a backend's statement."""


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
        # the tables of several runs may be in one namespace
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
        self._own.append(f"CREATE TABLE {self.table(name)} AS {self.backend.text(query)}")
        with self._statement():
            self.backend.create(self.table(name), query)

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        self._own.append(f"CREATE TABLE {self.table(name)} AS {type(function).__name__} OF {self.backend.text(query)}")
        with self._statement():
            self.backend.create_by_key(self.table(name), query, schema, keys, function, answer)

    def drop(self, *tables: str) -> None:
        with self._statement():
            for table in tables:
                self.backend.drop(table)

    def rows(self, query: exp.Query) -> list[tuple[object, ...]]:
        self._own.append(self.backend.text(query))
        with self._statement():
            return self.backend.rows(query)

    def stream(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        self._own.append(self.backend.text(query))
        return self._streamed(self.backend.batches(query, schema, rows))

    def write(self, query: exp.Query, url: str) -> None:
        self._own.append(f"WRITE {self.backend.text(query)}")
        with self._statement():
            self.backend.write(query, url)

    def each(self, query: exp.Query, schema: pa.Schema, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        self._own.append(self.backend.text(query))
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
        return self._rows_of(view, label, features, scope).relations()

    def event_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        return self._rows_of(view, label, features, scope).events()

    def _rows_of(self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None) -> RemoteRows:
        source, held = view.source, self.table_of(view.source)
        table = None
        if source is not None and held is not None:
            table = TableRows(self.backend, view.view, source, held, features, scope or SourceScope())
        return RemoteRows(self, self._embedded, view, label, features, scope, table)
