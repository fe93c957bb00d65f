"""Rows put by Spark's own processes, which are killed, or whose run is over: what is believed is whole, and ends well.

It runs in an environment of its own: `make test-sail`, `make test-spark`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.materializing import run as run_module
from headwater.compute.materializing.sink import OnlineSink
from headwater.errors import StoreError, Unavailable
from headwater.offline.engines.spark.engine import SparkEngine
from headwater.online.meta import read_watermarks
from headwater.registry.leases import Leases
from tests import spark_sinks
from tests.servers.spark import SAIL
from tests.servers.waiting import wait_until
from tests.short_leases import LEASE, NOW, end_of_run, shorten_leases, ticking
from tests.spark_sinks import SlowSink

KEYS = 300
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "activity",
    entity=USER,
    source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature("x", hw.Float64)],
)


@pytest.fixture
def folder(tmp_path):
    rows = {"user": list(range(KEYS)), "at": [NOW - timedelta(hours=1)] * KEYS, "x": [float(n) for n in range(KEYS)]}
    pq.write_table(pa.table(rows), tmp_path / "activity.parquet")
    with opened(tmp_path, None) as store:
        store.apply([USER, VIEW])
    return tmp_path


def opened(folder, engine):
    return hw.FeatureStore(folder, online=f"lmdb:{folder}/online", offline=engine, clock=ticking)


def slowly(patch):
    """Runs whose leases are short, and whose processes put ten rows a second."""
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(spark_sinks)
    sink_of = run_module.sink_of

    def slow(*given):
        sink = sink_of(*given)
        return SlowSink(**{field.name: getattr(sink, field.name) for field in fields(OnlineSink)})

    patch.setattr(run_module, "sink_of", slow)
    shorten_leases(patch)


def rows_of(store):
    return {key: row for key, row in store.context.online.scan(b"") if key[0]}


def unfinished(store):
    """How many rows are there, where no watermark speaks for them."""
    marks = read_watermarks(store.context.online, store.context.project, [("activity", "1.0.0")])
    assert set(marks.values()) == {None}
    found = len(rows_of(store))
    assert found < KEYS
    return found


def ends_well(folder, session):
    engine = SparkEngine(folder, session=session)
    with opened(folder, engine) as store:
        assert store.materialize().runs[0].keys == KEYS
        found = store.get_online_features(["activity:x"], list(range(KEYS))).to_dict()["x"]
        assert found == [float(n) for n in range(KEYS)]
    engine.close()


def test_a_run_whose_lease_is_not_renewed_puts_nothing_after_its_end(folder, spark, monkeypatch):
    engine = SparkEngine(folder, session=spark)
    with monkeypatch.context() as patch:
        slowly(patch)
        patch.setattr(Leases, "renew", lambda self, lease, *, lasts: False)
        with opened(folder, engine) as store:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="lease was not renewed"):
                store.materialize()
            wait_until(lambda: time.monotonic() > began + LEASE.total_seconds(), "the lease is over")
            there = unfinished(store)
            time.sleep(0.5)
            assert unfinished(store) == there
    engine.close()
    ends_well(folder, spark)


DRIVER = """
import sys
sys.path.insert(0, {root!r})
sys.modules["__main__"].__dict__.setdefault("__file__", "driver.py")
from pathlib import Path
import pytest
from pyspark.sql.connect.session import SparkSession
from tests.crash import test_spark_killed as mine
patch = pytest.MonkeyPatch()
mine.slowly(patch)
folder = Path({folder!r})
engine = mine.SparkEngine(folder, session=SparkSession(connection={url!r}))
mine.opened(folder, engine).materialize()
"""


def check_without_their_driver(folder, spark, url):
    """Of Sail, whose executors are in its server."""
    root = str(Path(__file__).resolve().parents[2])
    program = DRIVER.format(root=root, folder=str(folder), url=url)
    driver = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    try:
        with opened(folder, None) as store:
            wait_until(lambda: rows_of(store) or driver.poll() is not None, "rows are put", 200)
            assert driver.poll() is None, driver.stderr.read().decode()[-3000:]
            os.kill(driver.pid, signal.SIGKILL)
            end = end_of_run(store, "activity")
            wait_until(lambda: time.time() > end, "the lease ends")
            there = unfinished(store)
            time.sleep(0.5)
            assert unfinished(store) == there
    finally:
        driver.kill()
        driver.communicate()
    ends_well(folder, spark)


def check_workers_that_are_killed(folder, spark, monkeypatch):
    """Of Spark, whose local mode tries no task again."""
    engine = SparkEngine(folder, session=spark)
    with monkeypatch.context() as patch:
        slowly(patch)
        with opened(folder, engine) as store, opened(folder, None) as watching:
            failed = []

            def run():
                try:
                    store.materialize()
                except StoreError as bad:
                    failed.append(bad)

            running = threading.Thread(target=run)
            running.start()
            wait_until(lambda: rows_of(watching) or failed, "rows are put", 200)
            assert not failed
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
            running.join(200)
            assert failed, "the run went on"
            unfinished(watching)
    engine.close()
    ends_well(folder, spark)


def test_processes_that_are_killed_leave_nothing_that_is_believed(folder, spark, monkeypatch, request):
    if SAIL:
        check_without_their_driver(folder, spark, request.getfixturevalue("sail_server").url)
    else:
        check_workers_that_are_killed(folder, spark, monkeypatch)


def workers():
    """The Python processes of the session's executors."""
    found, parents, commands = [], {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
    for pid, command in commands.items():
        above, is_ours = pid, False
        while above > 1:
            above = parents.get(above, 0)
            is_ours = is_ours or above == os.getpid()
        if is_ours and "pyspark" in command and "java" not in command.split("\0")[0]:
            found.append(pid)
    assert found
    return found
