"""Parquet files that a query of the user's reads as one table: refused where their one type would change a value.

DuckDB gives each column one type: with `union_by_name` one that it makes of all files', else the first file's, to which
the values of the others are cast. Integers beside floats lose digits so or fractions, numbers beside text become text.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from headwater.errors import SourceError
from headwater.offline.engines.duckdb.files import files_sql, list_sql
from headwater.offline.engines.duckdb.mixed import arrow_form, check_schemas
from headwater.offline.engines.duckdb.opened import Session
from headwater.offline.files.footers import read_footers
from headwater.offline.files.lacking import check_case
from headwater.offline.files.queried import parquet_reads
from headwater.types import UNITS, is_list

_CURE = (
    "cast it in a query per file, SELECT … FROM 'a.parquet' UNION ALL BY NAME SELECT … FROM 'b.parquet', or write the "
    "files with one type"
)


def check_reads(session: Session, sql: str, used: set[str] | None, where: str) -> None:
    """Refuse a query that names Parquet files itself, a column of which would change a value.

    Args:
        session: the names of one run.
        sql: the query, as DuckDB runs it.
        used: the names in it, their case folded; None: every column.
        where: for errors.

    Raises:
        SourceError: naming files, column and types.
    """
    for read, paths in parquet_reads(sql):
        try:
            files = [str(row[0]) for row in session.fetch(f"SELECT file FROM glob({list_sql(paths)})")]
            made = session.schema_of(f"SELECT * FROM {read}")
        except SourceError:
            continue  # the query fails likewise, and says what of it
        check_merged(files, _schemas(session, files, where), made, used, where)


def check_merged(
    files: Sequence[str], schemas: Sequence[pa.Schema], made: pa.Schema, used: set[str] | None, where: str
) -> None:
    """Refuse files read as one table, a used column of which would change a value.

    Args:
        files: as errors name them.
        schemas: of each.
        made: the columns as the query has them.
        used: the names of the columns that count, their case folded; None: all.
        where: for errors.

    Raises:
        SourceError: naming files, column and types.
    """
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    mine = [name for name in names if used is None or name.casefold() in used]
    check_case(files, [schema.names for schema in schemas], mine, where)
    check_schemas(files, schemas, mine, where)
    types = {field.name.casefold(): arrow_form(field.type) for field in made}
    for name in mine:
        kinds: dict[pa.DataType, str] = {}
        for file, schema in zip(files, schemas, strict=True):
            if name in schema.names:
                kinds.setdefault(arrow_form(schema.field(name).type), file)
        one = types.get(name.casefold())
        if len(kinds) < 2 or one is None:
            continue
        if not all(holds_all(one, kind) for kind in kinds):
            first, *others = kinds
            other = next((kind for kind in others if not holds_all(one, kind)), others[0])
            raise SourceError(
                f"{where}: column {name!r} is {first} in {kinds[first]} and {other} in {kinds[other]}; "
                f"read as one table both would be {one}, which changes values: {_CURE}"
            )
        _check_zones(kinds, name, where)


def _check_zones(kinds: dict[pa.DataType, str], name: str, where: str) -> None:
    """Naive times, and dates, are local ones until their zone is known: none is an instant beside others."""
    times = {kind: file for kind, file in kinds.items() if pa.types.is_timestamp(kind) or pa.types.is_date(kind)}
    aware = next(((kind, file) for kind, file in times.items() if getattr(kind, "tz", None) is not None), None)
    naive = next(((kind, file) for kind, file in times.items() if getattr(kind, "tz", None) is None), None)
    if aware is not None and naive is not None:
        raise SourceError(
            f"{where}: column {name!r} is {naive[0]} in {naive[1]} and {aware[0]} in {aware[1]}: "
            f"the zone of the naive times is lost where both are read as one; {_CURE}"
        )


def holds_all(one: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a cast to a type keeps every value of another, or fails: both as `arrow_form` gives them."""
    if one == kind or pa.types.is_null(kind):
        return True
    if is_list(one) and is_list(kind):
        return holds_all(arrow_form(one.value_type), arrow_form(kind.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(kind):
        inner = {field.name.casefold(): field.type for field in one}
        return all(f.name.casefold() in inner and _inside(inner[f.name.casefold()], f.type) for f in kind)
    if pa.types.is_map(one) and pa.types.is_map(kind):
        return _inside(one.key_type, kind.key_type) and _inside(one.item_type, kind.item_type)
    if pa.types.is_integer(kind):
        # one that does not fit another width, or a decimal, is DuckDB's error
        return _takes_integers(one, kind)
    if pa.types.is_decimal(kind):
        whole = kind.scale <= 0 and pa.types.is_integer(one)
        return bool(whole or (pa.types.is_decimal(one) and one.scale >= kind.scale))
    if pa.types.is_floating(kind):
        return bool(pa.types.is_floating(one) and one.bit_width >= kind.bit_width)
    if pa.types.is_timestamp(kind):
        return bool(pa.types.is_timestamp(one) and UNITS.index(one.unit) >= UNITS.index(kind.unit))
    if pa.types.is_date(kind):
        return bool(pa.types.is_timestamp(one) or pa.types.is_date(one))
    return bool((_is_binary(one) and _is_binary(kind)) or (pa.types.is_time(one) and pa.types.is_time(kind)))


def _inside(one: pa.DataType, kind: pa.DataType) -> bool:
    return holds_all(arrow_form(one), arrow_form(kind))


def _takes_integers(one: pa.DataType, kind: pa.DataType) -> bool:
    if pa.types.is_floating(one):
        mantissa = {16: 11, 32: 24, 64: 53}[one.bit_width]
        return bool(kind.bit_width - pa.types.is_signed_integer(kind) <= mantissa)
    return bool(pa.types.is_integer(one) or pa.types.is_decimal(one))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _schemas(session: Session, files: Sequence[str], where: str) -> list[pa.Schema]:
    """The columns of each file: of those that DuckDB alone can reach by its own words."""
    if any("://" in file for file in files):
        return [session.schema_of(f"SELECT * FROM read_parquet({files_sql([file])})") for file in files]
    return [footer.schema.to_arrow_schema() for footer in read_footers(files, where)]
