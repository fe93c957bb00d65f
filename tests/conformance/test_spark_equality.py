"""Through the store, on Spark: history and online reads equal the oracle, whatever was done before."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

import headwater as hw
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.testing import SCALE, rounds
from tests.conformance.test_equality import EmbeddedEquality
from tests.servers.spark import SAIL


class SparkEquality(EmbeddedEquality):
    """The life of a store whose histories and runs are Spark's."""

    session = None

    def _open(self):
        if not hasattr(self, "engine"):
            self.engine = SparkEngine(Path(self.folder.name), session=self.session)
        return hw.FeatureStore(self.folder.name, offline=self.engine, clock=lambda: self.when)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.close()
        super().teardown()


@pytest.fixture(scope="module", autouse=True)
def _session(spark):
    SparkEquality.session = spark


SparkEquality.TestCase.settings = settings(
    max_examples=rounds(3 if SAIL else 1, simplest=False),
    stateful_step_count=20 if SCALE > 1 else 12 if SAIL else 8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSparkEquality = SparkEquality.TestCase

FEATURES = """
import headwater as hw

thing = hw.Entity("thing", join_keys={"k": hw.Int64})
rides = hw.FeatureView(
    "rides", entity=thing, ttl="1d", features=[hw.Feature("km", hw.Float64), hw.Feature("city", hw.String)],
    source=hw.ParquetSource("rides.parquet", event_time="at", created_time="seen"))
"""
PROJECT = 'project = "moved"\ndefinitions = ["features.py"]\n[online]\nurl = "lmdb:.headwater/online"\n[offline]\n'


def test_a_project_moves_to_spark_by_one_line(spark, tmp_path, monkeypatch, request):
    """Neither definitions nor answers, nor what a read online says, are others."""
    if SAIL:
        monkeypatch.setenv("HEADWATER_OFFLINE_SPARK_REMOTE", request.getfixturevalue("sail_server").url)
    else:
        monkeypatch.setenv("HEADWATER_OFFLINE_SPARK_MASTER", "local[2]")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "features.py").write_text(FEATURES)
    (here / "headwater.toml").write_text(PROJECT + 'engine = "duckdb"\n')
    minutes = pa.array([n * 60_000_000 for n in range(100)], pa.int64())
    at, seen = minutes.cast(pa.timestamp("us", "UTC")), pa.array([int(m.as_py()) + 90_000_000 for m in minutes])
    rows = {
        "k": [n % 7 for n in range(100)],
        "at": at,
        "seen": seen.cast(pa.timestamp("us", "UTC")),
        "km": [n / 3 for n in range(100)],
        "city": [None if n % 5 == 0 else f"city {n % 11}" for n in range(100)],
    }
    pq.write_table(pa.table(rows), here / "rides.parquet")
    shutil.copytree(here, there)
    toml = (there / "headwater.toml").read_text()
    (there / "headwater.toml").write_text(toml.replace('engine = "duckdb"', 'engine = "spark"'))
    spine = pa.table({"k": [n % 9 for n in range(50)], "timestamp": at.take(pa.array([n * 2 for n in range(50)]))})
    answers = []
    for folder in (here, there):
        with hw.FeatureStore(folder) as store:
            store.apply()
            history = store.get_historical_features(spine, ["rides:*"], include=["status", "event_time"]).to_arrow()
            store.write("rides", [{"k": 1, "at": at[50].as_py(), "seen": at[60].as_py(), "km": 0.5, "city": "x"}])
            again = store.get_historical_features(spine, ["rides:*"], include=["status", "event_time"]).to_arrow()
            report = store.materialize()
            online = store.get_online_features(["rides:*"], list(range(9)))
            assert type(store.context.engine).__name__ == ("DuckDBEngine" if folder == here else "SparkEngine")
            answers.append((history, again, online.to_dict(), online.statuses, online.event_times, report.applied))
    assert answers[0] == answers[1]
