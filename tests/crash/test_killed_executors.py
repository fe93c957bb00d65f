"""Rows put by an engine's own processes: killed, run twice, held up or left alone, they end as those of one process.

`HEADWATER_KILLS` sets how many runs are disturbed (default 3).
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.context import RUN
from headwater.compute.materializing import sink as sink_module
from headwater.compute.reports import MaterializeReport
from headwater.errors import Unavailable
from headwater.online.meta import read_watermarks
from headwater.online.rows.codec import HEADER_SIZE, SEQUENCE, header
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import whole_view
from headwater.registry.leases import Leases
from tests.children import Child
from tests.executors import ExecutorEngine, Luck
from tests.servers.waiting import wait_until
from tests.short_leases import LEASE, NOW, end_of_run, run_key, shorten_leases, ticking

KILLS = int(os.environ.get("HEADWATER_KILLS", "3"))
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEW = hw.FeatureView(
    "activity",
    entity=USER,
    source=hw.ParquetSource("activity.parquet", event_time="at"),
    features=[hw.Feature("x", hw.Float64), hw.Feature("text", hw.String)],
)


def make_source(folder: Path, keys: int) -> None:
    """Rows of which some have no key, some no time, some are known later, and some differ in their values alone."""
    rows = [
        {
            "user": None if n % 97 == 0 else n % keys,
            "at": None if n % 89 == 0 else NOW + timedelta(seconds=n // keys * 360_000 - 1_000_000 - n % 7),
            "x": float(n),
            "text": f"text {n}",
        }
        for n in range(4 * keys)
    ]
    twins = [{**row, "x": -row["x"]} for row in rows[keys : 2 * keys : 5]]
    schema = pa.schema({"user": pa.int64(), "at": pa.timestamp("us", "UTC"), "x": pa.float64(), "text": pa.string()})
    pq.write_table(pa.Table.from_pylist([*rows, *twins], schema), folder / "activity.parquet", row_group_size=50)


def opened(folder: Path, online: Any, engine: Any = None, clock: Any = lambda: NOW) -> hw.FeatureStore:
    return hw.FeatureStore(folder, online=online, offline=engine, clock=clock)


def made(folder: Path, keys: int) -> Path:
    """A project with rows of the source and of the log, and deletes."""
    folder.mkdir(exist_ok=True)
    make_source(folder, keys)
    with opened(folder, "memory:") as store:
        store.apply([USER, VIEW])
        rows = [{"user": n, "at": NOW - timedelta(seconds=n), "x": 0.5, "text": "written"} for n in range(keys // 10)]
        store.write("activity", rows, to="offline")
        store.delete("activity", [3, 4, keys - 1])
    return folder


def state(store: hw.FeatureStore) -> tuple[dict[Any, Any], Any]:
    """Every row as its times, origin, position, tombstone and values; and the watermark."""
    record = store.context.registry.refresh().view("activity")
    rows = RowEncoder(store.context.project, whole_view(record, record.versions["1.0.0"]))
    found = {}
    for key, row in store.context.online.scan(rows.prefix):
        told = header(row)
        assert told is not None
        found[rows.decode_key(key, row)] = (row[: SEQUENCE.start], told.event, told.position, row[HEADER_SIZE:])
    mark = read_watermarks(store.context.online, store.context.project, [("activity", "1.0.0")])
    return found, {pair: None if m is None else (m.end, m.position) for pair, m in mark.items()}


def shown(report: MaterializeReport) -> dict[str, Any]:
    (run,) = report.runs
    names = ("rows", "keys", "null_keys", "null_times", "future", "ties", "skipped", "too_large", "deleted")
    return {name: getattr(run, name) for name in (*names, "watermark")}


@pytest.fixture(params=["lmdb", "redis", "dynamodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A store's URL, and how many keys it takes in good time."""
    if request.param == "lmdb":
        yield f"lmdb:{tmp_path}/online", 600
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        yield server.url, 600
    else:
        yield request.getfixturevalue("dynamodb_server").url(), 60


