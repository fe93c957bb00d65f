"""Checks of a query before it makes a version: it must be deterministic, and no row known before its inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from headwater.definitions.query_determinism import changing_faults, order_faults
from headwater.definitions.query_known import QueryReading
from headwater.definitions.query_places import place_of
from headwater.definitions.query_scopes import Fault, Rows, Tree
from headwater.definitions.source import Source
from headwater.definitions.sources import SparkSource, SQLSource
from headwater.definitions.view_tables import ViewTable

Columns = Callable[[Source], tuple[str, ...] | None]
"""The columns of a source; None where they cannot be known."""

_BACKWARD = re.compile(r"\binterval\s*'[^']*-", re.IGNORECASE)
"""An interval with a minus in its text."""


def query_problems(source: Source, columns: Columns, where: str = "source") -> Iterator[str]:
    """What is wrong with a query, and with the queries among its tables, each with line and column.

    Args:
        source: any kind of source; its settings must be right.
        columns: those of the tables of a query.
        where: the source's place in the definition.
    """
    if isinstance(source, SparkSource) and source.query is not None:
        yield from _spark_problems(source.query, where)
    if not isinstance(source, SQLSource):
        return
    for name, table in source.tables.items():
        yield from query_problems(table, columns, f"{where}.tables[{name!r}]")
    tree = sqlglot.parse_one(source.query, dialect="duckdb")
    if not isinstance(tree, Tree):
        return
    tables = _tables(source.tables, columns if _needs_columns(source, tree) else _unknown)
    # SQLGlot 26 loses the sign of a text
    reading = QueryReading(tree, tables, intervals=_BACKWARD.search(source.query) is None)
    faults = [*changing_faults(tree), *order_faults(reading.scopes, tree), *reading.faults]
    for fault in faults:
        yield f"{where}.query: {place_of(source.query, tree, fault.node)}: {fault.text}"
    if not faults:
        yield from _times(source, tree, reading, where)


def _spark_problems(query: str, where: str) -> Iterator[str]:
    """What of a query in Spark's SQL is something else at each run; what SQLGlot cannot read is left to Spark."""
    try:
        tree = sqlglot.parse_one(query, dialect="spark")
    except SqlglotError:
        return
    for fault in changing_faults(tree):
        yield f"{where}.query: {place_of(query, tree, fault.node)}: {fault.text}"


def _needs_columns(source: SQLSource, tree: Tree) -> bool:
    """Whether the columns of the tables decide anything: looking them up may cost a listing of files."""
    if any(table.created_time is not None for table in source.tables.values()):
        return True
    return tree.find(exp.Star) is not None and tree.find(exp.Limit, exp.Window, exp.Distinct) is not None


def _unknown(source: Source) -> None:
    return None


def _tables(tables: Mapping[str, Source], columns: Columns) -> dict[str, Rows]:
    found = {}
    for name, table in tables.items():
        names = columns(table)
        lower = None if names is None else tuple(name.lower() for name in names)
        known = () if table.created_time is None else (table.created_time.lower(),)
        found[name.lower()] = Rows(lower, known, table.created_time is not None)
    return found


def _times(source: SQLSource, tree: Tree, reading: QueryReading, where: str) -> Iterator[str]:
    """What is wrong with the times that the source names."""
    if not reading.rows.timed:
        return
    names = [name for name, table in source.tables.items() if table.created_time is not None]
    timed = ", ".join(map(repr, names))
    views = any(isinstance(table, ViewTable) for table in source.tables.values())
    if source.event_time is None:
        yield (
            f"{where}: the query reads {timed}, whose rows have times, but has no event time: name the column in which "
            "its rows have theirs, event_time="
        )
    known = [*reading.rows.known]
    if source.created_time is None:
        example = known[0] if known else "known_at"
        what = "views" if views else "sources with a created time"
        yield (
            f"{where}: the query reads {what} ({timed}), so its rows must say when they became known: "
            f"created_time={example!r}{'' if known else _example(reading)}"
        )
        return
    name = source.created_time.lower()
    if name in known:
        return
    fault = reading.rows.faults.get(name)
    if fault is None and reading.rows.columns is not None and name not in reading.rows.columns:
        return  # the columns of the query are looked at beside
    fault = fault or Fault(tree, f"column {name!r} may be earlier than what its row was made of: write it without *")
    yield f"{where}.query: {place_of(source.query, tree, fault.node)}: created_time: {fault.text}"


def _example(reading: QueryReading) -> str:
    fault = next(iter(reading.rows.faults.values()), None)
    if fault is None or "; write " not in fault.text:
        return ""
    return f", a column such as {fault.text.rpartition('; write ')[2]} AS known_at"
