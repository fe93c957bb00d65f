"""A process that only serves imports nothing of what it never does."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw

SERVE = """
import sys
import headwater as hw
with hw.FeatureStore(sys.argv[1]) as store:
    reader = store.prepare(sys.argv[2].split(",") if ":" in sys.argv[2] else sys.argv[2])
    result = reader.read([1, 2])
    print(result.to_dict()["n"], result.to_numpy().tolist(), result.statuses["n"][0].value)
    store.get_online_features("model", [1]).vectors()
print(sorted({"duckdb", "sqlglot", "sqlalchemy", "pandas", "pyarrow.compute"} & set(sys.modules)))
"""


@pytest.mark.parametrize("features", ["model", "events:n"])
def test_a_process_that_only_serves_imports_no_engine_and_no_sql(tmp_path: Path, features: str) -> None:
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user": [1], "time": at, "n": [7]}), tmp_path / "events.parquet")
    events = hw.FeatureView(
        "events",
        entity=user,
        source=hw.SQLSource(
            "SELECT user, time, n FROM e", tables={"e": hw.ParquetSource("events.parquet")}, event_time="time"
        ),
        features=[hw.Feature("n", hw.Int64)],
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply([events, hw.FeatureService("model", [events])])
        store.materialize()
    said = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), features], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == ["[7, None] [[7.0], [nan]] PRESENT", "[]"]


PREPARE = """
import sys
import headwater as hw
with hw.FeatureStore(sys.argv[1]) as store:
    reader = store.prepare(["doubled:*"])
    before = set(sys.modules)
    print(reader.read([{}], {"n": 2}).to_dict()["doubled"])
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - {"headwater"}))
"""


@hw.on_demand(inputs=[hw.RequestField("n", hw.Int64)], features=[hw.Feature("doubled", hw.Int64)])
def doubled(n):
    return {"doubled": 2 * n}


def test_the_first_read_of_an_on_demand_feature_imports_no_package(tmp_path: Path) -> None:
    with hw.FeatureStore(tmp_path) as store:
        store.apply([doubled])
    said = subprocess.run([sys.executable, "-c", PREPARE, str(tmp_path)], capture_output=True, text=True, check=True)

    assert said.stdout.splitlines() == ["[4]", "[]"]


LOAD = """
import sys
import headwater as hw
with hw.FeatureStore(sys.argv[1]) as store:
    seen = store.training_set("seen")
    print(seen.to_pandas()["n"].tolist(), seen.split(0.5)["test"].to_numpy())
print(sorted({"duckdb", "sqlglot"} & set(sys.modules)))
"""


def test_a_process_that_loads_a_training_set_imports_no_engine(tmp_path: Path) -> None:
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    rows = [{"user": i, "time": datetime(2026, 1, i, tzinfo=UTC), "n": i} for i in (1, 2)]
    events = hw.FeatureView(
        "events",
        entity=user,
        source=hw.PushSource(event_time="time"),
        features=[hw.Feature("n", hw.Int64)],
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply([user, events])
        store.write("events", rows, created="event")
        spine = [{"user": row["user"], "timestamp": row["time"]} for row in rows]
        store.save_training_set("seen", spine, ["events:n"])
    said = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["[1, 2] [[2.]]", "[]"]
