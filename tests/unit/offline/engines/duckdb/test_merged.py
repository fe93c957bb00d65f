"""Parquet files that a query reads as one: each value is that of its file alone, or the query is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import SourceError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.testing import SCALE

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = {
    "int8": pa.array([-5], pa.int8()),
    "int32": pa.array([2**31 - 1], pa.int32()),
    "int64": pa.array([2**53 + 1]),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "float32": pa.array([1.5], pa.float32()),
    "float64": pa.array([0.1]),
    "money": pa.array([Decimal("1.25")], pa.decimal128(10, 2)),
    "fine": pa.array([Decimal("1.123456789012345678")], pa.decimal128(38, 18)),
    "large": pa.array([Decimal("123456789012345678901234567890.25")], pa.decimal128(38, 2)),
    "text": pa.array(["007"]),
    "words": pa.array(["7"]).dictionary_encode(),
    "bool": pa.array([True]),
    "bytes": pa.array([b"7"]),
    "naive": pa.array([datetime(2026, 1, 1, 1, 2, 3, 456789)]),
    "nanos": pa.array([1767229323456789001], pa.timestamp("ns")),
    "millis": pa.array([1767229323456], pa.timestamp("ms")),
    "aware": pa.array([datetime(2026, 1, 1, 1, 2, 3, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    "day": pa.array([date(2026, 1, 1)]),
    "null": pa.nulls(1),
    "floats": pa.array([[0.1]]),
    "integers": pa.array([[2**53 + 1]]),
    "few": pa.array([[1]], pa.list_(pa.int32())),
    "point": pa.array([{"a": 0.1}]),
    "place": pa.array([{"a": 2**53 + 1}]),
}


def plain(value: Any) -> Any:
    """A value so that equal ones of different types are equal, and others are not."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return Fraction(value)
    return None if value is None else (type(value).__name__, value)


