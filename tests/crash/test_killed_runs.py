"""Runs killed with SIGKILL at random moments end in the state of an undisturbed run, and readers never see a step back.

`HEADWATER_KILLS` sets how many (default 3).
"""

import os
import random
import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.online.meta import read_watermarks
from headwater.online.rows.codec import header
from headwater.online.rows.encoder import RowEncoder
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.planning.resolve import whole_view
from tests.processes import PROCESSES
from tests.unit.compute.conftest import T0, Bench

KILLS = int(os.environ.get("HEADWATER_KILLS", "3"))
KEYS, ROWS, FEATURES = 2_000, 30_000, 6

USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "activity",
    entity=USER,
    source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature(f"f{i}", hw.Float64) for i in range(FEATURES)],
)


def make_source(folder: Path) -> None:
    """Rows spread over the rounds; feature i of a row is its number + i, so that a torn row shows."""
    random_numbers = np.random.default_rng(7)
    number = np.arange(ROWS)
    at = to_micros(T0) + number * ((KILLS + 2) * 3_600_000_000) // ROWS
    columns = {"user": random_numbers.integers(0, KEYS, ROWS), "at": pa.array(at).cast(pa.timestamp("us", "UTC"))}
    columns |= {f"f{i}": (number + i).astype(float) for i in range(FEATURES)}
    pq.write_table(pa.table(columns), folder / "activity.parquet", row_group_size=10_000)


def open_bench(folder: str | Path, round_: int) -> Bench:
    place = Path(folder) / "online.url"
    online = (
        RedisOnlineStore(place.read_text()) if place.exists() else LMDBOnlineStore(Path(folder) / "online", sync=False)
    )
    bench = Bench(Path(folder), online)
    bench.at = T0 + timedelta(hours=round_)
    return bench


def run(folder: str, round_: int, begun: Connection) -> None:
    """One materialization, in a process of its own."""
    bench = open_bench(folder, round_)
    begun.send(None)
    bench.materialize()
    bench.close()


def produce(bench: Bench, round_: int) -> None:
    """What a producer writes and deletes between two runs."""
    now = bench.at
    numbers = [10 * ROWS + round_ * 100 + i for i in range(40)]
    rows = [
        {
            "user": i % 13,
            "at": now - timedelta(minutes=i),
            "created_time": now,
            **{f"f{j}": float(n + j) for j in range(FEATURES)},
        }
        for i, n in enumerate(numbers)
    ]
    bench.write("activity", rows[:20], to="both")
    bench.write("activity", rows[20:], to="offline")
    if round_ % 4 == 2:
        bench.delete("activity", [KEYS + round_, 5_000])


def state(folder: Path) -> tuple[dict[Any, Any], Any]:
    """Every row as its order, D and values, and the watermark."""
    bench = open_bench(folder, 0)
    record = bench.registry.refresh().view("activity")
    rows = RowEncoder("test", whole_view(record, record.versions["1.0.0"]))
    found = {}
    for key, row in bench.context.online.scan(rows.prefix):
        told = header(row)
        assert told is not None
        found[rows.decode_key(key, row)] = (
            told.event,
            told.created,
            told.origin,
            told.position,
            told.through,
            row[47:],
        )
    online = bench.context.online
    marks = read_watermarks(online, "test", [("activity", "1.0.0")])
    bench.close()
    online.close()
    return found, marks


def read_on(folder: str, stop: Any, told: Connection) -> None:
    """Read all the while; tell the first thing that is wrong, else how many reads there were."""
    bench = open_bench(folder, KILLS + 10)
    bench.registry.refresh()
    reader = bench.reader(["activity:*"])
    keys = list(range(0, KEYS, 3))
    newest: dict[int, Any] = {}
    reads, problem = 0, ""
    while not stop.is_set() and not problem:
        result = reader.read(keys)
        values, times = result.to_dict(), result.event_times["activity"]
        if result.problems:
            problem = f"damaged: {result.problems}"
        for i, key in enumerate(keys):
            found = [values[f"f{j}"][i] for j in range(FEATURES)]
            if found[0] is None:
                problem = problem or (f"{key} went away" if key in newest else "")
                continue
            if [v - j for j, v in enumerate(found)] != [found[0]] * FEATURES:
                problem = f"torn row of {key}: {found}"
            seen = (times[i], found[0])
            if key in newest and seen[0] < newest[key][0]:
                problem = f"{key} went back from {newest[key]} to {seen}"
            newest[key] = seen
        reads += 1
        # leave the processor to the runs
        time.sleep(0.02)
    told.send((reads, problem))
    bench.close()


@pytest.mark.parametrize("kind", ["lmdb", "redis"])
def test_kill_9_at_any_moment(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    random_moments = random.Random(11)
    calm, storm = tmp_path / "calm", tmp_path / "storm"
    for number, folder in enumerate((calm, storm)):
        folder.mkdir()
        if kind == "redis":
            server = request.getfixturevalue("redis_server")
            server.client.flushall()
            (folder / "online.url").write_text(f"redis://127.0.0.1:{server.port}/{number}")
        make_source(folder)
        bench = open_bench(folder, 0)
        bench.apply(USER, VIEW)
        bench.close()
    for round_ in range(1, KILLS + 2):
        bench = open_bench(calm, round_)
        produce(bench, round_)
        bench.materialize()
        bench.close()

    stop = PROCESSES.Event()
    telling, told = PROCESSES.Pipe()
    reader = PROCESSES.Process(target=read_on, args=(str(storm), stop, told))
    reader.start()
    length, killed = 0.4, 0
    for round_ in range(1, KILLS + 2):
        bench = open_bench(storm, round_)
        produce(bench, round_)
        bench.close()
        begun, begin = PROCESSES.Pipe()
        child = PROCESSES.Process(target=run, args=(str(storm), round_, begin))
        child.start()
        assert begun.poll(60), "the run did not begin"
        started = time.monotonic()
        if round_ <= KILLS:
            child.join(random_moments.random() * length)
            if child.is_alive():
                child.kill()
                killed += 1
            child.join()
        else:
            child.join(120)
            assert child.exitcode == 0
        if child.exitcode == 0:
            length = 0.5 * length + 0.5 * min(2 * (time.monotonic() - started), 2.0)
    stop.set()
    assert telling.poll(60)
    reads, problem = telling.recv()
    reader.join()
    assert not problem and reads > 3
    assert killed >= KILLS // 3, f"only {killed} of {KILLS} runs were still going when they were to be killed"
    expected, marks = state(calm)
    found, found_marks = state(storm)
    assert found_marks == marks
    assert found == expected