@contextmanager
def disturbed(monkeypatch: pytest.MonkeyPatch, keys: int) -> Iterator[pytest.MonkeyPatch]:
    """Leases are short, and six processes wait before each put, so that they take longer than three leases."""
    rows = max(1, keys // 180)
    pause = 3 * LEASE.total_seconds() / (keys / 6 / rows)
    before = sink_module.OnlineSink._left

    def held(self: sink_module.OnlineSink, online: Any) -> Any:
        time.sleep(pause)
        return before(self, online)

    with monkeypatch.context() as patch:
        shorten_leases(patch)
        patch.setattr(sink_module, "ROWS", rows)
        patch.setattr(sink_module.OnlineSink, "_left", held)
        yield patch


@contextmanager
def driving(run: Callable[[], Any]) -> Iterator[Child]:
    """A process that runs something, and does not outlive this."""
    driver = Child(run)
    try:
        yield driver
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(driver.pid, signal.SIGKILL)
            os.waitpid(driver.pid, 0)


def wanted(folder: Path) -> tuple[tuple[dict[Any, Any], Any], dict[str, Any]]:
    """What one process puts into an empty store."""
    with opened(folder, "memory:") as store:
        report = shown(store.materialize())
        return state(store), report


def test_processes_that_are_killed_or_run_twice_end_as_one_run(tmp_path: Path, place: tuple[str, int]) -> None:
    url, keys = place
    folder = made(tmp_path / "project", keys)
    expected, report = wanted(folder)
    for seed in range(KILLS if keys > 100 else 1):
        engine = ExecutorEngine(folder, 4, luck=Luck(seed, killed=0.5, twice=0.4))
        with opened(folder, url, engine) as store:
            found = shown(store.materialize())
            assert engine.ran > engine.buckets
            assert state(store) == expected
            if seed == 0:
                assert found == report
            assert store.context.online.multi_get([run_key(store, "activity")]) == [None]
            # what was begun in a process that was taken for dead can apply a little longer
            (lease,) = store.context.leases.running(RUN)
            assert lease.expires_at <= lease.started_at + timedelta(seconds=30)
            store.context.leases.release(lease)
        engine.close()


def rows_of(store: hw.FeatureStore) -> dict[Any, Any]:
    return state(store)[0]


def is_unfinished(store: hw.FeatureStore, keys: int) -> bool:
    """Whether rows are there, but not all, and nothing says that they are."""
    rows, marks = state(store)
    assert 3 < len(rows) < keys, len(rows)
    assert set(marks.values()) == {None}, marks
    return True


def ends_well(folder: Path, url: str, expected: Any) -> None:
    """The next run goes on, and ends as one that nothing disturbed."""
    engine = ExecutorEngine(folder)
    with opened(folder, url, engine, ticking) as store:
        store.materialize()
        rows, marks = state(store)
        assert rows == expected and None not in marks.values()
    engine.close()


@pytest.mark.one_in(3)
def test_without_their_run_processes_stop_and_the_next_run_ends_it(
    tmp_path: Path, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, keys = place
    folder = made(tmp_path / "project", keys)
    (expected, _), _ = wanted(folder)
    with disturbed(monkeypatch, keys):

        def run() -> None:
            opened(folder, url, ExecutorEngine(folder, at_once=6), ticking).materialize()

        with driving(run) as driver, opened(folder, url, clock=ticking) as store:
            wait_until(lambda: len(rows_of(store)) > 3, "the processes put rows")
            os.kill(driver.pid, signal.SIGKILL)
            end = end_of_run(store, "activity")
            assert driver.problem()
            wait_until(lambda: time.time() > end, "the lease ends")
            there = rows_of(store)
            assert is_unfinished(store, keys)
            time.sleep(1.0)
            assert rows_of(store) == there
    ends_well(folder, url, expected)


@pytest.mark.one_in(3)
def test_a_run_whose_lease_is_not_renewed_fails_and_puts_nothing_after_its_end(
    tmp_path: Path, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, keys = place
    folder = made(tmp_path / "project", keys)
    (expected, _), _ = wanted(folder)
    with disturbed(monkeypatch, keys) as patch:
        patch.setattr(Leases, "renew", lambda self, lease, *, lasts: False)
        engine = ExecutorEngine(folder, at_once=6)
        with opened(folder, url, engine, ticking) as store:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="lease was not renewed"):
                store.materialize()
            there = rows_of(store)
            assert len(there) < keys
            wait_until(lambda: time.monotonic() > began + LEASE.total_seconds(), "the lease is over")
            after = rows_of(store)
            time.sleep(0.5)
            assert rows_of(store) == after and set(state(store)[1].values()) == {None}
        engine.close()
    ends_well(folder, url, expected)


@pytest.mark.one_in(3)
def test_a_driver_that_is_held_up_past_its_lease_believes_nothing(
    tmp_path: Path, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped, another run does its work, and it goes on."""
    url, keys = place
    folder = made(tmp_path / "project", keys)
    (expected, _), _ = wanted(folder)
    with disturbed(monkeypatch, keys) as patch:

        def run() -> None:
            with pytest.raises(Unavailable):
                opened(folder, url, ExecutorEngine(folder, at_once=6), ticking).materialize()

        with driving(run) as driver, opened(folder, url, clock=ticking) as store:
            wait_until(lambda: len(rows_of(store)) > 3, "the processes put rows")
            os.kill(driver.pid, signal.SIGSTOP)
            end = end_of_run(store, "activity")
            wait_until(lambda: time.time() > end, "the lease ends")
            assert is_unfinished(store, keys)
            patch.undo()
            ends_well(folder, url, expected)
            os.kill(driver.pid, signal.SIGCONT)
            assert driver.problem() == ""
            assert rows_of(store) == expected
