"""Disks that are full, on Sail (Spark Connect) and on Spark itself: a clear error, nothing half-written is believed or
left, and the same store goes on once there is room.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import os
import subprocess
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import StorageFull
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.online.meta import read_watermarks
from tests.servers.spark import BRIEF

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
ROWS = 20_000
USER = hw.Entity("user", join_keys={"user": hw.Int64})
NAMES = [f"f{i}" for i in range(4)]
SOURCE = hw.ParquetSource("rows.parquet", event_time="at")
PLAIN = hw.FeatureView("plain", entity=USER, source=SOURCE, features=[hw.Feature(name, hw.Float64) for name in NAMES])
WINDOWS = hw.FeatureView(
    "windows",
    entity=USER,
    source=SOURCE,
    features=[hw.Aggregation("f0", "sum", "1d"), hw.Aggregation(None, "count", "7d")],
    columns={"f0": hw.Float64},
)


@contextmanager
def small_disk(folder, size):
    """A disk of its own, in memory; None where this process may not mount one: what is full then is not tried."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(folder):
    subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)


def numbers_left(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def project(tmp_path):
    random = np.random.default_rng(0)
    times = pa.array([NOON - timedelta(hours=1)] * ROWS, pa.timestamp("us", "UTC"))
    columns = {"user": np.arange(ROWS), "at": times, **{name: random.normal(size=ROWS) for name in NAMES}}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    os.utime(tmp_path / "rows.parquet", (1e9, 1e9))  # one that is just made counts as changed in the next run too
    return tmp_path


@contextmanager
def opened(project, spark, online="memory:", scratch=None):
    with ExitStack() as stack:
        engine = SparkEngine(project, session=spark, scratch=None if scratch is None else str(scratch))
        stack.callback(engine.close)
        store = hw.FeatureStore(project, online=online, offline=engine, clock=lambda: NOON)
        stack.enter_context(store)
        store.apply([USER, PLAIN, WINDOWS])
        yield store


HISTORIES = [("plain", "500k"), ("windows", "150k"), ("plain", "64k"), ("windows", "64k")]
RUNS = [("plain", "500k"), ("windows", "4k"), ("plain", "64k")]


# what is written before Spark is asked is not Spark's
@pytest.mark.parametrize(("view", "size"), HISTORIES[:2] if BRIEF else HISTORIES)
def test_history_with_a_full_scratch_disk(project, spark, size, view):
    """The spine does not fit, or what is made of it."""
    spine = pa.table({"user": np.arange(ROWS), "timestamp": pa.array([NOON] * ROWS, pa.timestamp("us", "UTC"))})
    with small_disk(project / "disk", size) as disk:
        if disk is None:
            return
        with opened(project, spark, scratch=disk) as store:
            with pytest.raises(StorageFull, match="scratch"):
                store.get_historical_features(spine, [f"{view}:*"]).to_arrow()
            assert numbers_left(disk) == []
            enlarge(disk)
            found = store.get_historical_features(spine, [f"{view}:*"]).to_arrow()
            assert found.num_rows == ROWS and found.columns[-1].null_count == 0
            assert numbers_left(disk) == []
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize(("view", "size"), RUNS[:1] if BRIEF else RUNS)
def test_a_run_with_a_full_scratch_disk(project, spark, size, view):
    with small_disk(project / "disk", size) as disk:
        if disk is None:
            return
        with opened(project, spark, f"lmdb:{project}/online", disk) as store:
            with pytest.raises(StorageFull, match="scratch"):
                store.materialize([view])
            check_unfinished(store, view)
            assert numbers_left(disk) == []
            enlarge(disk)
            check_filled(store, view)
            assert numbers_left(disk) == []


@pytest.mark.parametrize("view", ["windows"] if BRIEF else ["plain", "windows"])
def test_a_run_with_a_full_disk_under_the_online_store(project, spark, view):
    with small_disk(project / "disk", "500k") as disk:
        if disk is None:
            return
        with opened(project, spark, f"lmdb:{disk}/online") as store:
            with pytest.raises(StorageFull, match="online store"):
                store.materialize([view])
            check_unfinished(store, view)
            enlarge(disk)
            check_filled(store, view)


def check_unfinished(store, view):
    """Nothing says that rows are there."""
    marks = read_watermarks(store.context.online, store.context.project, [(view, "1.0.0")])
    assert set(marks.values()) == {None}
    if view == "windows":
        read = store.get_online_features(["windows:rows_count_7d"], [0, 1])
        assert read.statuses["rows_count_7d"] == [hw.Status.UNAVAILABLE] * 2


def check_filled(store, view):
    (run,) = store.materialize([view]).runs
    assert run.watermark is not None and run.rows == ROWS
    name = "rows_count_7d" if view == "windows" else "f0"
    found = store.get_online_features([f"{view}:{name}"], list(range(0, ROWS, 7))).to_dict()[name]
    assert None not in found and (view == "plain" or set(found) == {1})
