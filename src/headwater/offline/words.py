"""How an engine says what the query needs of a table's own columns: the one dialect of its types and times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from headwater.offline.trees import Tree
from headwater.planning.local_time import LocalTimes
from headwater.types import DType


@dataclass(frozen=True)
class Place:
    """What names the rows of a relation in errors.

    Attributes:
        number: by which the session knows the relation's names of its rows.
        row: the expression of a row's number, in the engine's words.
    """

    number: int
    row: str


class Words(Protocol):
    """An engine's words for the columns of its tables; which types fit at all, `fitting` has decided before.

    Attributes:
        dialect: the name of its SQL in SQLGlot.
    """

    dialect: str

    def type_name(self, dtype: DType) -> str:
        """The type that holds a dtype; timestamps are naive there, in UTC."""
        ...

    def micros(self, column: Tree, given: pa.DataType, *, up: bool = True) -> Tree:
        """Microseconds since 1970 (64 bits) of a timestamp or date; naive ones are UTC.

        Finer times are rounded up, those of a spine (`up=False`) down, so that nothing leaks.
        """
        ...

    def cast(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree:
        """A value that fits, in its dtype."""
        ...

    def misfit(self, column: Tree, given: pa.DataType, dtype: DType) -> Tree | None:
        """The condition of values that `value_rule.cast_value` refuses; None where all of the type fit."""
        ...

    def failed(self, before: str, value: Tree, after: str, place: Place | None) -> Tree:
        """An expression that fails, when it is read, with a text that has the value and its row in the middle."""
        ...

    def time_literal(self, micros: int, given: pa.DataType) -> Tree | None:
        """An instant as a constant that the engine compares with a column of a type, to leave files unread.

        None where it cannot be said: then nothing is left unread.
        """
        ...

    def instant(self, micros: Tree) -> Tree:
        """Microseconds since 1970 as an instant, in the type of a timestamp."""
        ...

    def in_zone(self, local: Tree, zone: LocalTimes) -> tuple[Tree, Tree] | None:
        """Of a local time (microseconds) its instant, and whether it is `REPEATED`, `SKIPPED` or neither.

        None in an engine that takes naive times as UTC alone.
        """
        ...

    def key_integer(self, key: Tree, dtype: DType) -> Tree:
        """What the hash of `planning.buckets` takes of a key that the query does not hold as an integer.

        Args:
            key: a key in the query's form.
            dtype: date, bool, string or bytes.

        Returns:
            Of a date its days since 1970; of a bool 0 or 1; of text (by its UTF-8) and bytes the first seven
            hexadecimal digits of the MD5, as a number. NULL of NULL.
        """
        ...
