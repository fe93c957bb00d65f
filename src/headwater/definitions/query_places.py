"""Places: where in its text a part of a query is, as line and column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp

from headwater.definitions.query_scopes import Tree

_OF_WORDS = (
    exp.Func,
    exp.Limit,
    exp.Offset,
    exp.Distinct,
    exp.TableSample,
    exp.Pivot,
    exp.SetOperation,
    exp.Identifier,
)
"""What begins with a word of its own; all else begins with one of its parts."""
_SAME = (frozenset(("string_agg", "group_concat", "listagg")), frozenset(("list", "array_agg")))
"""Names of one function."""


def place_of(query: str, tree: Tree, node: Tree) -> str:
    """Where a part of a query begins: `line 3, column 8`, both from 1; of what SQLGlot has no place for, its parts'.

    Args:
        query: the text.
        tree: as it was parsed.
        node: a node of the tree.
    """
    start = _start(query, tree, node)
    line = query.count("\n", 0, start) + 1
    return f"line {line}, column {start - (query.rfind(chr(10), 0, start) + 1) + 1}"


def _start(query: str, tree: Tree, node: Tree) -> int:
    found = _within(query, tree, node)
    if found is not None:
        return found
    return 0 if node.parent is None else _start(query, tree, node.parent)


def _within(query: str, tree: Tree, node: Tree) -> int | None:
    """Where a node begins, by what is known of itself, of its word, or of what is in it."""
    found = _own(node)
    if found is None and isinstance(node, _OF_WORDS):
        found = _by_word(query, tree, node)
    if found is not None:
        return found
    if found is None and isinstance(node, (exp.Window, exp.Filter)):
        return _within(query, tree, node.this)
    inside = [_within(query, tree, child) for child in node.iter_expressions() if isinstance(child, Tree)]
    return min((start for start in inside if start is not None), default=None)


def _own(node: Any) -> int | None:
    start = node.meta.get("start") if isinstance(node, Tree) else None
    return start if isinstance(start, int) else None


def _by_word(query: str, tree: Tree, node: Tree) -> int | None:
    """The word that a node begins with, counted among the nodes of its kind."""
    words = _words_of(node)
    found = [token.start for token in sqlglot.tokenize(query, dialect="duckdb") if token.text.casefold() in words]
    like = [other for other in _in_order(tree) if type(other) is type(node) and (_words_of(other) & words)]
    number = next((i for i, other in enumerate(like) if other is node), 0)
    return found[min(number, len(found) - 1)] if found else None


def _in_order(node: Tree) -> Iterator[Tree]:
    """A node and all in it, about as they are written: WITH comes first, and in it a table's name."""
    yield node
    children = [child for child in node.iter_expressions() if isinstance(child, Tree)]
    first = exp.TableAlias if isinstance(node, exp.CTE) else exp.With
    for child in sorted(children, key=lambda child: not isinstance(child, first)):
        yield from _in_order(child)


def _words_of(node: Tree) -> set[str]:
    words = {name.casefold() for name in _words(node)}
    return words | {name for names in _SAME if names & words for name in names}


def _words(node: Tree) -> Iterator[str]:
    if isinstance(node, exp.TableSample):
        yield from ("using", "tablesample")
        return
    if isinstance(node, exp.SetOperation):
        yield type(node).__name__
        return
    if isinstance(node, exp.Identifier):  # SQLGlot before 27 has no places of names
        yield node.name
        return
    if isinstance(node, exp.Func):
        yield from type(node).sql_names()
    text = node.sql(dialect="duckdb").replace("(", " ").split()
    if text:
        yield text[0]
