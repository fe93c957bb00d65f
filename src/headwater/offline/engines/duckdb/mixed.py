"""Columns whose type differs between Parquet files of one source.

DuckDB gives such a column one type before any value is looked at: integers beside floats become floats, numbers beside
text become text. So that a value is the same number as in a file alone, each file's column is cast from its own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from headwater.definitions.source import Source
from headwater.errors import SourceError
from headwater.offline.engines.duckdb.opened import ROW, Session, Wanted
from headwater.offline.engines.duckdb.words import WORDS, name_sql, type_name
from headwater.offline.fitting import Columns
from headwater.types import castable, is_list, key_castable


def check_schemas(files: Sequence[str], schemas: Sequence[pa.Schema], columns: Iterable[str], where: str) -> None:
    """Refuse what DuckDB would read as something else: wide decimals, durations, two columns of one name.

    Args:
        files: as errors name them.
        schemas: of each.
        columns: those that count.
        where: for errors.

    Raises:
        SourceError: naming file and column.
    """
    wanted = set(columns)
    for file, schema in zip(files, schemas, strict=True):
        for field in schema:
            if field.name not in wanted:
                continue
            check_type(field.type, f"{where}: {file}: column {field.name!r}")
            if schema.names.count(field.name) > 1:
                raise SourceError(f"{where}: {file}: {schema.names.count(field.name)} columns are named {field.name!r}")


def check_type(kind: pa.DataType, what: str) -> None:
    """Refuse a type that DuckDB takes for another one, in lists and structs too.

    Args:
        kind: the column's type.
        what: the column, as the error names it.

    Raises:
        SourceError: with the cure.
    """
    for inner in _inner_types(kind):
        if pa.types.is_decimal256(inner):
            raise SourceError(
                f"{what} is {kind}; decimals of at most 38 digits are read: "
                "write the column as decimal(38, …) or as float64"
            )
        if pa.types.is_duration(inner):
            raise SourceError(f"{what} is {kind}, and no dtype holds durations: write a number of a stated unit")


def _inner_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type, and all that it holds."""
    yield kind
    if pa.types.is_dictionary(kind):
        yield from _inner_types(kind.value_type)
    for i in range(kind.num_fields):
        yield from _inner_types(kind.field(i).type)


def mixed_columns(
    files: Sequence[str], schemas: Sequence[pa.Schema], source: Source, wanted: Wanted, where: str
) -> dict[str, list[pa.DataType | None]]:
    """The columns to be cast file by file → the type in each file; None where it lacks the column.

    Raises:
        SourceError: types that cannot be read together, with both files.
    """
    if len(files) == 1:
        return {}
    mixed: dict[str, list[pa.DataType | None]] = {}
    for name in wanted.columns:
        types = [arrow_form(schema.field(name).type) if name in schema.names else None for schema in schemas]
        kinds = list(dict.fromkeys(kind for kind in types if kind is not None and not pa.types.is_null(kind)))
        if len(kinds) < 2:
            continue
        times = all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in kinds)
        if times and (source.timezone is None or len({getattr(kind, "tz", None) for kind in kinds}) == 1):
            continue
        if not times and _one_family(kinds):
            continue
        dtype, refused = wanted.one_dtype(name), ""
        if times:
            refused = "with timezone= one cannot be told from the other: write both with or both without a zone"
        elif dtype is None or name in wanted.times or name == wanted.event_id:
            refused = "write them with one type"
        if refused:
            one, other = (types.index(kind) for kind in kinds[:2])
            raise SourceError(
                f"{where}: column {name!r} is {kinds[0]} in {files[one]} and {kinds[1]} in {files[other]}; {refused}"
            )
        assert dtype is not None
        can = key_castable if name in wanted.keys else castable
        for kind in kinds:
            if not can(kind, dtype):
                fits = types.index(next(k for k in kinds if k != kind))
                raise SourceError(
                    f"{where}: column {name!r} is {kind} in {files[types.index(kind)]}, which does not fit {dtype}; in "
                    f"{files[fits]} it is {types[fits]}: write them with one type"
                )
        mixed[name] = types
    return mixed


def by_type(mixed: dict[str, list[pa.DataType | None]], files: Sequence[int]) -> list[list[int]]:
    """Some files in groups of those whose columns have the same types."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in files:
        groups.setdefault(tuple(str(types[i]) for types in mixed.values()), []).append(i)
    return list(groups.values())


def fitted_query(
    session: Session,
    query: str,
    given: pa.Schema,
    types: dict[str, str],
    mixed: Sequence[str],
    wanted: Wanted,
    where: str,
    rows: Callable[[int], str],
) -> str:
    """The rows of files of the same types: mixed columns in their dtypes, the others as all files together have them.

    Args:
        session: the names of one run.
        query: the rows with their numbers.
        given: its columns as DuckDB reads them.
        types: column → DuckDB's type of all files together.
        mixed: the columns that differ.
        wanted: what they will be.
        where: the view, for errors.
        rows: a row's number → what errors call it.
    """
    cast = Columns(WORDS, {field.name: field.type for field in given}, where, session.place(name_sql(ROW), rows))
    columns = []
    for name in wanted.columns:
        sql = name_sql(name)
        if name not in mixed:
            if name in types:
                columns.append(f"CAST({sql if name in given.names else 'NULL'} AS {types[name]}) AS {sql}")
            continue
        dtype = wanted.one_dtype(name)
        assert dtype is not None
        if name not in given.names:
            columns.append(f"CAST(NULL AS {type_name(dtype)}) AS {sql}")
        elif name in wanted.keys:
            columns.append(f"CAST({cast.key(name, dtype).sql('duckdb')} AS {type_name(dtype)}) AS {sql}")
        else:
            value = cast.value(name, dtype, wanted.named.get(name)).sql("duckdb")
            columns.append(f"CAST({value} AS {type_name(dtype)}) AS {sql}")
    return f"SELECT {', '.join([*columns, ROW])} FROM ({query})"


def _one_family(kinds: Sequence[pa.DataType]) -> bool:
    """Whether DuckDB's own type for all of them holds every value of each."""
    if all(is_list(kind) for kind in kinds):
        inner = list(dict.fromkeys(kind.value_type for kind in kinds))
        return len(inner) == 1 or _one_family(inner)
    whole = all(pa.types.is_integer(kind) and not pa.types.is_uint64(kind) for kind in kinds)
    binary = all(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) for kind in kinds)
    return whole or binary or all(pa.types.is_floating(kind) for kind in kinds)


def arrow_form(kind: pa.DataType) -> pa.DataType:
    """A type as DuckDB sees it: it makes no difference between the ways in which Arrow holds text and lists."""
    if pa.types.is_dictionary(kind):
        return arrow_form(kind.value_type)
    if is_list(kind):
        return pa.list_(arrow_form(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.timestamp(kind.unit, None if kind.tz is None else "UTC") if pa.types.is_timestamp(kind) else kind
