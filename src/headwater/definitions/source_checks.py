"""Checks of a view's source: its settings, its query, and its columns against keys and features."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, NamedTuple

import pyarrow as pa
import sqlglot
from sqlglot import exp

from headwater.definitions.csv_format import csv_problems
from headwater.definitions.names import (
    LOG_COLUMNS,
    REPEATED_IN,
    date_key_problem,
    is_text,
    named_in,
    noted,
    of_those,
    repeated,
    same_but_case,
    twin,
)
from headwater.definitions.source import Source
from headwater.definitions.sources import (
    LACKING,
    TEXT_SOURCES,
    CSVSource,
    ParquetSource,
    PushSource,
    SparkSource,
    SQLSource,
)
from headwater.definitions.time_zones import time_zone
from headwater.definitions.transform_checks import transform_problems
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.definitions.view_tables import ViewTable, table_problems
from headwater.definitions.window_checks import aggregation_column_problems
from headwater.errors import HeadwaterError, UsageError, listing, nearest
from headwater.types import DType, Timestamp, castable, declare_hint, is_utf8, key_castable


class Note(str):
    """Something to know about a source that is not a problem."""


@dataclass(frozen=True)
class Read:
    """The columns of a source, where another stands in for it: rows that a test gave, say.

    Attributes:
        schema: the columns.
        source: what they were read from.
    """

    schema: pa.Schema
    source: Source


Schemas = Callable[[Source], pa.Schema | Read | None]
"""The columns of a source; None where they cannot be known. May raise a HeadwaterError, which becomes a problem."""

_WORDS = (
    "all analyse analyze and anti any array as asc asof asymmetric at authorization binary both by case cast check "
    "collate collation column concurrently constraint create cross default deferrable desc describe distinct do else "
    "end except false fetch for foreign freeze from full glob group having ilike in initially inner intersect into is "
    "isnull join lambda lateral leading left like limit natural not notnull null offset on only or order outer "
    "overlaps pivot pivot_longer pivot_wider placing positional primary qualify references returning right select "
    "semi show similar some summarize symmetric table tablesample then to trailing true union unique unpack unpivot "
    "using variadic verbose when where window with "
)
_RESERVED = frozenset(_WORDS.split())
"""Words that DuckDB takes for a name only in double quotes."""

RESERVED_COLUMN = "created_time"
"""Rows given to `write` may carry it where the source names no created time."""


def check_settings(source: Any, where: str = "source") -> Iterator[str]:
    """Problems of a source that show without looking at its data."""
    if not isinstance(source, Source):
        yield f"{where}: must be a source, such as hw.ParquetSource('…', event_time='…'), not {source!r}"
        return
    yield from (f"{where}.{problem}" for problem in source.problems)
    for name in ("event_time", "created_time", "event_id", "valid_from", "valid_to"):
        value = getattr(source, name)
        if value is not None and not is_text(value):
            yield f"{where}.{name}: must be the name of a column, not {value!r}"
    if source.valid_from is not None and source.event_time != source.valid_from:
        yield (
            f"{where}: event_time={source.event_time!r} and valid_from={source.valid_from!r} are both given: both say "
            "when a row became true; give one of them"
        )
    if source.valid_to is not None and source.valid_from is None:
        yield (
            f"{where}: valid_to requires valid_from=, the column with the time from which a row is valid (instead of "
            "event_time=)"
        )
    elif source.valid_to is not None and source.valid_to == source.valid_from:
        yield f"{where}: valid_from and valid_to are both {source.valid_to!r}; they must be two columns"
    if source.valid_to is not None and where != "source":
        yield (
            f"{where}.valid_to: a query sees all rows of its tables; compare with the column in the query, and name "
            "valid_to= on the source that the view reads"
        )
    if source.created_time is not None and source.event_time is None:
        yield f"{where}: created_time requires an event_time: without one every row is always valid"
    if source.delay_time < timedelta(0):
        yield f"{where}.delay: {source.delay_time} is negative; a row cannot be known before its event time"
    if source.timezone is not None:
        try:
            time_zone(source.timezone)
        except UsageError as bad:
            yield f"{where}.timezone: {bad}"
    if isinstance(source, (ParquetSource, *TEXT_SOURCES)) and not (
        is_text(source.path) or isinstance(source.path, PurePath)
    ):
        yield f"{where}.path: must be a path, not {source.path!r}"
    if isinstance(source, CSVSource):
        yield from (f"{where}.{option}: {problem}" for option, problem in csv_problems(source.format))
    if isinstance(source, PushSource) and source.delay_time > timedelta(0):
        yield (
            f"{where}.delay: a push source has no delay: its rows are known at the created time that they carry, else "
            "when they arrive; to load history as known at its event time, write it with created='event'"
        )
    if isinstance(source, (PushSource, *TEXT_SOURCES)) and source.schema is not None:
        yield from _check_schema(source.schema, where)
    if isinstance(source, SparkSource):
        yield from _check_spark(source, where)
    if isinstance(source, SQLSource):
        yield from _check_query(source, where)
    if isinstance(source, TransformSource):
        yield from transform_problems(source, where)
        for name, table in source.tables.items() if isinstance(source.tables, Mapping) else ():
            if not isinstance(table, (FeatureView, ViewTable)):
                yield from check_settings(table, f"{where}.sources[{name!r}]")
    if isinstance(source, ViewTable) and where == "source":
        query = f"hw.SQLSource('SELECT … FROM v', tables={{'v': {source.view.name}}}, …)"
        yield f"{where}: a view is not a source: select from it, {query}"


def _check_schema(schema: Any, where: str) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        yield f"{where}.schema: must map columns to dtypes, not {schema!r}"
        return
    for name, dtype in schema.items():
        if not isinstance(dtype, DType):
            yield f"{where}.schema: column {name!r} is {dtype!r}; give a dtype such as hw.Float64"


def _check_spark(source: SparkSource, where: str) -> Iterator[str]:
    given = {name: getattr(source, name) for name in ("table", "query", "path")}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        has = f"not {' and '.join(named)}" if named else "none was given"
        yield f"{where}: a SparkSource must have one of table, query and path; {has}"
    for name in named:
        value = given[name]
        if not (is_text(value) or (name == "path" and isinstance(value, PurePath))):
            yield f"{where}.{name}: must be text, not {value!r}"
    if source.format is not None and source.path is None:
        yield f"{where}.format: only a path has a format"
    if source.path is not None and (not is_text(source.format) or not str(source.format).isidentifier()):
        yield f"{where}.format: must be the name of a format of Spark's, such as 'parquet', not {source.format!r}"
    if is_text(source.query):
        try:
            trees = [tree for tree in sqlglot.parse(str(source.query), dialect="spark") if tree is not None]
        except sqlglot.errors.SqlglotError as bad:
            yield f"{where}.query: {_not_sql(bad)}"
            return
        if len(trees) != 1 or not isinstance(trees[0], exp.Query):
            yield f"{where}.query: must be one SELECT, not {source.query!r}"


def _check_query(source: SQLSource, where: str) -> Iterator[str]:
    if not isinstance(source.tables, Mapping):
        yield f"{where}.tables: must map names to sources, not {source.tables!r}"
        return
    for name, table in source.tables.items():
        inside = f"{where}.tables[{name!r}]"
        if isinstance(table, PushSource):
            yield f"{inside}: a push source has no table to query; its rows are in the offline log: give the view of it"
        if isinstance(table, ViewTable):
            yield from (f"{inside}: {problem}" for problem in table_problems(table))
        if isinstance(table, FeatureSelection):
            yield f"{inside}: give the view itself, not a selection of its features: the query names those it reads"
            continue
        yield from check_settings(table, inside)
    if not is_text(source.query):
        yield f"{where}.query: must be a SELECT, not {source.query!r}"
        return
    try:
        trees = [tree for tree in sqlglot.parse(source.query, dialect="duckdb") if tree is not None]
    except sqlglot.errors.SqlglotError as bad:
        yield f"{where}.query: {_quoting_hint(source.query)}{_not_sql(bad)}"
        return
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        yield f"{where}.query: must be one SELECT, not {'several statements' if len(trees) > 1 else source.query!r}"
        return
    named = {cte.alias_or_name for cte in trees[0].find_all(exp.CTE)}
    known = {str(name).casefold() for name in source.tables} | {name.casefold() for name in named}
    used = {t.name: None for t in trees[0].find_all(exp.Table) if t.name.isidentifier() and not t.db}
    for name in used:
        if name.casefold() not in known:
            yield f"{where}.query: table {name!r} is not in tables={{…}}{nearest(name, source.tables)}"


def _quoting_hint(query: str) -> str:
    """What to do about words of SQL that stand where a query names a column or table; empty where none does."""
    try:
        tokens = sqlglot.tokenize(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return ""
    around = [None, *tokens, None]
    words = [
        token.text
        for before, token, after in zip(around, tokens, around[2:], strict=False)
        if token.text.casefold() in _RESERVED
        and token.token_type not in (sqlglot.TokenType.IDENTIFIER, sqlglot.TokenType.STRING)
        and _opens(before)
        and _closes(after)
    ]
    named = ", ".join(f'"{word}"' for word in dict.fromkeys(words))
    return (
        f"{', '.join(dict.fromkeys(words))} is a reserved SQL keyword; write {named} to use it as a name: "
        if words
        else ""
    )


def _opens(token: sqlglot.Token | None) -> bool:
    """Whether a name may follow: a SELECT, FROM, comma, point, parenthesis or operator."""
    return token is not None and token.text.casefold() in ("select", "from", "join", ",", ".", "(", "=", "+", "-", "*")


def _closes(token: sqlglot.Token | None) -> bool:
    """Whether a name may stand before it, and no more of an expression than that."""
    return token is None or token.text.casefold() in ("from", "as", ",", ".", ")", "=", "+", "-", "where", "join", ";")


def _not_sql(error: sqlglot.errors.SqlglotError) -> str:
    """What a parser says of a query, without its own classes and colours."""
    first = error.errors[0] if isinstance(error, sqlglot.errors.ParseError) and error.errors else {}
    if not first.get("line"):
        return str(error).replace("\x1b[4m", "").replace("\x1b[0m", "").strip().partition("\n")[0]
    said = str(first["description"])
    reason = "something is missing" if "<" in said else said[:1].lower() + said[1:]
    return f"not valid SQL at line {first['line']}, column {first['col']}, near {first['highlight']!r}: {reason}"


def check_columns(view: FeatureView, schemas: Schemas | None) -> Iterator[tuple[str | None, str]]:
    """Problems of a view's columns in its source, each with the feature that it is about; a `Note` is not a problem.

    The view's own settings must be right.
    """
    yield from _check_csv_dtypes(view)
    used = _used_columns(view)
    yield from _check_date_keys(view)
    yield from ((None, f"source: {same_but_case(one, other)}") for one, other in repeated(used))
    for name in LOG_COLUMNS if isinstance(view.source, PushSource) else ():
        if name in used:
            yield None, f"source: {name!r} is reserved by the offline log; rename that column in what is written"
    read = _read(view, schemas)
    if isinstance(read, str):
        yield None, read
    elif read is not None and (problem := _other_separator(read)) is not None:
        yield None, problem
    elif read is not None:
        for name in used:
            other = twin(name, read.schema.names)
            if other is not None and other not in used and name in read.schema.names:
                files = (named_in(read.schema, name), named_in(read.schema, other))
                yield None, f"source: {same_but_case(name, other, files)}"
        yield from _check_times(view, read)
        yield from _check_keys(view, read)
        yield from _check_features(view, read)
    if not isinstance(read, str):
        yield from aggregation_column_problems(view, None if read is None else read.schema)


def _check_date_keys(view: FeatureView) -> Iterator[tuple[None, str]]:
    """A date that is a time too is an instant where it is pushed, of text, or of a time zone: no date any more."""
    source = view.source
    moves = source.timezone not in (None, "UTC") or isinstance(source, (PushSource, *TEXT_SOURCES))
    for key, dtype in view.join_keys.items():
        column = view.key_column(key)
        if moves and dtype.name == "date" and column in source.times:
            yield None, date_key_problem(key, column)


def _used_columns(view: FeatureView) -> dict[str, None]:
    """The columns of its source that a view reads."""
    keys = [view.key_column(key) for key in view.join_keys]
    ids = [] if view.source.event_id is None else [view.source.event_id]
    return dict.fromkeys([*keys, *view.source.times, *ids, *view.columns_read])


def _other_separator(read: Read) -> str | None:
    """The problem that the fields of a CSV, read as one column, seem to be separated by something else."""
    if not isinstance(read.source, CSVSource) or len(read.schema) != 1:
        return None
    name, mine = read.schema.names[0], read.source.format.delimiter_of(read.source.location)
    mark = next((mark for mark in ";\t|," if mark in name and mark != mine), None)
    if mark is None:
        return None
    return (
        f"source: {read.source.shown_location} has one column, {name!r}: its fields are separated by {mark!r}, those "
        f"of this source by {mine!r}: CSVSource(…, delimiter={mark!r})"
    )


def _check_csv_dtypes(view: FeatureView) -> Iterator[tuple[str | None, str]]:
    """A CSV's column is cast to one dtype, whatever reads it."""
    if not isinstance(view.source, TEXT_SOURCES):
        return
    users: dict[str, tuple[str, str]] = {}
    times = {view.source.created_time: "created_time", view.source.event_time: "event_time"}
    times[view.source.valid_to] = "valid_to"
    users |= {column: (setting, "a time") for column, setting in times.items() if column is not None}
    keys = [
        (f"join key {key}", view.key_column(key), dtype)
        for key, dtype in view.join_keys.items()
        if dtype.name != "date" or view.key_column(key) not in times
    ]
    features = [(read.feature, read.column, read.dtype) for read in values_read(view) if read.dtype is not None]
    for user, column, dtype in [*keys, *features]:
        wanted = "a time" if column in times and dtype.name == "timestamp" else str(dtype)
        first, held = users.setdefault(column, (user, wanted))
        if held != wanted:
            yield (
                None if user.startswith("join key ") else user,
                f"column {column!r} of a {view.source.kind.upper()} is cast to one dtype; it is {held} for "
                f"{first} and {wanted} here: declare both with one dtype, or make two columns in a SQLSource",
            )


