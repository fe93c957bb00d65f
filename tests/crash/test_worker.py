"""Workers killed with SIGKILL at random moments lose no hint: others take over, and each row is refreshed."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import headwater as hw
from headwater.compute.refreshing import worker as workers
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from tests.forked import Forked
from tests.processes import PROCESSES
from tests.unit.compute.conftest import T0, Bench

KEYS, KILLS = 600, 4
LEASE = timedelta(seconds=1)

USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "activity",
    entity=USER,
    source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature("score", hw.Float64)],
    freshness_sla="1h",
)


def make_source(folder: Path, score: float, *hours: int) -> None:
    """A row of each user at each hour."""
    users = [user for _ in hours for user in range(KEYS)]
    at = [T0 + timedelta(hours=hour) for hour in hours for _ in range(KEYS)]
    scores = [score * hour for hour in hours for _ in range(KEYS)]
    table = pa.table({"user": users, "at": pa.array(at, pa.timestamp("us", "UTC")), "score": scores})
    pq.write_table(table, folder / "activity.parquet")


class RunningBench(Bench):
    """The bench on a clock that goes on: leases end."""

    def clock(self) -> datetime:
        began = (self.folder / "began").stat().st_mtime
        return T0 + timedelta(hours=4, seconds=time.time() - began)


def open_bench(folder: str | Path) -> Bench:
    """The bench on the folder, as each process opens it."""
    bench = RunningBench(Path(folder), LMDBOnlineStore(Path(folder) / "online", sync=False))
    bench.open(settings=f"[freshness]\nrefresh = true\nrefresh_tries = 1000\nrefresh_lease = '{LEASE.seconds}s'\n")
    return bench


def work(folder: str, begun: Connection) -> None:
    """One worker, in a process of its own."""
    workers.BATCH = 40
    bench = open_bench(folder)
    bench.registry.refresh()
    begun.send(None)
    workers.Worker(bench.context).run()


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    random_moments = random.Random(5)
    (tmp_path / "began").touch()
    make_source(tmp_path, 1.0, 0)
    bench = Bench(tmp_path, LMDBOnlineStore(tmp_path / "online", sync=False))
    bench.apply(USER, VIEW)
    bench.materialize()
    bench.close()
    make_source(tmp_path, 1.0, 0, 4)
    bench = open_bench(tmp_path)
    reader = bench.reader(["activity:score"])
    reader.read(list(range(KEYS)))
    bench.store.flush_refresh_requests()
    queue = bench.context.refresh_queue
    assert queue.counts(bench.context.now()).waiting == KEYS

    processes, held = [], 0
    for kill in range(KILLS + 2):
        begun, begin = PROCESSES.Pipe()
        process = PROCESSES.Process(target=work, args=(str(tmp_path), begin))
        process.start()
        assert begun.poll(60), "the worker did not begin"
        if kill < KILLS:
            time.sleep(random_moments.random() * 0.25)
            # on a loaded machine it may not have come to its first hint by then
            until = time.monotonic() + 10 * (kill % 2)
            while time.monotonic() < until and not queue.counts(bench.context.now()).claimed:
                time.sleep(0.01)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            held = max(held, queue.counts(bench.context.now()).claimed)
        else:
            processes.append(process)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        counts = queue.counts(bench.context.now())
        if counts.waiting + counts.claimed == 0:
            break
        time.sleep(0.1)
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert held, "no worker was killed while it had hints"
    assert (counts.waiting, counts.claimed, counts.dead, counts.resting) == (0, 0, 0, 0)
    assert reader.read(list(range(KEYS))).to_dict()["score"] == [4.0] * KEYS
    bench.close()


PROJECT = """
import headwater as hw

user = hw.Entity("user", join_keys={"user": hw.Int64})
activity = hw.FeatureView(
    "activity", entity=user, source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature("score", hw.Float64)], freshness_sla="1h")
"""


def test_the_command_works_until_it_is_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text(PROJECT)
    (tmp_path / "headwater.toml").write_text("[freshness]\nrefresh = true\n")
    now = datetime.now(UTC)

    def put(score: float, at: datetime) -> None:
        table = pa.table({"user": [1, 2], "at": pa.array([at] * 2, pa.timestamp("us", "UTC")), "score": [score] * 2})
        pq.write_table(table, tmp_path / "activity.parquet")

    put(1.0, now - timedelta(hours=3))
    with hw.FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
        put(2.0, now)
        reader = store.prepare(["activity:score"])
        assert reader.read([1, 2]).statuses["score"] == [hw.Status.STALE] * 2
        script = "import sys; from headwater.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", script, "worker", "--project", str(tmp_path)]
        with Forked(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 60
            while reader.read([1, 2]).statuses["score"] != [hw.Status.PRESENT] * 2 and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        assert reader.read([1, 2]).to_dict()["score"] == [2.0, 2.0]
    assert process.returncode == 0, err
    assert "activity@1.0.0: 2 keys, 2 newer" in out and "stopping after the current task" in err
