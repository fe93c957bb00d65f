"""The statements of an engine, as trees: which functions they call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pyarrow as pa
from sqlglot import exp

from headwater.offline.base import OfflineEngine
from headwater.offline.remote_workspace import RemoteWorkspace

_OPERATORS = (exp.Connector, exp.Binary, exp.Cast, exp.Case, exp.If)
"""Sqlglot counts these among the functions; every engine has them."""


def functions_of(tree: exp.Expression) -> set[str]:
    """The functions that a statement calls, by their names in SQLGlot in lower case, `row_number`, say."""
    found = set()
    for node in tree.find_all(exp.Func):
        if isinstance(node, exp.Anonymous):
            found.add(node.name.lower())
        elif not isinstance(node, _OPERATORS):
            found.add(node.sql_name().lower())
    return found


def watch(engine: OfflineEngine, seen: Callable[[exp.Expression], None]) -> None:
    """Tell of every statement of an engine's runs from now on, before it is run.

    One of a remote engine whose answer would not have the columns that are asked for, in order, is refused.

    Args:
        engine: one whose `workspace` makes what its runs work in, as `RemoteEngine` and the embedded engine do.
        seen: takes the tree of each.
    """
    made: Callable[..., Any] = engine.workspace  # type: ignore[attr-defined]

    def watched(*args: Any, **options: Any) -> Any:
        space = made(*args, **options)
        for name in ("create", "rows", "stream"):
            setattr(space, name, _told(getattr(space, name), seen))
        if isinstance(space, RemoteWorkspace):
            space.stream = _in_order(space.stream)  # type: ignore[method-assign]
        return space

    engine.workspace = watched  # type: ignore[attr-defined]


def _told(method: Callable[..., Any], seen: Callable[[exp.Expression], None]) -> Callable[..., Any]:
    def told(*args: Any, **options: Any) -> Any:
        for given in args:
            if isinstance(given, exp.Expression):
                seen(given)
        return method(*args, **options)

    return told


def columns_of(query: Any) -> list[str] | None:
    """The names of a query's columns in order; None where only the engine knows them."""
    if isinstance(query, exp.SetOperation):
        return columns_of(query.this)
    if isinstance(query, (exp.Subquery, exp.Paren)):
        return columns_of(query.this)
    if not isinstance(query, exp.Select):
        return None
    if not any(isinstance(e, exp.Star) for e in query.expressions):
        return [e.alias_or_name for e in query.expressions]
    source = query.args.get("from_") or query.args.get("from")
    joined = [join for join in query.args.get("joins") or () if join.kind not in ("SEMI", "ANTI")]
    return None if joined or source is None or len(query.expressions) > 1 else columns_of(source.this)


def _in_order(stream: Callable[..., Any]) -> Callable[..., Any]:
    """A workspace's `stream` that refuses a query whose columns are not those of the schema, one by one."""

    def checked(query: exp.Query, schema: pa.Schema, rows: int) -> Any:
        names = columns_of(query)
        assert names is None or names == schema.names, f"columns {names}, of the schema {schema.names}: {query.sql()}"
        return stream(query, schema, rows)

    return checked


def refusing(allowed: Collection[str]) -> Callable[[exp.Expression], None]:
    """What refuses a statement that calls a function which is not among those allowed."""

    def seen(tree: exp.Expression) -> None:
        others = functions_of(tree) - set(allowed)
        assert not others, f"functions that this engine was not said to have: {', '.join(sorted(others))}: {tree.sql()}"

    return seen