def _read(view: FeatureView, schemas: Schemas | None) -> Read | str | None:
    """The columns of a view's source, or why they cannot be had; None where nobody can know."""
    source = view.source
    if isinstance(source, SQLSource) and is_text(source.query) and not is_utf8(source.query):
        return None  # which the checks of its text say
    try:
        found = None if schemas is None else schemas(source)
    except HeadwaterError as bad:
        hint = _quoting_hint(source.query) if isinstance(source, SQLSource) and "syntax error" in str(bad) else ""
        return f"source: {hint}{bad}"
    if isinstance(found, Read):
        return found
    if isinstance(source, PushSource):
        return _pushed(view, source)
    return None if found is None else Read(found, source)


def _pushed(view: FeatureView, source: PushSource) -> Read | None:
    """The columns of rows that are written: those that the view uses, and what its source's schema says of any."""
    if not source.schema:
        return None
    types = dict.fromkeys(source.times, Timestamp.arrow)
    types |= {view.key_column(key): dtype.arrow for key, dtype in view.join_keys.items()}
    for column, dtype in view.column_dtypes:
        types.setdefault(column, dtype.arrow)
    return Read(pa.schema({**types, **{name: dtype.arrow for name, dtype in source.schema.items()}}), source)


def _column(schema: pa.Schema, name: str, what: str) -> pa.DataType | str:
    """The type of a column, or the problem that there is none."""
    if name not in schema.names:
        there = of_those(name, schema.names, "it")
        return f"{what}: the source has no column {name!r}{_index_hint(schema, name) or there}"
    twice = noted(schema, name, REPEATED_IN)
    if twice is not None:
        return f"{what}: {twice}: two columns are named {name!r}; rename one in the file"
    return schema.field(name).type