def values_of(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        aware = column.type.tz is not None
        column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        return [None if value is None else (aware, value) for value in column.to_pylist()]
    return [plain(value) for value in column.to_pylist()]


LOOKED_AT = {("float64", "int64"), ("int32", "int8"), ("int32", "int64")}


@pytest.mark.parametrize("how", ["first", "union", "glob", "tables"])
def test_a_query_over_files_of_two_types_is_right_or_refused(tmp_path: Path, how: str) -> None:
    for name, column in COLUMNS.items():
        pq.write_table(pa.table({"x": column}), tmp_path / f"{name}.parquet")
    engine = DuckDBEngine(tmp_path)
    refused, read = set(), set()
    with duckdb.connect() as base:
        base.execute("SET TimeZone = 'UTC'")

        def rows(sql: str) -> list[Any] | None:
            try:
                return values_of(base.sql(sql).to_arrow_table().column("x"))
            except duckdb.Error:
                return None

        turn = ["first", "union", "glob", "tables"].index(how)
        for number, (one, other) in enumerate(itertools.permutations(COLUMNS, 2)):
            if how in ("union", "tables") and one > other:
                continue
            if SCALE == 1 and (number + turn) % 2 and (one, other) not in LOOKED_AT:
                continue
            files = [tmp_path / f"{name}.parquet" for name in (one, other)]
            listed = ", ".join(f"'{file}'" for file in files)
            made = f"SELECT x FROM read_parquet([{listed}]{'' if how == 'first' else ', union_by_name = true'})"
            source = hw.SQLSource(made.replace(f"{tmp_path}/", ""))
            if how in ("glob", "tables"):
                folder = tmp_path / f"{one}-{other}"
                folder.mkdir()
                for i, file in enumerate(files):
                    (folder / f"{i}.parquet").hardlink_to(file)
                source = hw.SQLSource(f"SELECT x FROM '{folder.name}/*.parquet'")
                made = f"SELECT x FROM '{folder}/*.parquet'"
            if how == "tables":
                source = hw.SQLSource("SELECT x FROM t", tables={"t": hw.ParquetSource(folder.name)})
                made = f"SELECT x FROM read_parquet('{folder}/*.parquet', union_by_name = true)"
            try:
                engine.source_schema(source)
            except SourceError as bad:
                assert all(word in str(bad) for word in ("column 'x' is", "UNION ALL BY NAME", ".parquet")), bad
                refused.add((one, other))
                continue
            found = rows(made)
            if found is None:
                continue  # DuckDB's own refusal: nothing wrong comes out
            wanted = [value for file in files for value in rows(f"SELECT x FROM '{file}'") or ()]
            assert found == wanted, (one, other)
            read.add((one, other))
    engine.close()
    assert ("float64", "int64") in refused and {("int32", "int8"), ("int32", "int64")} & (read | refused) <= read
    assert len(read) > (10 if SCALE == 1 else 20)


def store_of(folder: Path, query: str, tables: dict[str, Any] | None = None, feature: str = "x") -> hw.FeatureStore:
    shop = hw.Entity("shop", join_keys={"shop": hw.String})
    source = hw.SQLSource(query, tables=tables or {}, event_time="ts")
    view = hw.FeatureView("v", entity=shop, source=source, features=[hw.Feature(feature, hw.Float64)])
    return hw.FeatureStore.in_memory([shop, view], path=folder, clock=lambda: NOON)


def put(folder: Path, **columns: pa.Array) -> None:
    folder.mkdir(exist_ok=True)
    for name, column in columns.items():
        row = {"shop": pa.array([name]), "ts": pa.array([NOON], pa.timestamp("us", "UTC")), "x": column}
        pq.write_table(pa.table({**row, "other": pa.array([1])}), folder / f"{name}.parquet")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT shop, ts, x FROM 'd/*.parquet'",
        "SELECT * FROM read_parquet(['d/a.parquet', 'd/b.parquet'])",
        "SELECT * FROM read_parquet('d/*.parquet', union_by_name = true)",
        "FROM 'd/*.parquet'",
        "WITH w AS (FROM 'd/*.parquet') SELECT shop, ts, max(other) AS x FROM w GROUP BY ALL",
        "SELECT shop, ts, COLUMNS('x') FROM parquet_scan('d/*.parquet')",
        "SELECT shop, ts, x FROM t",
        "SELECT t.* FROM t",
    ],
)
def test_the_columns_that_a_query_takes_are_refused_with_file_types_and_cure(tmp_path: Path, query: str) -> None:
    put(tmp_path / "d", a=pa.array([2**53 + 1]), b=pa.array([0.5]))
    tables = {"t": hw.ParquetSource("d")} if query.endswith("FROM t") else None
    with pytest.raises(hw.DefinitionError) as found:
        store_of(tmp_path, query, tables)
    assert "column 'x' is int64 in " in str(found.value) and "and double in " in str(found.value)
    assert "a.parquet" in str(found.value) and "UNION ALL BY NAME" in str(found.value)


def test_other_columns_may_differ_and_a_cast_per_file_is_read(tmp_path: Path) -> None:
    put(tmp_path / "d", a=pa.array([2**53 - 1]), b=pa.array([0.5]))
    cast = "SELECT shop, ts, CAST(x AS DOUBLE) AS y FROM 'd/a.parquet' UNION ALL BY NAME SELECT shop, ts, x AS y FROM "
    for query, right in (
        ("SELECT shop, ts, other AS y FROM 'd/*.parquet'", [1.0, 1.0]),
        (f"{cast} 'd/b.parquet'", [2.0**53 - 1, 0.5]),
    ):
        with store_of(tmp_path, query, feature="y") as store:
            spine = [{"shop": shop, "timestamp": NOON} for shop in ("a", "b")]
            assert store.get_historical_features(spine, ["v:y"]).to_arrow()["y"].to_pylist() == right


