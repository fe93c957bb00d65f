"""A folder named `x=99` above a file that a user's own SQL names changes nothing in what is read of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.offline.user_files import without_outer_partitions

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ENTITY = hw.Entity("thing", join_keys={"id": hw.Int64})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Files below a folder that looks like a partition of their own column, and in partitions of another."""
    lake = tmp_path / "x=99" / "lake's"
    table = pa.table({"id": [1], "ts": pa.array([T0], pa.timestamp("us", "UTC")), "x": [5]})
    (lake / "project").mkdir(parents=True)
    for folder in (lake, lake / "half=1"):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "a.parquet")
        pyarrow.csv.write_csv(table, folder / "a.csv")
    return lake


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, ts, x FROM read_parquet('{lake}/a.parquet')",
        "SELECT id, ts, x FROM parquet_scan(['{lake}/a.parquet'], union_by_name = true)",
        "SELECT id, ts, x FROM READ_PARQUET ( '{lake}/half=1/*.parquet' ) AS t WHERE t.x < 50",
        "SELECT id, ts, x FROM '{lake}/a.parquet'",
        "SELECT a.id, a.ts, a.x FROM '{lake}/a.parquet' WHERE a.x = 5",
        "SELECT t.id, t.ts, t.x FROM '{lake}/a.parquet' AS t JOIN '{lake}/half=1/a.parquet' u ON t.x = u.x",
        'SELECT id, ts, x FROM "{plain}/a.parquet" -- x=1',
        "SELECT id, ts::TIMESTAMPTZ AS ts, x FROM read_csv('{lake}/a.csv')",
        "SELECT id, ts::TIMESTAMPTZ AS ts, x FROM '{lake}/a.csv'",
        "WITH t AS (FROM read_parquet('{lake}/a.parquet', file_row_number = true)) SELECT id, ts, x FROM t",
    ],
)
def test_the_column_of_the_file_is_read(lake: Path, query: str) -> None:
    sql = query.format(lake=str(lake).replace("'", "''"), plain=lake)
    with hw.FeatureStore(lake / "project") as store:
        source = hw.SQLSource(sql, event_time="ts")
        features = [hw.Feature("x", hw.Int64)]
        store.apply([ENTITY, hw.FeatureView("v", entity=ENTITY, source=source, features=features)])
        store.materialize()
        assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [5]
        spine = f"SELECT id, ts AS timestamp, x AS own FROM ({sql}\n)"
        found = store.get_historical_features(spine, ["v:x"]).to_arrow().to_pydict()
        assert (found["own"], found["x"]) == ([5], [5])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x = 1 FROM t",
        "SELECT * FROM read_parquet('data/*/a.parquet')",
        "SELECT * FROM read_parquet('data/*/half=1/a.parquet')",
        "SELECT * FROM read_parquet('/x=1/a.parquet', hive_partitioning = true)",
        "SELECT * FROM read_parquet('/x=1/a.parquet', hive_types = {'x': INT})",
        "SELECT '/x=1/a.parquet' FROM t WHERE note = '/x=1/a.parquet'",
        "SELECT * FROM range(3) WHERE 'a=b' = 'x",
        "SELECT f(a = 1, (2",
    ],
)
def test_what_needs_no_change_stays(sql: Any) -> None:
    assert without_outer_partitions(sql) == sql