def _index_hint(schema: pa.Schema, name: str) -> str:
    """What to do where a column is the index of the pandas frame that was written, which a file may only describe."""
    try:
        index = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        described = any(isinstance(part, dict) and part["name"] == name for part in index)
    except (KeyError, TypeError, ValueError):
        return ""
    if not described:
        return ""
    return "; it is the index of the pandas frame, a range that is not written: write frame.reset_index() instead"


def _check_every_file(schema: pa.Schema, name: str, what: str) -> Iterator[tuple[None, str]]:
    lacking = noted(schema, name, LACKING)
    if lacking is not None:
        yield (
            None,
            f"{what}: column {name!r} is missing in {lacking}; every file of a source must have its keys and times",
        )


def _check_times(view: FeatureView, read: Read) -> Iterator[tuple[None, str]]:
    source = view.source
    first = "event_time" if source.valid_from is None else "valid_from"
    for setting in (first, "created_time", "valid_to", "event_id"):
        name = getattr(source, setting)
        if name is None:
            continue
        given = _column(read.schema, name, setting)
        if isinstance(given, str):
            yield None, given
        elif setting != "event_id" and not _is_time(given, read.source):
            hint = _text_hint(given, name, "Timestamp", read.source) or "; cast it in a SQLSource or in the data"
            yield None, f"{setting}: column {name!r} is {given}, not a time{hint}"
        else:
            yield from _check_every_file(read.schema, name, setting)


