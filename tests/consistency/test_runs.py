"""Runs whose store loses rows, or moves them, while they are under way: at the latest the next one fills the gap."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.online.meta import token_key
from tests.servers.redis import RedisCluster, RedisReplicas, RedisServer
from tests.servers.waiting import wait_until

COUNT = 2_000
AT = datetime(2024, 1, 1, tzinfo=UTC)


def fill(folder: Path, url: str) -> hw.FeatureStore:
    """A project on a file of many keys, not materialized yet."""
    folder.mkdir()
    times = pa.array([AT] * COUNT, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"id": range(COUNT), "at": times, "x": range(COUNT)}), folder / "facts.parquet")
    # a file that was written just before a run is read whole once more
    os.utime(folder / "facts.parquet", (AT.timestamp(), AT.timestamp()))
    item = hw.Entity("item", join_keys={"id": hw.Int64})
    source = hw.ParquetSource("facts.parquet", event_time="at")
    view = hw.FeatureView("facts", entity=item, source=source, features=[hw.Feature("x", hw.Int64)])
    (folder / "headwater.toml").write_text('project = "runs"\n')
    store = hw.FeatureStore(folder, online=url)
    store.apply([item, view])
    return store


@contextmanager
def after_the_first_rows(store: hw.FeatureStore, happens: Callable[[], Any]) -> Iterator[None]:
    """Something happens once, between the rows of a run and its watermark."""
    online, done = store.context.online, list[bool]()
    put = online.put

    def watched(rows: Any, **options: Any) -> Any:
        outcomes = put(rows, **options)
        if not done:
            done.append(True)
            happens()
        return outcomes

    online.put = watched  # type: ignore[method-assign]
    yield
    online.put = put  # type: ignore[method-assign]
    assert done


def missing(store: hw.FeatureStore) -> int:
    values: list[Any] = store.get_online_features(["facts:x"], {"id": list(range(COUNT))}).to_dict()["x"]
    return sum(value is None for value in values)


@pytest.mark.parametrize("how", ["restart", "flush"])
def test_a_server_that_loses_its_rows_during_a_run_is_filled_again(tmp_path: Path, how: str) -> None:
    with RedisServer(tmp_path / "redis") as server, fill(tmp_path / "project", server.url) as store:
        happens = server.restart_empty if how == "restart" else server.client.flushall
        with after_the_first_rows(store, happens):
            store.materialize()
        store.materialize()
        assert missing(store) == 0


def test_a_replica_that_lacks_the_rows_of_a_run_is_filled_again(tmp_path: Path) -> None:
    with RedisReplicas(tmp_path / "redis", replicas=1) as nodes, fill(tmp_path / "project", nodes.url) as store:
        # what a run finds at its start is on the replica too, its rows are not
        store.context.online.epoch(token_key("runs"))
        nodes.wait_level()
        nodes.hold()

        def fail_over() -> None:
            nodes.primary.kill()
            nodes.fail_over(nodes.replicas[0])

        with after_the_first_rows(store, fail_over), suppress(hw.errors.Unavailable):
            store.materialize()
        store.materialize()
        assert missing(store) == 0


@pytest.mark.parametrize("how", ["a shard is flushed", "slots are moved", "a shard loses its slots"])
def test_a_cluster_that_changes_during_a_run_is_whole_after_the_next(tmp_path: Path, how: str) -> None:
    with RedisCluster(tmp_path / "cluster") as cluster, fill(tmp_path / "project", cluster.url) as store:
        a, b, _ = cluster.shards

        def happens() -> None:
            if how == "a shard is flushed":
                a.client.flushall()
            elif how == "slots are moved":
                cluster.move(cluster.slots(a)[:20], b)
            else:
                cluster.move_all(a, b)
                wait_until(lambda: a.told("replication")["role"] == "slave", "the shard to follow the other")

        with after_the_first_rows(store, happens):
            report = store.materialize()
        again = [run for run in report.runs if any("restarted" in warning for warning in run.warnings)]
        # slots that move alone repeat no run; a shard that takes a replica has another replication id
        assert bool(again) == (how != "slots are moved")
        store.materialize()
        assert missing(store) == 0
        assert store.materialize().runs[0].rows == 0
