"""One run in Spark: its tables are Parquet files in a scratch folder, beside which a session has temporary views."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlglot import exp

from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource, SQLSource
from headwater.errors import SourceError
from headwater.offline.backend import Backend
from headwater.offline.base import SourceScope
from headwater.offline.engines.spark.connection import SparkConnection
from headwater.offline.engines.spark.errors import failing
from headwater.offline.engines.spark.executors import OnExecutor
from headwater.offline.engines.spark.files import ReadableFiles
from headwater.offline.engines.spark.scratch import ScratchFolder
from headwater.offline.engines.spark.sessions import struct_type
from headwater.offline.engines.spark.sources import query_of, view_name
from headwater.offline.engines.spark.transpiled import transpiled
from headwater.offline.engines.spark.types import arrow_schema, kept, kept_type, shaped
from headwater.offline.engines.spark.words import VALID_TEXT_WORDS, WORDS
from headwater.offline.estimates import Estimate
from headwater.offline.join.relations import EngineTable
from headwater.offline.join.workspace import Each, Powers, Workspace
from headwater.offline.trees import Tree
from headwater.planning.files import FileIdentity

_numbers = itertools.count()
_ROW_GROUP = 1_000_000
_PLAIN = (
    *(exp.Binary, exp.Case, exp.Cast, exp.Coalesce, exp.Connector, exp.Count, exp.CountIf, exp.Exists, exp.Greatest),
    *(exp.If, exp.Lag, exp.Lead, exp.Least, exp.Max, exp.Min, exp.RowNumber, exp.Sum),
)
"""Functions that DuckDB and Spark have by the same name and meaning."""
_ROWS = 65_536


class SparkBackend(Backend):
    """One run's tables.

    Args:
        connection: whose session runs the statements, and whose scratch folder holds the tables.
    """

    def __init__(self, connection: SparkConnection) -> None:
        self._connection = connection
        self._session = connection.session()
        self.words = WORDS if self._session.holds_any_text else VALID_TEXT_WORDS
        self.powers = Powers(by_key=True, carries=self._session.orders_structs)
        self._tag = f"headwater-{id(connection)}-{next(_numbers)}"
        self._tables: dict[str, ScratchFolder] = {}
        self._reader: Workspace | None = None
        self._views: list[str] = []
        self._next: tuple[exp.Query | None, str] = None, ""

    def create(self, name: str, query: exp.Query) -> None:
        with self._statement() as spark:
            frame = spark.sql(self._render(query))
            self._hold(name, frame)

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        made = pa.schema([pa.field(f.name, kept_type(f.type)) for f in answer])
        with self._statement() as spark:
            together = spark.sql(self._render(query)).repartition(*keys)
            self._hold(name, together.mapInArrow(OnExecutor(function, schema, made), struct_type(made)))

    def drop(self, name: str) -> None:
        folder = self._tables.pop(name, None)
        if folder is not None:
            with suppress(Exception):
                self._session.spark.catalog.dropTempView(name)
            folder.remove()

    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        here = self._here(query)
        if here is not None:
            batches = self._read_here(here, _ROWS)
            return [
                tuple(row) for batch in batches for row in zip(*[c.to_pylist() for c in batch.columns], strict=True)
            ]
        with self._statement() as spark:
            return [tuple(row) for row in spark.sql(self._render(query)).collect()]

    def batches(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        here = self._here(query)
        if here is not None:
            yield from (shaped(batch, schema) for batch in self._read_here(here, rows))
            return
        order, unordered = query.args.get("order"), query
        if order is not None and self._connection.reads_scratch:
            unordered = query.copy()
            unordered.set("order", None)
        folder = self._connection.scratch().new()
        try:
            with self._statement() as spark:
                self._write_rows(without_void(spark.sql(self._render(unordered))), folder)
            if unordered is query:
                yield from read(folder, schema, rows)
            elif order is not None and folder.parts():
                ordered = exp.select(exp.Star()).from_(files_as_table(folder, "t"))
                ordered.set("order", _of_outputs(order))
                sql = ordered.sql("duckdb", identify=True)
                yield from (shaped(batch, schema) for batch in self._read_here(sql, rows))
        finally:
            folder.remove()

    def write(self, query: exp.Query, url: str) -> None:
        with self._statement() as spark:
            # whoever gave the folder says when it is whole
            writer = _writer(without_void(spark.sql(self._render(query))))
            writer.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false").parquet(url)

    def each(self, query: exp.Query, schema: pa.Schema, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        order = query.args.get("order")
        if order is not None:  # each part has one of its own
            query = query.copy()
            query.set("order", None)
        made = pa.schema([pa.field(f.name, kept_type(f.type)) for f in answer])
        with self._statement() as spark:
            frame = without_void(spark.sql(self._render(query)))
            if order is not None:
                frame = frame.sortWithinPartitions(*[key.this.name for key in order.expressions])
            rows = frame.mapInArrow(OnExecutor(function, schema, made), struct_type(made)).collect()
        columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(answer)]
        yield pa.RecordBatch.from_arrays(columns, schema=answer)

    def upload(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        folder = self._connection.scratch().new()
        self._tables[name] = folder
        wanted = pa.schema([pa.field(f.name, kept_type(f.type)) for f in schema])
        files = folder.scratch.files
        with failing():
            files.create_dir(folder.path)
            with (
                files.open_output_stream(f"{folder.path}/part-0.parquet") as sink,
                pq.ParquetWriter(
                    sink, wanted, compression="zstd", compression_level=1, write_statistics=False
                ) as writer,
            ):
                for batch in batches:
                    columns = [kept(c, f.type) for c, f in zip(batch.columns, wanted, strict=True)]
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=wanted), _ROW_GROUP)
        try:
            with self._statement() as spark:
                spark.read.schema(struct_type(wanted)).parquet(folder.url).createOrReplaceTempView(name)
        except SourceError as bad:  # a file that has just been written is not there
            raise folder.scratch.not_shared() from bad

    def table_of(self, source: Source) -> EngineTable | None:
        if isinstance(source, ParquetSource):
            files = self._connection.readable_files(source)
            return None if files is None else EngineTable(self._files_table(files, files.files), files.schema)
        query = query_of(source, self._connection.embedded.folder)
        if query is None and isinstance(source, SQLSource) and source.tables:
            query = self._transpiled(source)
        if query is None:
            return None
        name = view_name(query)
        self._use(name)
        with self._statement() as spark:
            # as text, so that each statement sees the tables' files as they are
            spark.sql(f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {query}")
            schema = arrow_schema(spark.table(name).schema)
        if not schema.names:
            # some servers of Spark's protocol take a path without files for a table without columns
            raise SourceError(f"{getattr(source, 'path', None) or query!r} has no columns; are there files?")
        return EngineTable(exp.to_table(name), schema)

    def scoped(self, source: Source, held: EngineTable, scope: SourceScope) -> list[tuple[Tree, bool]]:
        if isinstance(source, ParquetSource):
            files = self._connection.readable_files(source)
            if files is not None:
                return [(self._files_table(files, some), later) for some, later in files.scoped(scope) if some]
        return super().scoped(source, held, scope)

    def _transpiled(self, source: SQLSource) -> str | None:
        """A query over other sources, in Spark's SQL; None: it reads none that Spark holds."""
        if all(isinstance(table, ParquetSource) for table in source.tables.values()):
            return None  # a query over files alone is the embedded engine's, which knows which of them are new
        held = {name: self.table_of(table) for name, table in source.tables.items()}
        tables = {name: (table.table.name, table.schema) for name, table in held.items() if table is not None}
        return transpiled(source.query, tables) if len(tables) == len(held) else None

    def _files_table(self, readable: ReadableFiles, files: Sequence[FileIdentity]) -> exp.Table:
        """Some Parquet files as a table."""
        name = readable.name(files)
        self._use(name)
        with self._statement() as spark:
            frame = spark.read.schema(struct_type(readable.schema)).parquet(*readable.paths(files))
            frame.createOrReplaceTempView(name)
        return exp.to_table(name)

    def estimate(self, query: exp.Query) -> Estimate | None:
        """What Spark's optimizer says; None: Spark Connect tells it in rounded text alone."""
        if self._session.connect:
            return None
        with self._statement() as spark:
            plan = spark.sql(self._render(query))._jdf.queryExecution().optimizedPlan()
            leaves, found = plan.collectLeaves(), plan.stats()
            # what Spark takes a relation for of which it knows nothing
            unknown = _whole(spark._jsparkSession.sessionState().conf().defaultSizeInBytes())
            if any(_whole(leaves.apply(i).stats().sizeInBytes()) >= unknown for i in range(leaves.size())):
                return None
            rows = found.rowCount()
            return Estimate(_whole(rows.get()) if rows.isDefined() else None, _whole(found.sizeInBytes()))

    def cancel(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        self._session.spark.interruptTag(self._tag)

    def close(self) -> None:
        try:
            if self._reader is not None:
                self._reader.__exit__()
        finally:
            for name in list(self._tables):
                self.drop(name)
            self._connection.views.release(self._views)
            self._views = []

    def _use(self, view: str) -> None:
        """Keep a temporary view for this run."""
        if view not in self._views:
            self._connection.views.use(view)
            self._views.append(view)

    def _here(self, query: exp.Query) -> str | None:
        """A query of tables that Spark has written already, in DuckDB's words; None where it is Spark's to answer.

        Rows come to this process anyway, and a statement of Spark's costs a quarter of a second. Functions beyond the
        query's own, such as those of buckets, are Spark's.
        """
        if not all(isinstance(function, _PLAIN) for function in query.find_all(exp.Func)):
            return None
        tables = list(query.find_all(exp.Table))
        if not self._connection.reads_scratch or any(table.name not in self._tables for table in tables):
            return None
        found = query.copy()
        for table in list(found.find_all(exp.Table)):
            folder = self._tables[table.name]
            if not folder.parts():
                return None
            table.replace(files_as_table(folder, table.alias or table.name))
        return found.sql("duckdb", identify=True)

    def _read_here(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        if self._reader is None:
            self._reader = self._connection.embedded.workspace()
        return self._reader.stream_sql(sql, rows)

    def _hold(self, name: str, frame: Any) -> None:
        """Write the rows of a frame, and name them."""
        folder = self._connection.scratch().new()
        self._tables[name] = folder
        frame = without_void(frame)
        self._write_rows(frame, folder)
        reader = frame.sparkSession.read
        if self._session.states_types or not folder.parts():
            reader = reader.schema(frame.schema)  # so that no file is opened to find it
        reader.parquet(folder.url).createOrReplaceTempView(name)

    def _write_rows(self, frame: Any, folder: ScratchFolder) -> None:
        """Write a frame's rows as Parquet; they are there once all of them are.

        Raises:
            ConfigError: this process does not see the files that Spark writes.
        """
        written = None
        if folder.scratch.is_local and not self._session.local and self._session.states_types:
            # a path may be another folder on some of the executors, whose files are then not there
            written, frame = self._session.counting(frame)
        _writer(frame).parquet(folder.url)
        if written is not None:
            told, found = written(), folder.rows()
            if told != found:
                raise folder.scratch.not_shared(f"tasks wrote {told:,} rows, of which {found:,} are there")
        if folder.parts():
            return
        # Spark itself has a file of no rows too, not every server has
        if self._session.states_types and folder.scratch.is_local:
            raise folder.scratch.not_shared()
        folder.scratch.files.create_dir(folder.path)
        try:
            rows = frame.sparkSession.read.schema(frame.schema).parquet(folder.url).limit(1).collect()
        except Exception as bad:
            raise folder.scratch.not_shared() from bad
        if rows:
            raise folder.scratch.not_shared()

    def text(self, query: exp.Query) -> str:
        text = super().text(query)
        self._next = query, text
        return text

    def _render(self, query: exp.Query) -> str:
        """The text of a query, which takes as long as some statements do: once, if it was the last to be asked for."""
        (asked, text), self._next = self._next, (None, "")
        return text if asked is query else super().text(query)

    @contextmanager
    def _statement(self) -> Iterator[Any]:
        """The session, for one statement that `cancel` ends."""
        spark = self._session.spark
        with failing(self._names, self._session.ended), self._tagged(spark):
            yield spark

    @contextmanager
    def _tagged(self, spark: Any) -> Iterator[None]:
        try:
            spark.addTag(self._tag)
        except Exception:
            yield
            return
        try:
            yield
        finally:
            with suppress(Exception):
                spark.removeTag(self._tag)

    def _names(self) -> list[str]:
        rows = self._session.spark.sql("SHOW TABLES").collect()
        return [row["tableName"] for row in rows if not row["tableName"].startswith("hw_")]


def _whole(number: Any) -> int:
    """A number of Java's or Scala's."""
    return int(str(number))


def _of_outputs(order: Tree) -> Tree:
    """The order of a query, by its own columns instead of its tables'."""
    found = order.copy()
    for key in found.find_all(exp.Column):
        key.set("table", None)
    return found


def _writer(frame: Any) -> Any:
    # the statistics of a column do not say that it has NaN, which Sail then leaves out
    return frame.write.mode("error").option("compression", "zstd").option("statistics_enabled", "none")


def files_as_table(folder: ScratchFolder, alias: str) -> exp.Table:
    """The files of a folder as an item of FROM in DuckDB."""
    files = exp.Array(expressions=[exp.Literal.string(part) for part in folder.parts()])
    return exp.Table(
        this=exp.Anonymous(this="read_parquet", expressions=[files]),
        alias=exp.TableAlias(this=exp.to_identifier(alias)),
    )


def read(folder: ScratchFolder, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a folder, file by file."""
    for part in folder.parts():
        with folder.scratch.files.open_input_file(part) as opened, pq.ParquetFile(opened) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield shaped(batch, schema)


def without_void(frame: Any) -> Any:
    """A frame whose columns without a type, which are NULL, have one."""
    for field in frame.schema.fields:
        if field.dataType.typeName() == "void":
            frame = frame.withColumn(field.name, frame[field.name].cast("boolean"))
    return frame
