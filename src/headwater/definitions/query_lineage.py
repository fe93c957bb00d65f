"""Lineage: from which columns of which tables a query's column is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node, lineage

Known = tuple[tuple[str, tuple[str, ...]], ...]
"""(table, its columns) of the tables whose columns are known."""


def origins(query: str, column: str, tables: Mapping[str, Sequence[str] | None]) -> tuple[tuple[str, str], ...] | None:
    """The columns that a query's column is computed from, by the names of its tables, each once.

    Conditions, joins and groups are not looked at: they choose rows, and are no part of a value.

    Args:
        query: the query.
        column: one of its columns.
        tables: the query's tables, with their columns where these are known.

    Returns:
        (table, column); none where the value is of no table. None where it cannot be told, as behind a star over a
        table whose columns are not known.
    """
    known = tuple(sorted((name, tuple(names)) for name, names in tables.items() if names is not None))
    found = _found(query, column, known)
    names = {name.lower(): name for name in tables}
    if found is None or any(table.lower() not in names or name == "*" for table, name in found):
        return None
    return tuple((names[table.lower()], name) for table, name in found)


def _root(query: str, column: str, schema: dict[str, dict[str, str]]) -> Node | None:
    """Where the lineage of a column begins; None where SQLGlot finds no such column, or not where it is from."""
    try:
        return lineage(column, query, schema=schema, dialect="duckdb")
    except (sqlglot.errors.SqlglotError, ValueError, KeyError):
        return None


@lru_cache(maxsize=1024)
def _found(query: str, column: str, known: Known) -> tuple[tuple[str, str], ...] | None:
    schema = {name: dict.fromkeys(columns, "TEXT") for name, columns in known}
    root = _root(query, column, schema) or _root(query, column, {})
    if root is None:
        return None
    found: dict[tuple[str, str], None] = {}
    for node in root.walk():
        if node.downstream or node is root:
            continue
        if not isinstance(node.source, exp.Table):
            return None
        found[node.source.name, node.name.rpartition(".")[2].strip('"')] = None
    if not found and isinstance(root.expression, exp.Expression) and root.expression.find(exp.Column) is not None:
        return None
    return tuple(found)
