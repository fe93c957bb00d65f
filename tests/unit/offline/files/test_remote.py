"""Files in object stores are found and read by the same rules as those on disk: names, partitions, types, errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from tests.matrices import share

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SHOP = hw.Entity("shop", join_keys={"shop": hw.String})
ROWS = pa.table({"shop": ["a"], "ts": pa.array([NOON], pa.timestamp("us", "UTC")), "x": pa.array([1], pa.int32())})


@pytest.fixture
def lake(tmp_path: Path, s3_server: Any) -> Any:
    """Puts a table under a name, on disk and in a bucket; `both` asks for an answer from each."""

    class Lake:
        bucket = s3_server.make_bucket()
        folder = tmp_path / "lake"

        def put(self, name: str, table: pa.Table | bytes = ROWS) -> None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(table, bytes):
                path.write_bytes(table)
            else:
                pq.write_table(table, path)
            s3_server.client.upload_file(str(path), self.bucket, name)

        def both(self, path: str | list[str], ask: Any) -> list[Any]:
            """The answers for a path, or for several in one project, on disk and in the bucket."""
            paths = [path] if isinstance(path, str) else path
            found = []
            for locations in (paths, [s3_server.url(f"{self.bucket}/{name}") for name in paths]):
                with hw.FeatureStore(self.folder, online="memory:", clock=lambda: NOON) as store:
                    found.append(ask(store, locations[0] if isinstance(path, str) else locations))
            return found

    return Lake()


def rows_of_each(store: hw.FeatureStore, locations: list[str]) -> list[list[int]]:
    """How many rows each of some sources has, by the column n."""
    query = "SELECT 'a' AS shop, max(ts) AS ts, count(*) AS rows FROM w"
    views = []
    for n, location in enumerate(locations):
        source = hw.SQLSource(query, tables={"w": hw.ParquetSource(location)}, event_time="ts")
        views.append(hw.FeatureView(f"v{n}", entity=SHOP, source=source, features=[hw.Feature("rows", hw.Int64)]))
    store.apply([SHOP, *views])
    features = [f"{view.name}:rows" for view in views]
    table = store.get_historical_features(None, features, at=NOON, full_names=True).to_arrow()
    return [table[f"{view.name}__rows"].to_pylist() for view in views]


def refusal_of(store: hw.FeatureStore, location: str, **columns: Any) -> str:
    features = [hw.Feature(name, dtype) for name, dtype in columns.items()] or [hw.Feature("x", hw.Int64)]
    view = hw.FeatureView("v", entity=SHOP, source=hw.ParquetSource(location, event_time="ts"), features=features)
    with pytest.raises(hw.HeadwaterError) as found:
        store.plan([SHOP, view])
    return str(found.value)


def test_the_same_names_are_files_of_a_source(lake: Any) -> None:
    for name in (
        "d/a.parquet",
        "d/B.PARQUET",
        "d/x/c.pq",
        "d/x/y/d.parquet",
        "d/_e.parquet",
        "d/_old/f.parquet",
        "d/x/.g.parquet",
        "d/w[1].parquet",
        "d/w1.parquet",
        "d/spark.parquet/part-0.parquet",
        "d/q?.parquet",
    ):
        lake.put(name)
    lake.put("d/notes.txt", b"text")
    counts = {
        "d": 8,
        "d/": 8,
        "d/*.parquet": 5,
        "d/**": 8,
        "d/**/*.parquet": 6,
        "d/*/*": 2,
        "d/?.parquet": 1,
        "d/[ab].parquet": 1,
        "d/w[1].parquet": 1,
        "d/w[12].parquet": 1,
        "d/q?.parquet": 1,
        "d/_e.parquet": 1,
        "d/_*.parquet": 1,
        "d/_old": 1,
        "d/x/y/d.parquet": 1,
        "d/spark.parquet": 1,
    }
    for found in lake.both(list(counts), rows_of_each):
        assert dict(zip(counts, found, strict=True)) == {path: [count] for path, count in counts.items()}


def test_partitions_have_the_same_types_and_the_files_columns_win(lake: Any) -> None:
    lake.put("d/day=2026-05-30/code=007/x=9/n=1/p.parquet", pa.table({"x": [1.0]}))
    lake.put("d/day=2026-05-31/code=008/x=9/n=__HIVE_DEFAULT_PARTITION__/p.parquet", pa.table({"x": [2.0]}))
    entity = hw.Entity("code", join_keys={"code": hw.String})
    features = [hw.Feature("x", hw.Float64), hw.Feature("n", hw.Int64)]

    def read(store: hw.FeatureStore, location: str) -> dict[str, Any]:
        source = hw.ParquetSource(location, event_time="day")
        store.apply([entity, hw.FeatureView("v", entity=entity, source=source, features=features)])
        spine = [{"code": code, "timestamp": NOON} for code in ("007", "008")]
        return store.get_historical_features(spine, ["v:*"]).to_arrow().select(["x", "n"]).to_pydict()

    assert lake.both("d", read) == [{"x": [1.0, 2.0], "n": [1, None]}] * 2


def test_columns_that_differ_between_files_are_united(lake: Any) -> None:
    lake.put("d/a.parquet")
    wide = ROWS.set_column(2, "x", pa.array([2**40]))
    lake.put("d/b.parquet", wide.set_column(0, "shop", pa.array(["b"])).append_column("late", pa.array([5.5])))

    def read(store: hw.FeatureStore, location: str) -> Any:
        source = hw.ParquetSource(location, event_time="ts")
        features = [hw.Feature("x", hw.Int64), hw.Feature("late", hw.Float64)]
        plan = store.apply([SHOP, hw.FeatureView("v", entity=SHOP, source=source, features=features)])
        assert any("'late' is missing in" in str(warning) for warning in plan.warnings)
        report = store.materialize(force=True)
        assert any("late" in str(warning) for warning in report.warnings)
        return store.get_online_features(["v:*"], ["a", "b"]).to_dict()

    wanted = {"shop": ["a", "b"], "x": [1, 2**40], "late": [None, 5.5]}
    assert lake.both("d", read) == [wanted, wanted]
    lake.put("e/a.parquet")
    lake.put("e/b.parquet", ROWS.drop_columns(["shop"]))
    lake.put("f/a.parquet", ROWS.append_column("X", pa.array([2])))
    lake.put("g/a.parquet")
    lake.put("g/b.parquet", ROWS.rename_columns(["shop", "ts", "X"]))
    for path, expected in (
        ("e", "column 'shop' is missing in"),
        ("f", "'x' and 'X' differ only in case"),
        ("g", "'x' and 'X' differ only in case"),
    ):
        assert all(expected in text for text in lake.both(path, refusal_of)), path


def test_names_that_are_used_inside_are_columns_there_too(lake: Any) -> None:
    names = ["rowid", "file_row_number", "__row", "__whole", "filename"]
    table = ROWS
    for i, name in enumerate(names):
        table = table.append_column(name, pa.array([i]))
    lake.put("d/a.parquet", table)

    def read(store: hw.FeatureStore, location: str) -> Any:
        features = [hw.Feature(f"f{i}", hw.Int64, column=name) for i, name in enumerate(names)]
        source = hw.ParquetSource(location, event_time="ts")
        store.apply([SHOP, hw.FeatureView("v", entity=SHOP, source=source, features=features)])
        store.materialize(force=True)
        return [store.get_online_features(["v:*"], ["a"]).to_dict()[f"f{i}"][0] for i in range(len(names))]

    assert lake.both("d", read) == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("mark", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x"])
def test_a_table_format_is_refused(lake: Any, mark: str) -> None:
    lake.put(f"t/{mark}", b"{}")
    lake.put("t/day=1/a.parquet")
    for path in ("t", "t/**/*.parquet", "t/day=1", "t/day=1/a.parquet", "t/*/a.parquet"):
        for text in lake.both(path, refusal_of):
            assert "/t is a" in text and "table: as plain files, rows that were updated or deleted" in text


def test_what_is_not_there_is_said(lake: Any) -> None:
    lake.put("d/a.csv", b"x")
    lake.put("d/_b.parquet")
    for text in lake.both("d", refusal_of):
        assert (
            "has 1 file, which does not end in .parquet, .pq or .parq: a.csv; left out" in text and "_b.parquet" in text
        )
    assert all("no file at" in text for text in lake.both("nowhere/*.parquet", refusal_of))


DAY = pa.timestamp("us")


TWO_TYPES: list[tuple[Any, ...]] = [
    (pa.array([2**53 + 1]), pa.array([5.0]), hw.Int64, [2**53 + 1, 5]),
    (pa.array([2**31 + 1]), pa.array([5.0], pa.float32()), hw.Float64, [2.0**31 + 1, 5.0]),
    (pa.array([2**63 - 1], pa.uint64()), pa.array([-1]), hw.Int64, [2**63 - 1, -1]),
    (pa.array([0.1], pa.float32()), pa.array([0.1]), hw.Float64, [0.10000000149011612, 0.1]),
    (pa.array([[2**31 + 1]]), pa.array([[5.0]], pa.list_(pa.float32())), hw.Array(hw.Float64), [[2**31 + 1], [5]]),
    (pa.array([5]), pa.array([0.5]), hw.Int64, "0.5 in .*does not fit int64|0.5.*row 0.*does not fit int64"),
    (pa.array([1]), pa.array(["1"]), hw.Int64, "column 'x' is string"),
    (pa.array([1.5]), pa.array(["1"]), hw.String, "column 'x' is (string|double)"),
    (
        pa.array([NOON.replace(tzinfo=None)], DAY),
        pa.array([NOON], pa.timestamp("us", "UTC")),
        hw.Timestamp,
        [NOON] * 2,
    ),
]


@pytest.mark.parametrize(("case", "turned"), share(product(TWO_TYPES, [False, True]), 2))
def test_columns_of_two_types_are_read_by_the_same_rule(lake: Any, case: tuple[Any, ...], turned: bool) -> None:
    one, other, dtype, right = case
    for name, shop, column in (("b", "a", one), ("a" if turned else "c", "b", other)):
        lake.put(f"d/{name}.parquet", ROWS.set_column(0, "shop", pa.array([shop])).set_column(2, "x", column))

    def read(store: hw.FeatureStore, location: str) -> Any:
        source = hw.ParquetSource(location, event_time="ts")
        try:
            store.apply([SHOP, hw.FeatureView("v", entity=SHOP, source=source, features=[hw.Feature("x", dtype)])])
            store.materialize(force=True)
        except hw.HeadwaterError as bad:
            return str(bad)
        found = store.get_online_features(["v:x"], ["a", "b"]).to_dict()["x"]
        spine = [{"shop": shop, "timestamp": NOON} for shop in ("a", "b")]
        assert store.get_historical_features(spine, ["v:x"]).to_arrow()["x"].to_pylist() == found
        return found

    for found in lake.both("d", read):
        assert re.search(right, found) if isinstance(right, str) else found == right, found


def test_keys_of_two_types_are_the_same_numbers_there_too(lake: Any) -> None:
    for name, keys in (("a", pa.array([2**24 + 1])), ("b", pa.array([5.0], pa.float32()))):
        lake.put(f"d/{name}.parquet", ROWS.set_column(0, "shop", keys))
    entity = hw.Entity("shop", join_keys={"shop": hw.Int64})

    def read(store: hw.FeatureStore, location: str) -> Any:
        source = hw.ParquetSource(location, event_time="ts")
        store.apply([entity, hw.FeatureView("v", entity=entity, source=source, features=[hw.Feature("x", hw.Int64)])])
        store.materialize()
        return store.get_online_features(["v:x"], [2**24 + 1, 2**24, 5]).to_dict()["x"]

    assert lake.both("d", read) == [[1, None, 1]] * 2


def test_a_query_over_files_of_two_types_is_refused_there_too(lake: Any) -> None:
    lake.put("d/a.parquet", ROWS.set_column(2, "x", pa.array([2**53 + 1])).append_column("y", pa.array([1])))
    lake.put("d/b.parquet", ROWS.set_column(2, "x", pa.array([0.5])).append_column("y", pa.array(["1"])))

    def plan(store: hw.FeatureStore, location: str, column: str) -> str:
        source = hw.SQLSource(
            f"SELECT shop, ts, {column} AS z FROM t", tables={"t": hw.ParquetSource(location)}, event_time="ts"
        )
        with pytest.raises(hw.HeadwaterError) as found:
            store.plan([SHOP, hw.FeatureView("v", entity=SHOP, source=source, features=[hw.Feature("z", hw.Int64)])])
        return str(found.value)

    for column, types in (("x", ("int64", "double")), ("y", ("int64", "string"))):
        for text in lake.both("d", lambda store, location, c=column: plan(store, location, c)):
            assert f"column {column!r} is {types[0]} in " in text and f" and {types[1]} in " in text
            assert "UNION ALL BY NAME" in text


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([Decimal("1.5")], pa.decimal256(50, 18)), "decimals of at most 38 digits"),
        (pa.array([1_000_000], pa.duration("us")), "duration"),
    ],
)
def test_types_that_no_dtype_holds_are_refused_there_too(lake: Any, column: pa.Array, words: str) -> None:
    lake.put("d/a.parquet", ROWS)
    lake.put("d/b.parquet", ROWS.set_column(2, "x", column))

    def run(store: hw.FeatureStore, location: str) -> str:
        source = hw.ParquetSource(location, event_time="ts")
        with pytest.raises(hw.HeadwaterError) as found:
            store.apply([SHOP, hw.FeatureView("v", entity=SHOP, source=source, features=[hw.Feature("x", hw.Float64)])])
            store.materialize()
        return str(found.value)

    for text in lake.both("d", run):
        assert words in text and "'x'" in text, text