def test_a_file_of_another_type_that_comes_later_is_refused_by_the_run(tmp_path: Path) -> None:
    put(tmp_path / "d", a=pa.array([1.5]))
    for query, tables in (
        ("SELECT shop, ts, x FROM 'd/*.parquet'", None),
        ("SELECT shop, ts, x FROM t", {"t": hw.ParquetSource("d")}),
    ):
        with store_of(tmp_path, query, tables) as store:
            put(tmp_path / "d", b=pa.array([2**53 + 1]))
            for run in (
                store.materialize,
                lambda: store.get_historical_features([{"shop": "b", "timestamp": NOON}], ["v:x"]).to_arrow(),
            ):
                with pytest.raises(
                    SourceError, match=r"column 'x' is double in .*a\.parquet and int64 in .*b\.parquet"
                ):
                    run()
            (tmp_path / "d/b.parquet").unlink()


def test_files_that_name_a_column_in_two_ways_are_both_named(tmp_path: Path) -> None:
    put(tmp_path / "d", a=pa.array([1.5]))
    table = pq.read_table(tmp_path / "d/a.parquet")
    pq.write_table(table.rename_columns(["shop", "ts", "X", "other"]), tmp_path / "d/b.parquet")
    for query, tables in (
        ("SELECT shop, ts, x FROM 'd/*.parquet'", None),
        ("SELECT shop, ts, x FROM read_parquet('d/*.parquet', union_by_name = true)", None),
        ("SELECT shop, ts, x FROM t", {"t": hw.ParquetSource("d")}),
    ):
        with pytest.raises(hw.DefinitionError, match=r"'x' and 'X' differ only in case.*a\.parquet.*b\.parquet"):
            store_of(tmp_path, query, tables)


def test_a_spine_s_query_is_held_to_the_same_rule(tmp_path: Path) -> None:
    put(tmp_path / "d", a=pa.array([2**53 + 1]), b=pa.array([0.5]))
    with store_of(tmp_path, "SELECT shop, ts, 1.0 AS x FROM 'd/a.parquet'") as store:
        spine = "SELECT shop, ts AS timestamp, x AS extra FROM 'd/*.parquet'"
        with pytest.raises(hw.HeadwaterError, match=r"the spine's query: column 'x' is int64 in .*UNION ALL BY NAME"):
            store.get_historical_features(spine, ["v:x"]).to_arrow()
        found = store.get_historical_features(spine.replace(", x AS extra", ""), ["v:x"]).to_arrow()
        assert found.num_rows == 2


def test_decimals_that_are_too_wide_are_refused_in_a_query_s_files_and_tables(tmp_path: Path) -> None:
    put(tmp_path / "d", a=pa.array([Decimal("1.5")], pa.decimal256(50, 18)))
    for query, tables in (
        ("SELECT * FROM 'd/a.parquet'", None),
        ("SELECT shop, ts, x FROM t", {"t": hw.ParquetSource("d")}),
        ("SELECT shop, ts, x FROM t", {"t": hw.TableSource(pq.read_table(tmp_path / "d/a.parquet"))}),
    ):
        with pytest.raises(
            hw.HeadwaterError, match=r"column 'x' is decimal256\(50, 18\); decimals of at most 38 digits"
        ):
            store_of(tmp_path, query, tables)


def test_decimals_of_tables_and_pushed_rows_are_the_nearest_floats(tmp_path: Path) -> None:
    number = Decimal("12345678901234567890123456789012345678901234.5")
    rows = pa.table({"shop": ["a"], "ts": [NOON], "x": pa.array([number], pa.decimal256(60, 10))})
    shop = hw.Entity("shop", join_keys={"shop": hw.String})
    for source in (hw.TableSource(rows, event_time="ts"), hw.PushSource(event_time="ts")):
        view = hw.FeatureView("v", entity=shop, source=source, features=[hw.Feature("x", hw.Float64)])
        with hw.FeatureStore.in_memory([shop, view], path=tmp_path, clock=lambda: NOON) as store:
            if isinstance(source, hw.PushSource):
                store.write("v", rows)
            store.materialize()
            assert store.get_online_features(["v:x"], ["a"]).to_dict()["x"] == [float(number)]
            spine = pa.table({"shop": ["a"], "timestamp": [NOON], "extra": rows["x"]})
            found = store.get_historical_features(spine, ["v:x"]).to_arrow()
            assert found["extra"].to_pylist() == [number] and found["x"].to_pylist() == [float(number)]
