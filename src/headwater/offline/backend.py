"""All that a new engine writes: its words, and how a run's tables are made, read and filled there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp

from headwater.definitions.source import Source
from headwater.offline.base import SourceScope
from headwater.offline.estimates import Estimate
from headwater.offline.join.relations import EngineTable
from headwater.offline.join.workspace import ROWS, Each, Powers
from headwater.offline.trees import Tree
from headwater.offline.words import Words


class Backend(ABC):
    """One run's connection to an engine; its temporary tables are gone once it is closed.

    Every query is a SQLGlot tree whose names are quoted or to be quoted: `text` renders it.

    Attributes:
        words: how the engine says what a column becomes.
        powers: what it can do beyond window functions and 64-bit integers.
    """

    words: Words
    powers: Powers = Powers()

    def text(self, query: exp.Query) -> str:
        """A query in the engine's own SQL; asked of each before it runs, for the list of statements."""
        return query.sql(dialect=self.words.dialect, identify=True)

    @abstractmethod
    def create(self, name: str, query: exp.Query) -> None:
        """Make a table of a query's rows, which every later statement sees as they are now.

        Raises:
            SourceError: a value that `Words.failed` refuses, with its text.
            StoreError: the engine fails; also in the other methods.
        """

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        """Make a table of what a function gives of a query's rows, rows with equal keys brought together.

        By default all rows are one part, in this process. Where parts go to other processes the function is pickled,
        and may run twice over the rows of one: one answer of each is taken.

        Args:
            name: the table's.
            query: the query.
            schema: its columns, in order, with the Arrow types that the batches have.
            keys: the columns whose values tell which rows belong together.
            function: is given the batches of one part, in any order, and gives those of the answer. What it is made of
                is values.
            answer: the columns of its answer.
        """
        self.upload(name, answer, function(self.batches(query, schema, ROWS)))

    @abstractmethod
    def drop(self, name: str) -> None:
        """Drop a table; one that a stream still reads may be left for `close`."""

    @abstractmethod
    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        """A short answer."""

    @abstractmethod
    def batches(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        """A long answer, in its order where it has one.

        Args:
            query: the query.
            schema: its columns, in order, with the Arrow types that the batches have; values that `upload` was given
                come back as they were.
            rows: of a batch, about.
        """

    def each(self, query: exp.Query, schema: pa.Schema, function: Each, answer: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Run a function over the rows of a query, where they are, in parts of any size; its answers come here.

        By default all rows are one part, in this process. Where parts go to other processes the function is pickled,
        and may run twice over the rows of one: one answer of each is given.

        Args:
            query: the query; its order is that of the rows within a part.
            schema: its columns, in order, with the Arrow types that the batches have.
            function: is given the batches of one part, and gives those of the answer. What it is made of is values.
            answer: the columns of its answer.

        Returns:
            The answers of all parts, in any order; they are short.
        """
        yield from function(self.batches(query, schema, ROWS))

    def write(self, query: exp.Query, url: str) -> None:
        """Write the rows of a query, in any order, as Parquet files of a folder that does not exist yet.

        Only an engine whose `RemoteEngine.writes_to` says so is asked. Names end in `.parquet`; no other file need be
        there.

        Args:
            query: the query; its columns have the names of the result's.
            url: of the folder.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no files")

    @abstractmethod
    def upload(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Make a table of Arrow batches.

        Keys and times (`k0`…, `c0`…, `rn`, `t`, `event`, `created`, `ordinal`, `until`, `through`, `position`) are
        compared by the query. All other columns are only handed back, in whatever form the engine keeps them, unless
        `powers.settles_ties`.
        """

    @abstractmethod
    def table_of(self, source: Source) -> EngineTable | None:
        """A source that the engine holds itself; None: the embedded engine reads it, and its rows are uploaded.

        Raises:
            SourceError: one that should be there and is not.
        """

    def scoped(self, source: Source, held: EngineTable, scope: SourceScope) -> list[tuple[Tree, bool]]:
        """Where the rows of a scope are; by default in the whole table.

        Args:
            source: a source that the engine holds.
            held: its table.
            scope: which of the rows are read.

        Returns:
            Items of FROM with the table's columns, and of each whether rows known at `scope.known_after` or before are
            still among its rows, which the query then leaves out. The scope's `rows` are the query's to count.
        """
        return [(held.table, scope.known_after is not None)]

    def estimate(self, query: exp.Query) -> Estimate | None:
        """What a query of a table that the engine holds would read, without running it.

        Args:
            query: the columns that a join reads, of the event times that it reaches.

        Returns:
            What the engine's plan or a dry run says; None: it says nothing.
        """
        return None

    def cancel(self) -> None:
        """End the statement that another thread runs here; it then fails with an error of any kind.

        Called again until the statement has ended, so one that only just begins may be missed; its own errors are
        ignored. By default nothing: a run that is cancelled then ends with the statement that is under way.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """End the connection; what other threads still read ends with an error."""