def _is_time(given: pa.DataType, source: Source) -> bool:
    # a CSV's columns are cast when they are read
    return (
        isinstance(source, TEXT_SOURCES)
        or pa.types.is_null(given)
        or pa.types.is_timestamp(given)
        or pa.types.is_date(given)
    )


def _text_hint(given: pa.DataType, name: str, dtype: str, source: Source) -> str:
    """What to do about a query's column of text where it reads files of text; empty where it reads none."""
    if not pa.types.is_string(given) or not isinstance(source, SQLSource):
        return ""
    tables = [table for table, read in source.tables.items() if isinstance(read, TEXT_SOURCES)]
    if not tables:
        return ""
    return (
        f"; a query sees columns of CSV and JSON files as text, unless the source says more: schema={{{name!r}: "
        f"hw.{dtype}}} in tables[{tables[0]!r}]"
    )


def _check_keys(view: FeatureView, read: Read) -> Iterator[tuple[None, str]]:
    for key, dtype in view.join_keys.items():
        name = view.key_column(key)
        given = _column(read.schema, name, f"join key {key}")
        if isinstance(given, str):
            hint = "" if key in view.join_key_map else f" (join_key_map={{{key!r}: …}} names another)"
            yield None, given + hint
        elif not isinstance(read.source, TEXT_SOURCES) and not key_castable(given, dtype):
            hint = _text_hint(given, name, repr(dtype), read.source) or "; keys are never cast silently"
            yield None, f"join key {key}: column {name!r} is {given}, the key is {dtype}{hint}"
        else:
            yield from _check_every_file(read.schema, name, f"join key {key}")


