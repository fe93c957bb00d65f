"""One run's tables in DuckDB: statements on worker threads, where Ctrl-C stops them, and what their errors mean."""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa
from sqlglot import exp

from headwater import forks, interrupts
from headwater.errors import Cancelled, HeadwaterError, SourceError, StorageFull, StoreError, Unavailable
from headwater.observer import Observer, Progress, silent
from headwater.offline.base import (
    SourceScope,
    ViewInput,
)
from headwater.offline.engines.duckdb.log import count_skipped
from headwater.offline.engines.duckdb.merged import check_reads
from headwater.offline.engines.duckdb.unreadable import explained
from headwater.offline.engines.duckdb.views import open_view
from headwater.offline.engines.duckdb.words import FAILED, WORDS, placed
from headwater.offline.files.queried import used_names
from headwater.offline.index.folder import IndexRules
from headwater.offline.join.relations import ViewRelations
from headwater.offline.join.workspace import CANCELLED, ROWS, Each, Powers
from headwater.offline.words import Place, Words

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

_OF_THE_DATA = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.InvalidInputException,
    duckdb.IOException,
    duckdb.DataError,
)
_STREAMED: dict[str, type[duckdb.Error]] = {
    "binder": duckdb.BinderException,
    "catalog": duckdb.CatalogException,
    "constraint": duckdb.ConstraintException,
    "conversion": duckdb.ConversionException,
    "fatal": duckdb.FatalException,
    "internal": duckdb.InternalException,
    "interrupt": duckdb.InterruptException,
    "invalid input": duckdb.InvalidInputException,
    "io": duckdb.IOException,
    "out of memory": duckdb.OutOfMemoryException,
    "out of range": duckdb.OutOfRangeException,
}
"""What an error's text begins with → its class."""
CLOSED = "the duckdb engine was closed"
_SETTINGS = {
    "TimeZone": "'UTC'",
    "Calendar": "'gregorian'",
    "default_collation": "''",
    "default_order": "'ASC'",
    "default_null_order": "'NULLS_LAST'",
    "integer_division": "false",
    "ieee_floating_point_ops": "true",
    "old_implicit_casting": "false",
    "preserve_insertion_order": "true",
    "scalar_subquery_error_on_multiple_rows": "true",
    "python_enable_replacements": "false",
}
"""What statements mean, stated: some of DuckDB's defaults follow the host's time zone and locale."""
_MEMORY = {"allocator_background_threads": "true"}
"""What statements have freed goes back to the system while none runs: it would be kept, some 150 MB."""
_MADE = re.compile(r'CREATE (?P<kind>TABLE|VIEW) (?P<name>"[^"]+"|\w+) AS ')
"""Statements whose tables and views are dropped at the end."""
_STOP = 0.01
"""Seconds between two interrupts of what is to stop."""
_WAIT = 0.2
"""Seconds between two looks at how far a statement is."""


def open_database(config: Mapping[str, Any]) -> Connection:
    """A database in memory, in which statements mean what `_SETTINGS` says.

    Raises:
        StoreError: a setting that DuckDB refuses.
    """
    try:
        database = duckdb.connect(":memory:", config=dict(config))
        for name, value in (_SETTINGS | _MEMORY).items():
            database.execute(f"SET GLOBAL {name} = {value}")
    except duckdb.Error as bad:
        raise StoreError(f"duckdb: {bad}") from bad
    return database


class Host(Protocol):
    """The engine that a run belongs to."""

    folder: Path
    observer: Observer
    powers: Powers
    indexes: IndexRules | None

    @property
    def temp_folder(self) -> Path:
        """The folder for temporary files."""
        ...

    def renew(self) -> None:
        """Begin the next run with a database of its own."""
        ...


