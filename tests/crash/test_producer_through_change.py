"""A producer writes all through a change of version, old rows and new: nothing is rejected, nothing is lost."""

import time
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import headwater as hw
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from tests.processes import PROCESSES
from tests.unit.compute.conftest import T0, Bench

USER = hw.Entity("user", join_keys={"user": hw.Int64})


def clicks(*names: str) -> hw.FeatureView:
    features = [hw.Feature(name, hw.Int64) for name in names]
    return hw.FeatureView("clicks", entity=USER, source=hw.PushSource(event_time="at"), features=features)


def open_bench(folder: str | Path) -> Bench:
    bench = Bench(Path(folder), LMDBOnlineStore(Path(folder) / "online", sync=False))
    bench.at = T0 + timedelta(hours=1)
    return bench


def produce(folder: str, worker: int, shapes: list[tuple[str, ...]], stop: Any, told: Connection) -> None:
    """Write rows of each shape in turn until told to stop; what went wrong, and how many of each shape went in."""
    bench = open_bench(folder)
    counts = [0] * len(shapes)
    problem = ""
    i = 0
    while not stop.is_set() and not problem:
        which = i % len(shapes)
        rows = [{"user": 10 * worker + which, "at": T0 + timedelta(microseconds=i), **dict.fromkeys(shapes[which], i)}]
        try:
            report = bench.write("clicks", rows)
            counts[which] += 1
            if report.rejected or report.applied != 1:
                problem = f"{rows}: {report}"
        except Exception as bad:
            problem = f"{rows}: {bad!r}"
        i += 1
        if i == 2 * len(shapes):
            told.send("it writes")
    told.send((counts, problem))
    bench.close()


def wait_for(bench: Bench, more: int) -> None:
    """Until the producers have written some more rows."""
    wanted, until = bench.context.log.head_position() + more, time.monotonic() + 60
    while bench.context.log.head_position() < wanted:
        assert time.monotonic() < until, "the producers stand still"
        time.sleep(0.01)


def test_old_rows_and_new_through_apply_promote_and_rollback(tmp_path: Path) -> None:
    bench = open_bench(tmp_path)
    bench.apply(USER, clicks("a"))
    stop = PROCESSES.Event()
    workers = []
    # one writes old rows alone, one both; rows with `b` are only known once the new version is there
    bench.apply(clicks("a", "b"))
    for worker, shapes in enumerate([[("a",)], [("a",), ("a", "b")]]):
        telling, told = PROCESSES.Pipe()
        process = PROCESSES.Process(target=produce, args=(str(tmp_path), worker, shapes, stop, told))
        process.start()
        workers.append((process, telling))
    for _, telling in workers:
        assert telling.poll(60) and telling.recv() == "it writes"
    wait_for(bench, 20)
    bench.context.versions.promote("clicks", "1.1.0", watermarks={}, now=bench.at, force=True)
    wait_for(bench, 20)
    bench.context.log.roll()
    bench.apply(clicks("a", "b", "c"))
    wait_for(bench, 20)
    bench.context.versions.rollback("clicks", now=bench.at)
    wait_for(bench, 20)
    stop.set()
    written = 0
    for process, telling in workers:
        assert telling.poll(60)
        counts, problem = telling.recv()
        process.join()
        assert not problem
        written += sum(counts)
    tables = []
    for part in bench.context.log.slice("clicks", ["user"]).parts:
        tables += [part.table] if part.table is not None else [pq.read_table(file) for file in part.files]
    rows = [row for table in tables for row in table.to_pylist()]
    assert len(rows) == written and len({row["__position"] for row in rows}) == written
    newest = {user: max(row["a"] for row in rows if row["user"] == user) for user in (0, 10, 11)}
    assert bench.values("clicks:a", [0, 10, 11]) == [newest[0], newest[10], newest[11]]
    assert bench.values("clicks@1.0.0:a", [0, 10, 11]) == [newest[0], newest[10], newest[11]]
    bench.context.versions.promote("clicks", "1.1.0", watermarks={}, now=bench.at, force=True)
    # the new version takes the complete rows alone
    assert bench.values("clicks:a", [0, 10, 11]) == [None, None, newest[11]]
    assert bench.values("clicks:b", [11]) == [newest[11]]
    bench.close()