def _renamed_hint(view: FeatureView, schema: pa.Schema, name: str, said: str) -> str:
    """Which column may be the one that a feature named before, where no name is near as it is written."""
    source = view.source
    used = {*source.times, source.event_id, *map(view.key_column, view.join_keys)}
    used |= set(view.columns_read)
    free = [other for other in schema.names if other not in used]
    if not free or "did you mean" in said:
        return ""
    plain = {"".join(filter(str.isalnum, other)).casefold(): other for other in reversed(free)}
    near = get_close_matches("".join(filter(str.isalnum, name)).casefold(), plain, n=1)
    if near:
        return f"; did you mean {plain[near[0]]!r}?"
    return f"; was it renamed? No feature uses {listing(map(repr, free))}"


def _check_features(view: FeatureView, read: Read) -> Iterator[tuple[str, str]]:
    for value in values_read(view):
        name, dtype = value.column, value.dtype
        given = _column(read.schema, name, "column")
        if isinstance(given, str):
            yield value.feature, given + _renamed_hint(view, read.schema, name, given)
        elif dtype is not None and not isinstance(read.source, TEXT_SOURCES) and not castable(given, dtype):
            hint = _text_hint(given, name, repr(dtype), read.source) or declare_hint(given)
            yield value.feature, f"column {name!r} is {given}, {value.declared} {dtype}{hint}"
        elif (files := noted(read.schema, name, LACKING)) is not None:
            yield value.feature, Note(f"column {name!r} is missing in {files}: NULL in their rows")


class ValueRead(NamedTuple):
    """A column of the source as a view reads it: for which feature first, as what, and what says so."""

    feature: str
    column: str
    dtype: DType | None
    declared: str


def values_read(view: FeatureView) -> list[ValueRead]:
    """The columns of its source that a view reads as values."""
    if not view.aggregations:
        return [ValueRead(f.name, f.source_column, f.dtype, "the feature is") for f in view.feature_list]
    users = {name: made.feature_name for made in reversed(view.aggregations) for name in made.columns_read}
    said = "columns= says"
    return [ValueRead(users[name], name, view.columns.get(name), said) for name in view.columns_read]
