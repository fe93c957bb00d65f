"""Which sources Spark reads itself: tables, queries and paths of its own, and queries over its tables alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from headwater.definitions.source import Source
from headwater.definitions.sources import SparkSource, SQLSource
from headwater.errors import SourceError
from headwater.offline.engines.spark.files import local_url
from headwater.offline.engines.spark.words import name_sql
from headwater.offline.trees import Tree


def query_of(source: Source, folder: Path) -> str | None:
    """The query, in Spark's SQL, of a source that Spark reads itself; None: it is not one.

    Args:
        source: any source.
        folder: of relative paths.

    Raises:
        SourceError: a table's name that is not one.
    """
    if isinstance(source, SparkSource):
        if source.query is not None:
            return source.query
        if source.table is not None:
            return f"SELECT * FROM {table_name(source.table)}"
        return f"SELECT * FROM {source.format}.{name_sql(_located(str(source.path), folder))}"
    if isinstance(source, SQLSource) and not source.tables and _reads_tables(source.query):
        return source.query
    return None


def _located(path: str, folder: Path) -> str:
    """A path as Spark takes it."""
    return path if "://" in path or path.startswith("/") else f"{local_url(folder)}/{path}"


def table_name(name: str) -> str:
    """A table's name with its parts quoted."""
    try:
        table = parse_one(name, into=exp.Table, dialect="spark")
    except SqlglotError:
        raise SourceError(f"{name!r} is not the name of a table: write catalog.schema.table") from None
    return ".".join(name_sql(part.name) for part in table.parts)


def view_name(query: str) -> str:
    """The name of the temporary view of a query: the same of the same text."""
    return f"hw_query_{hashlib.sha256(query.encode()).hexdigest()[:20]}"


def _reads_tables(query: str) -> bool:
    """Whether a query reads named tables, and nothing else that only the embedded engine knows."""
    try:
        parsed = parse_one(query, dialect="spark")
    except SqlglotError:
        return False
    tables = list(_tables(parsed))
    return bool(tables) and all(_is_named(table) for table in tables)


def _tables(parsed: Tree) -> Iterator[exp.Table]:
    """The tables of a query, those of its WITH left out."""
    own = {cte.alias for cte in parsed.find_all(exp.CTE)}
    for table in parsed.find_all(exp.Table):
        if table.db or not isinstance(table.this, exp.Identifier) or table.name not in own:
            yield table


def _is_named(table: exp.Table) -> bool:
    """Whether a table is named as a catalog names them: not a function, nor a file."""
    return isinstance(table.this, exp.Identifier) and not set(table.name) & set("/\\*.'")
