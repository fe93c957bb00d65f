"""Places: where in its text a part of a query is, as line and column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp


def place_of(query: str, tree: exp.Expression, node: exp.Expression) -> str:
    """Where a part of a query begins: `line 3, column 8`, both from 1; of what SQLGlot has no place for, its parts'.

    Args:
        query: the text.
        tree: as it was parsed.
        node: a node of the tree.
    """
    start = _start(query, tree, node)
    line = query.count("\n", 0, start) + 1
    return f"line {line}, column {start - (query.rfind(chr(10), 0, start) + 1) + 1}"


def _start(query: str, tree: exp.Expression, node: exp.Expression) -> int:
    own = _own(node)
    if own is None and not isinstance(node, (exp.Alias, exp.Column, exp.Table)):
        own = _by_word(query, tree, node)
    if own is not None:
        return own
    inside = [start for start in map(_own, node.walk()) if start is not None]
    if inside:
        return min(inside)
    return 0 if node.parent is None else _start(query, tree, node.parent)


def _own(node: Any) -> int | None:
    start = node.meta.get("start") if isinstance(node, exp.Expression) else None
    return start if isinstance(start, int) else None


def _by_word(query: str, tree: exp.Expression, node: exp.Expression) -> int | None:
    """The word that a node begins with, counted among the nodes of its kind."""
    words = {name.casefold() for name in _words(node)}
    found = [token.start for token in sqlglot.tokenize(query, dialect="duckdb") if token.text.casefold() in words]
    like = [other for other in tree.dfs() if type(other) is type(node)]
    number = next((i for i, other in enumerate(like) if other is node), 0)
    return found[min(number, len(found) - 1)] if found else None


def _words(node: exp.Expression) -> Iterator[str]:
    if isinstance(node, exp.Func):
        yield from type(node).sql_names()
    text = node.sql(dialect="duckdb").replace("(", " ").split()
    if text:
        yield text[0]
