"""The rows of a window function's OVER clause."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from headwater.definitions.query_scopes import Tree

_DEFAULT = "range between unbounded preceding and current row"
_ALL = " between unbounded preceding and unbounded following"
_BEHIND = (exp.Lag, exp.RowNumber)
_RANKS = frozenset(("rank", "dense_rank"))
"""Functions that take the rows before, whatever the frame."""
_AHEAD = frozenset(("lead", "ntile", "percent_rank", "cume_dist"))
"""Functions that take all rows of the partition, whatever the frame."""


@dataclass(frozen=True)
class Over:
    """An OVER clause, as text to be compared.

    Attributes:
        partition: the expressions of PARTITION BY.
        order: those of ORDER BY.
        frame: the frame; empty: from the first row to this one and its peers.
    """

    partition: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    frame: str = ""

    def __str__(self) -> str:
        by = f"PARTITION BY {', '.join(self.partition)}" if self.partition else ""
        order = f"ORDER BY {', '.join(self.order)}" if self.order else ""
        return f"({' '.join(filter(None, (by, order, self.frame.upper())))})"

    @property
    def is_whole(self) -> bool:
        """Whether it takes all rows of the partition."""
        return self.frame.endswith(_ALL) or not (self.order or self.frame)

    @property
    def includes_row(self) -> bool:
        """Whether a row is always among those of its own window."""
        if "exclude" in self.frame:
            return False
        if self.is_whole or not self.frame:
            return True
        start, _, end = self.frame.partition(" and ")
        return start.endswith(("preceding", "current row")) and end.endswith(("following", "current row"))

    def covers(self, other: Over) -> bool:
        """Whether it takes every row that another one takes."""
        if self.is_whole and set(self.partition) <= set(other.partition):
            return True
        return (set(self.partition), self.order, self.frame) == (set(other.partition), other.order, other.frame)


def over_of(window: exp.Window, select: exp.Select) -> Over:
    """The OVER clause of a window function; one that the WINDOW clause names is looked up there."""
    named = _named(window, select)
    parts = [window] if named is None else [named, window]
    partition = tuple(_text(one) for part in parts for one in part.args.get("partition_by") or ())
    orders = [order for part in parts if isinstance(order := part.args.get("order"), Tree)]
    order = tuple(_text(one) for each in orders for one in each.expressions)
    specs = [spec for part in parts if isinstance(spec := part.args.get("spec"), Tree)]
    frame = _text(specs[-1]) if specs else ""
    return Over(partition, order, "" if frame == _DEFAULT and order else frame)


def need_of(window: exp.Window, select: exp.Select) -> Over:
    """The rows that a window function's value depends on."""
    over, name = over_of(window, select), function_name(window.this)
    if name in _AHEAD:
        return Over(over.partition)
    if name in _RANKS or isinstance(function_of(window.this), _BEHIND):
        return Over(over.partition, over.order)
    return over


def function_of(node: Tree) -> Tree:
    """The function itself, without IGNORE NULLS and FILTER."""
    while isinstance(node, (exp.IgnoreNulls, exp.RespectNulls, exp.Filter)):
        node = node.this
    return node


def function_name(node: Tree) -> str:
    """A function's name in lower case."""
    function = function_of(node)
    return (
        (function.name if isinstance(function, exp.Anonymous) else function.sql_name()).lower()
        if isinstance(function, exp.Func)
        else ""
    )


def _named(window: exp.Window, select: exp.Select) -> Tree | None:
    name = window.args.get("alias")
    wanted = name.name.lower() if isinstance(name, Tree) else ""
    first = window.args.get("first")
    if not wanted and isinstance(first, Tree):
        wanted = first.name.lower()
    for known in select.args.get("windows") or ():
        if wanted and isinstance(known.this, exp.Identifier) and known.this.name.lower() == wanted:
            return known if isinstance(known, Tree) else None
    return None


def _text(node: Tree) -> str:
    return node.sql(dialect="duckdb", comments=False).lower()


def is_windowed(node: Tree) -> bool:
    """Whether a function has an OVER clause."""
    parent = node.parent
    while isinstance(parent, (exp.IgnoreNulls, exp.RespectNulls, exp.Filter)):
        parent = parent.parent
    return isinstance(parent, exp.Window)
