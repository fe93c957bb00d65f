"""The engine's casts, the cast of written rows and that of keys hold to the one rule of values."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings

import headwater as hw
from headwater.errors import EntityKeyError, SourceError
from headwater.offline.engines.duckdb.sources import readable
from headwater.offline.engines.duckdb.words import WORDS
from headwater.offline.fitting import Columns
from headwater.planning.cast import fit
from headwater.planning.tables import match_key
from headwater.testing import rounds
from headwater.types import DType, castable
from tests.given_values import (
    LIST_DTYPES,
    LISTS,
    NUMBERS,
    OTHERS,
    REFUSED,
    SCALAR_DTYPES,
    by_the_rule,
    cases,
    plain,
    same,
)

EVERY = settings(max_examples=rounds(60), deadline=None, suppress_health_check=list(HealthCheck))
KEYS = [hw.Int32, hw.Int64, hw.String, hw.Bytes, hw.Bool, hw.Timestamp, hw.Date]


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def of_the_engine(database: duckdb.DuckDBPyConnection, relation: str, sql: str, kind: pa.DataType) -> Any:
    try:
        found = database.sql(f"SELECT {sql} AS y FROM {relation}")
        table = getattr(found, "to_arrow_table", None) or found.fetch_arrow_table
        return plain(table()["y"].cast(kind)[0].as_py())
    except duckdb.InvalidInputException as bad:
        assert "headwater:" in str(bad), bad
        return REFUSED


def as_feature(database: duckdb.DuckDBPyConnection, relation: str, dtype: DType) -> Any:
    found = database.sql(f"SELECT * FROM {relation} LIMIT 0")
    schema = (getattr(found, "to_arrow_table", None) or found.fetch_arrow_table)().schema
    try:
        sql = Columns(WORDS, {"x": schema.field("x").type}, "view").value("x", dtype).sql("duckdb")
    except SourceError:
        return REFUSED
    return of_the_engine(database, relation, sql, dtype.arrow)


def fitted(column: pa.Array, dtype: DType) -> Any:
    if not castable(column.type, dtype):
        return REFUSED
    found = fit(pa.chunked_array([column]), dtype)
    return REFUSED if found.bad is not None and found.bad[0] else plain(found.values[0].as_py())


def check(database: duckdb.DuckDBPyConnection, folder: Path, column: pa.Array, dtype: DType) -> None:
    expected = plain(by_the_rule(column, dtype))
    table = pa.table({"x": column})
    pq.write_table(table, folder / "x.parquet")
    database.register("given", readable(table))
    found = {
        "write": fitted(column, dtype),
        "table": as_feature(database, "given", dtype),
        "file": as_feature(database, f"'{folder / 'x.parquet'}'", dtype),
    }
    wrong = {road: got for road, got in found.items() if not same(got, expected)}
    assert not wrong, f"{column.type} {column} as {dtype}: the rule says {expected!r}"


@EVERY
@given(cases(NUMBERS, SCALAR_DTYPES[:4]))
@example((pa.array([Decimal("1234567.891")], pa.decimal128(38, 18)), hw.Float64))
@example((pa.array([Decimal("0.1")], pa.decimal128(38, 38)), hw.Float32))
@example((pa.array([0.1]), hw.Float32))
@example((pa.array([3.4028235677973362e38]), hw.Float32))
@example((pa.array([2**53 + 1]), hw.Float64))
@example((pa.array([1e19]), hw.Int64))
@example((pa.array([float("nan")]), hw.Int64))
def test_numbers(database: duckdb.DuckDBPyConnection, tmp_path: Path, case: tuple[pa.Array, DType]) -> None:
    check(database, tmp_path, *case)


@EVERY
@given(cases([*OTHERS, pa.int64(), pa.float64()], SCALAR_DTYPES))
def test_other_values(database: duckdb.DuckDBPyConnection, tmp_path: Path, case: tuple[pa.Array, DType]) -> None:
    check(database, tmp_path, *case)


@EVERY
@given(cases(LISTS, LIST_DTYPES))
def test_lists(database: duckdb.DuckDBPyConnection, tmp_path: Path, case: tuple[pa.Array, DType]) -> None:
    check(database, tmp_path, *case)


@EVERY
@given(cases([*NUMBERS, *OTHERS], KEYS))
def test_keys(database: duckdb.DuckDBPyConnection, case: tuple[pa.Array, DType]) -> None:
    column, dtype = case
    # a spine may ask for any integer, and finds nothing; a source may only have those that the key can have
    wide = hw.Int64 if dtype == hw.Int32 else dtype
    expected = plain(by_the_rule(column, wide, key=True))
    stored = plain(by_the_rule(column, dtype, key=True))
    try:
        spine = plain(match_key(column, dtype, "k", EntityKeyError)[0].as_py())
    except EntityKeyError:
        spine = REFUSED
    database.register("given", readable(pa.table({"x": column})))
    try:
        sql = Columns(WORDS, {"x": column.type}, "view").key("x", dtype).sql("duckdb")
        kind = pa.int64() if wide == hw.Timestamp else wide.arrow
        source = of_the_engine(database, "given", sql, kind)
    except SourceError:
        source = REFUSED
    if wide == hw.Timestamp and isinstance(source, int):
        source = plain(pa.array([source]).cast(pa.timestamp("us", "UTC"))[0].as_py())
    assert same(spine, expected) and same(source, stored), (column, dtype, expected, spine, source)
