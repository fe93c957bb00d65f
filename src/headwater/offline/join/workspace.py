"""What the point-in-time query needs of an engine: a place for one run's tables, and the power to run trees there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from sqlglot import exp

from headwater.errors import SourceError
from headwater.offline.base import Each as Each
from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.join.relations import EngineTable, ViewRelations
from headwater.offline.trees import Tree, number
from headwater.offline.words import Words
from headwater.planning.resolved import ResolvedView

ROWS = 65_536
"""Rows of a batch."""
CANCELLED = "the history was cancelled: ask for it again to run it"
"""What `Cancelled` says."""


class StatementError(SourceError):
    """A statement fails for what it reads, and its error does not say of which view: the run adds that (`of_view`)."""


@contextmanager
def of_view(view: ResolvedView) -> Iterator[None]:
    """A block whose errors of statements concern a view.

    Raises:
        SourceError: such an error, with the view.
    """
    try:
        yield
    except StatementError as bad:
        raise SourceError(f"view {view.name!r} ({view.version}): {bad}") from bad


@dataclass(frozen=True)
class PackedLimits:
    """Where the ways of an engine that packs (event, created, ordinal) into one integer of 128 bits change over.

    Attributes:
        pairs: more (spine row, feature row) pairs than this are not joined: windows of time or as-of joins are faster.
        looks: up to how many pairs the rows that a window left are joined at once rather than by another window.
    """

    pairs: int
    looks: int


@dataclass(frozen=True)
class Powers:
    """What an engine can do; the query is lowered by these.

    Attributes:
        packed: an engine with integers of 128 bits and as-of joins says when it takes which way; None: the query goes
            by running maxima (`running`), which every engine with window functions can do.
        settles_ties: it orders every feature's values as the contract does: arrays, NaN, text by its bytes. Else rows
            that tie are brought to the embedded engine to be compared.
        by_key: it brings rows together by key and runs a function over them (`create_by_key`); windows are computed so.
            Else the rows come to this process, which computes them.
        carries: it orders structs field by field as it does values, and has `xxhash64` and
            `monotonically_increasing_id`: rows then carry their values (`carried`), and need no name.
    """

    packed: PackedLimits | None = None
    settles_ties: bool = False
    by_key: bool = False
    carries: bool = False


def row_ids(powers: Powers) -> Tree:
    """A number of each row of a query that no other has, in no order; few engines can say it without one task for all.

    Where rows carry their values the numbers have gaps: each task has a range of its own.
    """
    if powers.carries:
        return exp.func("monotonically_increasing_id")
    return exp.Window(this=exp.RowNumber()) - number(1)


class Workspace(Protocol):
    """One run's tables; they are gone once it is closed."""

    words: Words
    powers: Powers

    @property
    def statements(self) -> Sequence[str]:
        """Every statement so far, in order."""
        ...

    @property
    def settler(self) -> Workspace:
        """Where ties are settled: here, or in the embedded engine's own workspace."""
        ...

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Make a table of Arrow batches."""
        ...

    def table(self, name: str) -> str:
        """The full name of a table that `load` or `create` makes."""
        ...

    def create(self, name: str, query: exp.Query) -> None:
        """Make a table of a query's rows."""
        ...

    def create_by_key(
        self, name: str, query: exp.Query, schema: pa.Schema, keys: Sequence[str], function: Each, answer: pa.Schema
    ) -> None:
        """Make a table of what a function gives of a query's rows; see `Backend.create_by_key`."""
        ...

    def drop(self, *tables: str) -> None:
        """Drop tables, by their full names, before the run is over."""
        ...

    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        """A short answer."""
        ...

    def stream(self, query: exp.Query, schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
        """A long answer, in batches of about `rows` rows; several may be read in turn.

        Args:
            query: the query.
            schema: the answer's columns and the types wanted; the embedded engine may give others that cast to them.
            rows: of a batch.
        """
        ...

    def write(self, query: exp.Query, url: str) -> None:
        """Write the rows of a query as Parquet files of a folder that does not exist yet.

        Only engines that say that they write to such a place (`RemoteEngine.writes_to`) are asked to.
        """
        ...

    def schema_of(self, sql: str) -> pa.Schema:
        """The Arrow schema of the answer to a user's own query."""
        ...

    def check_sql(self, sql: str, where: str) -> None:
        """Refuse a user's own query whose files would be read as other values.

        Raises:
            SourceError: naming files, column and types.
        """
        ...

    def stream_sql(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        """The answer to a user's own query."""
        ...

    def query_table(self, sql: str) -> EngineTable | None:
        """A user's own query whose rows the engine holds; None where `stream_sql` answers it."""
        ...

    def view_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        """A view's source and log as relations, all named features among their columns.

        Of the source just the rows of the scope; None: all of them.
        """
        ...

    def event_relations(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRelations:
        """The same to be read one by one: rows need no names, `deletes` are told, and which rows they hide is not."""
        ...

    def skipped_rows(self, view: ViewInput, after: int, until: int) -> int:
        """How many log rows with after < position ≤ until lack a column that the version needs."""
        ...

    def cancel(self) -> None:
        """End the statement under way, from any thread and without waiting; it and all others raise `Cancelled`."""
        ...

    def __enter__(self) -> Workspace: ...

    def __exit__(self, *exc: object) -> None:
        """Drop the tables."""
        ...


def sql_of(query: exp.Query, space: Workspace) -> str:
    """A query as text, in the engine's dialect."""
    return query.sql(dialect=space.words.dialect, identify=True)


def created(space: Workspace, name: str, query: exp.Query) -> str:
    """The full name of a table with a query's rows."""
    space.create(name, query)
    return space.table(name)


def copied(space: Workspace, table: str, into: Workspace, name: str, schema: pa.Schema) -> str:
    """The full name of a table in another workspace with the rows of one here."""
    query = exp.select(*[exp.column(exp.to_identifier(n, quoted=True)) for n in schema.names]).from_(table)
    into.load(name, schema, conformed(space.stream(query, schema, _ROWS), schema))
    return into.table(name)


_ROWS = 65_536


def conformed(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches in the types of a schema, into which all of their values fit."""
    for batch in batches:
        yield batch if batch.schema == schema else batch.cast(schema)