class DuckDBWorkspace:
    """One run's tables in an engine's database, under names of its own."""

    def __init__(self, engine: Host, cursor: Connection, pool: ThreadPoolExecutor, prefix: str, label: str) -> None:
        self.words: Words = WORDS
        self.powers = engine.powers
        self.statements: list[str] = []
        self._engine = engine
        self._cursor = cursor
        self._pool = pool
        self._prefix = prefix
        self._label = label
        self._made: dict[str, str] = {}
        self._shown: dict[str, Any] = {}
        self._streams: dict[Connection, Any] = {}
        self._files: list[Path] = []
        self._names = itertools.count()
        self._places: list[Callable[[int], str]] = []
        self._closed = self._stopped = self._cancelled = False
        self._lock, self._inside = forks.lock(), dict[object, None]()
        self._born = forks.generation()

    def __enter__(self) -> DuckDBWorkspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def name(self, text: str) -> str:
        """A name of its own in this run."""
        return f"{self._prefix}_{text}{next(self._names)}"

    def place(self, row: str, names: Callable[[int], str]) -> Place:
        """What names the rows of a relation in errors: the expression of a row's number, and the names of numbers."""
        self._places.append(names)
        return Place(len(self._places) - 1, row)

    def run(self, sql: str) -> None:
        """Run a statement."""
        self.statements.append(sql)
        if (made := _MADE.match(sql)) is not None:
            self._made[made["name"]] = made["kind"]
        self._wait(self._cursor, lambda: self._cursor.execute(sql))

    def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """A short answer."""
        self.statements.append(sql)
        return self._wait(self._cursor, lambda: self._cursor.execute(sql).fetchall())

    def write(self, query: exp.Query, url: str) -> None:
        raise NotImplementedError("results of the embedded engine are streamed")

    def schema_of(self, sql: str) -> pa.Schema:
        """The Arrow schema of a query's answer."""
        limited = f"SELECT * FROM ({sql}) LIMIT 0"
        return self._wait(self._cursor, lambda: _reader(self._cursor.sql(limited), 1).schema)

    def show(self, name: str, data: Any) -> None:
        """Let queries see an Arrow table, dataset or reader under a name."""
        self._shown[name] = data
        self._register(self._cursor, name, data)

    def _register(self, cursor: Connection, name: str, data: Any) -> None:
        """Register data; DuckDB looks at it, and would take Ctrl-C on the main thread for an error of its."""
        self._wait(cursor, lambda: cursor.register(name, data))

    def arrow(self, query: exp.Query) -> pa.Table:
        """An answer as a table."""
        return self.read(self._render(query))

    def read(self, sql: str) -> pa.Table:
        """An answer as a table."""
        self.statements.append(sql)
        return self._wait(self._cursor, lambda: _read(_reader(self._cursor.sql(sql), 100_000).read_all))

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        failed: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as bad:
                failed.append(bad)
                raise

        shown = self.name("input")
        with self._using():
            self._register(self._cursor, shown, pa.RecordBatchReader.from_batches(schema, guarded()))
            try:
                self.run(f'CREATE TABLE "{self._prefix}_{name}" AS SELECT * FROM {shown}')
            except HeadwaterError:
                if failed:
                    raise failed[0] from None
                raise
            finally:
                if self._born == forks.generation():
                    self._cursor.unregister(shown)

    def temp_file(self, suffix: str) -> Path:
        """The path of a file that may be written; it is gone with the session."""
        self._files.append(self._engine.temp_folder / f"{self.name('file')}{suffix}")
        return self._files[-1]

    def table(self, name: str) -> str:
        """The full name of a table that `load` or `create` makes."""
        return f"{self._prefix}_{name}"

    def create(self, name: str, query: exp.Query) -> None:
        self.run(f'CREATE TABLE "{self._prefix}_{name}" AS {self._render(query)}')

    def drop(self, *tables: str) -> None:
        for table in tables:
            self.run(f'DROP TABLE "{table}"')
            self._made.pop(f'"{table}"', None)

    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        return self.fetch(self._render(query))

    @property
    def settler(self) -> DuckDBWorkspace:
        return self

    def stream(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        yield from self.stream_sql(self._render(query), rows)

    def check_sql(self, sql: str, where: str) -> None:
        check_reads(self, sql, used_names(sql), where)

    def stream_sql(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        """A long answer to a statement as text."""
        self.statements.append(sql)
        with self._using():
            cursor = self._cursor.cursor()
            self._streams[cursor] = None
        try:
            for name, data in self._shown.items():
                self._register(cursor, name, data)
            reader = self._streams[cursor] = self._wait(cursor, lambda: _reader(cursor.sql(sql), rows))
            while (batch := self._wait(cursor, lambda: _read(lambda: next(reader, None)))) is not None:
                yield batch
        finally:
            # once it is stopped the engine closes all
            with suppress(Unavailable), self._using():
                with self._lock:
                    self._streams.pop(cursor, None)
                cursor.close()

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        self.load(name, answer, function(self.stream(query, schema, ROWS)))

    def query_table(self, sql: str) -> None:
        return None

    def view_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        return open_view(self, view, label, features, self._engine.folder, scope, self._engine.indexes)

    def event_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        return self.view_relations(view, label, features, scope)

    def skipped_rows(self, view: ViewInput, after: int, until: int) -> int:
        return count_skipped(self, view, after, until)

    def close(self) -> None:
        with suppress(Unavailable), self._using():
            if not self._closed:
                with self._lock:
                    self._closed = True
                self._close_streams()
                self._waited(self._pool.submit(self._end), self._cursor)

    def _end(self) -> None:
        """Drop what was made, and close the cursor; on a worker thread, which Ctrl-C does not reach."""
        with suppress(duckdb.Error):
            self._drop_all()
        self._cursor.close()
        for file in self._files:
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def _close_streams(self) -> None:
        for stream in list(self._streams):
            stream.close()
        self._streams.clear()
        self._shown.clear()

    def _drop_all(self) -> None:
        for name, kind in reversed(self._made.items()):
            self._cursor.execute(f"DROP {kind} IF EXISTS {name}")

    def _render(self, query: exp.Query) -> str:
        return query.sql(dialect="duckdb", copy=False)

    @contextmanager
    def _using(self) -> Iterator[None]:
        """The cursors are used while the block runs, which `stop` waits for.

        Raises:
            Unavailable: the engine was closed, or belongs to another process.
        """
        forks.check_same(self._born, "this reading of a result")
        outer, me = sys.exception(), object()
        try:
            with self._lock:
                if self._stopped:
                    raise Unavailable(CLOSED)
                self._inside[me] = None
            yield
        except duckdb.Error as bad:
            interrupt = interrupts.behind(bad, outer)
            if interrupt is not None:
                raise interrupt from None
            raise self._failed(bad) from bad
        finally:
            # in one step, which Ctrl-C cannot divide
            self._inside.pop(me, None)

    def stop(self) -> None:
        """End what other threads have under way, refuse all else, and close the cursors: the engine is closed."""
        with self._lock:
            self._stopped = True
        while self._inside:
            for cursor in (self._cursor, *list(self._streams)):
                with suppress(duckdb.Error):
                    cursor.interrupt()
            time.sleep(_STOP)
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._close_streams()
            self._cursor.close()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if not self._closed:
                # missed by a statement that only just begins: whoever waits for it looks again
                for cursor in (self._cursor, *self._streams):
                    with suppress(duckdb.Error):
                        cursor.interrupt()

    def _check_cancelled(self) -> None:
        """Refuse statements once the run is cancelled; those that clean up after it still run.

        Raises:
            Cancelled: it is.
        """
        if self._cancelled and not self._closed:
            raise Cancelled(CANCELLED)

    def _wait(self, cursor: Connection, job: Callable[[], T]) -> T:
        """Run a statement on a worker thread: on the main thread it never sees Ctrl-C; a wait that ends stops it."""
        self._check_cancelled()
        with self._using():
            return self._waited(self._pool.submit(job), cursor)

    def _waited(self, future: Future[T], cursor: Connection) -> T:
        try:
            while True:
                try:
                    return future.result(timeout=_WAIT)
                except NotYet:
                    if future.done():
                        return future.result()
                    self._check_cancelled()
                    self._tell(cursor)
        except duckdb.Error as bad:
            raise self._failed(bad) from bad
        except BaseException:
            while not future.done():
                cursor.interrupt()
                with suppress(BaseException):
                    future.exception(timeout=0.05)
            raise

    def _failed(self, bad: duckdb.Error) -> HeadwaterError:
        if self._stopped:
            return Unavailable(CLOSED)
        if self._cancelled:
            return Cancelled(CANCELLED)
        if isinstance(bad, (duckdb.FatalException, duckdb.InternalException)):
            self._engine.renew()
        return _translated(bad, self._places)

    def _tell(self, cursor: Connection) -> None:
        if self._label and self._engine.observer is not silent:
            share = cursor.query_progress()
            if share >= 0:
                self._engine.observer(Progress(self._label, int(share), 100, "%"))


def _reader(relation: duckdb.DuckDBPyRelation, rows: int) -> pa.RecordBatchReader:
    """The answer as a stream; the method's name differs between DuckDB's versions."""
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(rows)


def _read(read: Callable[[], T]) -> T:
    """Read from an answer: an error that ends its statement comes from Arrow then, as text.

    Raises:
        duckdb.Error: the error, of its own class.
    """
    try:
        return read()
    except (OSError, pa.ArrowException) as bad:
        text = str(bad)
        raise _STREAMED.get(text.partition(" Error:")[0].lower(), duckdb.OperationalError)(text) from bad


def _in_a_line(text: str) -> str:
    """What DuckDB says, without its drawing of the place and its traces."""
    lines = (line.strip() for line in text.partition("\nStack Trace")[0].splitlines())
    return "; ".join(line for line in lines if line.strip("^~ "))


def _translated(bad: duckdb.Error, places: Sequence[Callable[[int], str]]) -> HeadwaterError:
    text = _in_a_line(str(bad))
    if FAILED in text:
        return SourceError(placed(text.split(FAILED, 1)[1], places))
    if isinstance(bad, duckdb.InvalidInputException) and (unreadable := explained(text)) is not None:
        return SourceError(unreadable)
    if isinstance(bad, duckdb.OutOfMemoryException):
        return StoreError(f"duckdb: {text}; raise [offline] memory_limit, or lower threads")
    if isinstance(bad, duckdb.FatalException):
        return Unavailable(f"duckdb: another statement ended the engine's database; run it again ({text[:300]})")
    if "No space left" in text:
        return StorageFull(f"duckdb: {text}")
    if "Failed to decode string" in text and "URL decoding" in text:
        text = f"{text}: the name of a folder such as day=…, whose % signs are not of UTF-8: rename it (ä is %C3%A4)"
    return (SourceError if isinstance(bad, _OF_THE_DATA) else StoreError)(f"duckdb: {text}")
