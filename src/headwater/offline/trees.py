"""The trees that statements are made of: SQLGlot's, which every engine writes in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sqlglot import exp

from headwater.clock import MIN_MICROS

if TYPE_CHECKING:
    Tree = exp.Expr
else:
    Tree = exp.Expression  # sqlglot before 27 has no wider name

BIGINT, INT128, TINYINT, DOUBLE = (
    getattr(exp.DataType.Type, name) for name in ("BIGINT", "INT128", "TINYINT", "DOUBLE")
)
"""Types of casts; SQLGlot would parse their names each time."""


class EventRange(Protocol):
    """A filter on a relation's own event column: an engine reads only the row groups and partitions that it reaches."""

    def __call__(self, lower: int | None, upper: int | None) -> Tree | None:
        """Keeps every row with lower ≤ event time ≤ upper (microseconds; None: open); it may keep others too."""
        ...


def column(name: str, table: str | None = None) -> exp.Column:
    """A quoted column."""
    of_table = None if table is None else exp.to_identifier(table)
    return exp.Column(this=exp.Identifier(this=name, quoted=True), table=of_table)


def table_named(name: str) -> exp.Table:
    """A table by its name; a plain one need not be parsed."""
    return exp.Table(this=exp.to_identifier(name)) if name.isidentifier() else exp.to_table(name)


def number(value: int) -> Tree:
    """An integer literal."""
    return exp.convert(value)


def big(value: int) -> Tree:
    """An integer literal of 64 bits; the least one has no literal of its own."""
    if value == MIN_MICROS:
        return exp.cast(exp.Literal.string(str(value)), BIGINT)
    return exp.cast(number(value), BIGINT)


def ascending(values: Sequence[Tree]) -> exp.Order:
    """The least first; none is NULL, and where an engine has NULLs is left to it."""
    return exp.Order(expressions=[exp.Ordered(this=value, nulls_first=True) for value in values])


def equal(left: Tree, right: Tree) -> exp.EQ:
    """Left = right."""
    return exp.EQ(this=left, expression=right)


def is_not_null(value: Tree) -> Tree:
    """Value IS NOT NULL."""
    return exp.Not(this=exp.Is(this=exp.Paren(this=value.copy()), expression=exp.Null()))


def union_all(queries: Sequence[exp.Query]) -> exp.Query:
    """The rows of all queries, which become part of the result."""
    return queries[0] if len(queries) == 1 else exp.union(*queries, distinct=False, copy=False)
