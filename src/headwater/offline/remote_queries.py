"""Queries over tables that an engine holds: the views among their tables become tables of the engine too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from headwater.clock import MIN_MICROS
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, SQLSource
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view_tables import EVENT_TIME, KNOWN_AT, ViewTable
from headwater.errors import SourceError
from headwater.offline.base import ViewInput
from headwater.offline.join.pit import hides
from headwater.offline.join.relations import ViewRelations
from headwater.offline.trees import Tree, column, number, table_named
from headwater.offline.words import Words
from headwater.types import DType, Timestamp


def in_engine(source: Source, holds: Callable[[Source], bool], table_of_view: Callable[[ViewTable], Source]) -> Source:
    """A source as the engine is asked for it; itself where nothing that it reads is the engine's.

    Args:
        source: any source.
        holds: whether the engine has the rows of a source that is not made of others.
        table_of_view: a source of the engine's with all rows of a view.

    Raises:
        SourceError: some of its tables are the engine's, and others are not; or a function is given the engine's rows.
    """
    if isinstance(source, TransformSource):
        for name, table in source.tables.items():
            if _is_held(table, holds):
                raise SourceError(
                    f"transformation {source.name}(): its argument {name!r} is a table of the engine's, and functions "
                    "run in this process, over whole tables: state it as a query (hw.SQLSource), or read files"
                )
        return source
    if not isinstance(source, SQLSource) or not any(_is_held(table, holds) for table in source.tables.values()):
        return source
    tables: dict[str, Source] = {}
    for name, table in source.tables.items():
        if isinstance(table, ViewTable):
            tables[name] = table_of_view(table)
        elif _is_held(table, holds):
            tables[name] = in_engine(table, holds, table_of_view)
        else:
            raise SourceError(
                f"source.query: table {name!r} ({table.kind} source) is not a table of the engine's, and others are: "
                "a query reads either tables of the engine's and views, or what the embedded engine reads; put its "
                "rows into a table of the engine's, or make a view of it"
            )
    return replace(source, tables=tables)


def _is_held(source: Source, holds: Callable[[Source], bool]) -> bool:
    """Whether any row that a source is made of is the engine's."""
    if isinstance(source, ViewTable):
        given = source.rows.source if isinstance(source.rows, ViewInput) else source.view.source
        return given is not None and _is_held(given, holds)
    if isinstance(source, TransformSource) or (isinstance(source, SQLSource) and source.tables):
        return any(_is_held(table, holds) for table in source.tables.values())
    return not isinstance(source, PushSource) and holds(source)


def rows_of_view(table: ViewTable, rows: ViewRelations, words: Words) -> exp.Query:
    """All rows of a view as a query reads them: keys, features, event_time and known_at.

    Args:
        table: the view.
        rows: its rows and tombstones; its features are those of the table.
        words: the engine's.
    """
    names = [feature.name for feature in table.features]
    inner = rows.narrow(features=names).subquery("r")
    keys = [
        _in_dtype(column(f"k{i}", "r"), dtype, words).as_(name, quoted=True)
        for i, (name, dtype) in enumerate(table.view.join_keys.items())
    ]
    values = [column(f"f{i}", "r").as_(name, quoted=True) for i, name in enumerate(names)]
    event, known = column("event", "r"), column("created", "r")
    if rows.timed:
        times = [words.instant(event), words.instant(exp.Greatest(this=event.copy(), expressions=[known]))]
    else:
        absent = exp.cast(exp.Null(), words.type_name(Timestamp), dialect=words.dialect)
        never = exp.Nullif(this=known, expression=exp.cast(exp.Literal.string(str(MIN_MICROS)), "bigint"))
        times = [absent, words.instant(never)]
    named = [time.as_(name, quoted=True) for time, name in zip(times, (EVENT_TIME, KNOWN_AT), strict=True)]
    query = exp.select(*keys, *values, *named).from_(inner)
    if rows.deletes is None:
        return query
    marks = exp.select(number(1)).from_(table_named(rows.deletes).as_("d")).where(hides(rows, "r", None))
    return query.where(exp.Not(this=exp.Exists(this=marks)))


def _in_dtype(key: Tree, dtype: DType, words: Words) -> Tree:
    """A join key in its dtype; the query's form of integers and timestamps has 64 bits."""
    if dtype.name == "timestamp":
        return words.instant(key)
    return exp.cast(key, words.type_name(dtype), dialect=words.dialect) if dtype.name == "int32" else key
