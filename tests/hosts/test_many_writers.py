"""Many appliers and writers on several hosts: nothing lost, nothing out of order, the greatest row of each key stands.

`HEADWATER_HOSTS` sets how many hosts (default 5), each with three writers, in a longer search with ten.
"""

import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.database.engine import open_engine
from headwater.offline.log.log import OfflineLog
from headwater.testing import SCALE
from tests.hosts.conftest import USER, clicks
from tests.hosts.working import KEYS, MOMENTS, T0, received, rows_of, work, write_until
from tests.processes import PROCESSES

HOSTS, WRITERS, BATCHES = int(os.environ.get("HEADWATER_HOSTS", "5")), 3 if SCALE == 1 else 10, 3
BATCHES_OF_KILLED = 5 if SCALE == 1 else 8


def logged(log: OfflineLog) -> list[tuple[int, dict[str, Any]]]:
    """(position, row) of everything in the log, files and head alike, in order."""
    found = []
    for part in log.slice("clicks", ["user"]).parts:
        for table in [part.table] if part.table is not None else [pq.read_table(file) for file in part.files]:
            found += [(row["__position"], row) for row in table.to_pylist()]
    return sorted(found, key=lambda one: one[0])


def open_log(folder: Path, url: str) -> OfflineLog:
    return OfflineLog(open_engine(url, folder), folder / "log", lambda: T0)


def check_state(host: hw.FeatureStore, rows: list[tuple[int, dict[str, Any]]]) -> None:
    """Online, and history, have of each key the row with the greatest event and created time, the later at a tie."""
    greatest: dict[int, Any] = {}
    for position, row in rows:
        order = (row["at"], row["created_time"], position, row["id"], row["amount"])
        greatest[row["user"]] = max(greatest.get(row["user"], order), order)
    keys = list(range(KEYS))
    expected = [greatest[key][3] if key in greatest else None for key in keys]
    found = host.get_online_features(["clicks:id", "clicks:amount"], keys, consistency="strong").to_dict()
    assert found["id"] == expected
    assert found["amount"] == [greatest[key][4] if key in greatest else None for key in keys]
    spine = pa.table({"user": keys, "timestamp": pa.array([T0 + timedelta(days=9)] * KEYS, pa.timestamp("us", "UTC"))})
    assert host.get_historical_features(spine, ["clicks:id"]).to_arrow()["id"].to_pylist() == expected


def test_many_appliers_and_writers_lose_nothing(make_host, tmp_path, postgres_url):
    folders = [make_host(f"host{n}") for n in range(HOSTS)]
    with hw.FeatureStore(folders[0]) as first:
        first.apply([USER, clicks()])
    log = open_log(tmp_path, postgres_url)
    begun = []
    for n, folder in enumerate(folders):
        telling, told = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=work, args=(folder, range(n * WRITERS, (n + 1) * WRITERS), BATCHES, told))
        process.start()
        told.close()
        begun.append((process, telling))
    looks = watch(log, begun)
    answers = [answer for _, telling in begun for answer in received(telling)]
    for process, _ in begun:
        process.join(60)
    assert [problem for _, problems in answers for problem in problems] == []
    assert [process.exitcode for process, _ in begun] == [0] * HOSTS
    assert looks > 3

    found = logged(log)
    writers = range(HOSTS * WRITERS)
    assert sorted(row["id"] for _, row in found) == sorted(
        row["id"] for writer in writers for batch in range(BATCHES) for row in rows_of(writer, batch, 4)
    )
    assert [position for position, _ in found] == list(range(1, len(found) + 1))
    at = dict(found)
    acknowledged = [one for mine, _ in answers for one in mine]
    assert len(acknowledged) == HOSTS * WRITERS * BATCHES
    assert all(at[position]["id"] == row["id"] for position, row in acknowledged)

    with hw.FeatureStore(folders[0]) as first, hw.FeatureStore(folders[-1]) as last:
        hosts = [threading.Thread(target=host.materialize) for host in (first, last)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join()
        snapshot = last.registry.refresh()
        assert set(snapshot.views) == {"clicks", *(f"view{writer}" for writer in writers)}
        assert snapshot.revision == 1 + len(writers)
        check_state(last, found)
        files = [file.name for file in (tmp_path / "log").iterdir() if file.suffix == ".tmp"]
        assert files == []


def watch(log: OfflineLog, begun: list[Any]) -> int:
    """Look at the log while others write: what was seen stays, and nothing comes in before it; how many looks."""
    seen: list[int] = []
    looks = 0
    while any(process.is_alive() and not telling.poll() for process, telling in begun):
        head = log.head_position()
        found = [position for position, _ in logged(log)]
        assert found[: len(seen)] == seen, "a row went, or came in before one that was seen"
        assert len(found) >= head, "a position was given, and its row is not there"
        seen = found
        looks += 1
        time.sleep(0.1)
    return looks


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_host_that_is_killed_loses_nothing_acknowledged_and_the_next_run_makes_it_whole(
    make_host, tmp_path, postgres_url, moment
):
    folders = [make_host(f"host{n}") for n in range(3)]
    with hw.FeatureStore(folders[0]) as first:
        first.apply([USER, clicks()])
    begun = []
    for n, folder in enumerate(folders):
        telling, told = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=write_until, args=(folder, n, BATCHES_OF_KILLED, moment if n == 0 else None, told)
        )
        process.start()
        told.close()
        begun.append((process, telling))
    told_by = [list(received(telling)) for _, telling in begun]
    for process, _ in begun:
        process.join(60)
    assert [process.exitcode for process, _ in begun] == [-9, 0, 0]
    assert all(messages[-1] is None for messages in told_by[1:])

    acknowledged = {number for messages in told_by for ids in messages if ids for number in ids}
    log = open_log(tmp_path, postgres_url)
    found = logged(log)
    numbers = [row["id"] for _, row in found]
    assert acknowledged <= set(numbers) and len(set(numbers)) == len(numbers)
    written = [{row["id"] for row in rows_of(n, batch, 4)} for n in range(3) for batch in range(BATCHES_OF_KILLED)]
    assert all(batch <= set(numbers) or not batch & set(numbers) for batch in written), "half of a write is there"
    with hw.FeatureStore(folders[1]) as other:
        other.materialize()
        check_state(other, logged(log))
        assert [row for _, row in logged(log)] == [row for _, row in found]
    kept = {file.name for file in (tmp_path / "log").glob("log-*")}
    named = {file.name for part in log.slice("clicks", ["user"]).parts for file in part.files}
    assert named <= kept and not [name for name in kept if name.endswith(".tmp")]
