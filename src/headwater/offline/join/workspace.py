"""What the point-in-time query needs of an engine: a place for one run's tables, and the power to run trees there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from sqlglot import exp

from headwater.offline.base import SourceScope, ViewInput
from headwater.offline.join.relations import ViewRows


@dataclass(frozen=True)
class Powers:
    """What an engine can do; the query is lowered by these.

    Attributes:
        wide_integers: integers of 128 bits, into which (event, created, ordinal) are packed.
        asof_join: an as-of join.
        pairs_limit: more (spine row, feature row) pairs than this are not joined: windows of time or as-of joins are
            faster.
        looks_limit: up to how many pairs the rows that a window left are joined at once rather than by another window.
    """

    wide_integers: bool = False
    asof_join: bool = False
    pairs_limit: int = 0
    looks_limit: int = 0


class Workspace(Protocol):
    """One run's tables; they are gone once it is closed."""

    powers: Powers
    statements: list[str]

    def load(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        """Make a table of Arrow batches."""
        ...

    def table(self, name: str) -> str:
        """The full name of a table that `load` or `create` makes."""
        ...

    def create(self, name: str, query: exp.Query) -> None:
        """Make a table of a query's rows."""
        ...

    def drop(self, *tables: str) -> None:
        """Let tables, by their full names, go before the run is over."""
        ...

    def rows(self, query: exp.Query) -> list[tuple[Any, ...]]:
        """A short answer."""
        ...

    def stream(self, query: exp.Query, rows: int) -> Iterator[pa.RecordBatch]:
        """A long answer, in batches of about `rows` rows; several may be read in turn."""
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

    def view_rows(
        self, view: ViewInput, label: str, features: Sequence[str], scope: SourceScope | None = None
    ) -> ViewRows:
        """A view's source and log as relations, all named features among their columns.

        Of the source just the rows of the scope; None: all of them.
        """
        ...

    def skipped_rows(self, view: ViewInput, after: int, until: int) -> int:
        """How many log rows with after < position ≤ until lack a column that the version needs."""
        ...

    def __enter__(self) -> Workspace: ...

    def __exit__(self, *exc: object) -> None:
        """Drop the tables."""
        ...
