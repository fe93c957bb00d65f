"""Window views on a real Redis Cluster whose slots move, and whose shards fail over or are emptied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headwater.online.base import OnlineStore
from headwater.online.meta import fill_record_key
from headwater.online.rows.encoder import RowEncoder
from headwater.online.stores.redis.slots import META_SLOTS, meta_hash, slot_of
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.window_project import WindowProject
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisCluster, RedisServer
from tests.servers.waiting import wait_until

MANY = [f"key {i}" for i in range(40)]
"""Entities without an event."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("redis") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def online(cluster: RedisCluster) -> Iterator[OnlineStore]:
    cluster.wait_agreed()
    for node in cluster.shards:
        node.client.flushall()
    store = RedisOnlineStore(cluster.url)
    yield store
    store.close()


class Project(WindowProject):
    """A pushed view, with what these tests ask of it."""

    def stored(self, key: str) -> bytes:
        (stored,) = RowEncoder(self.store.context.project, self.view()).stored_keys(pa.table({"k": [key]}))
        assert stored is not None
        return stored

    def add(self, *keys: str, n: int = 1) -> Any:
        rows = [{"k": k, "at": self.clock, "seen": self.clock, "id": None, "n": n, "kind": "a"} for k in keys]
        return self.store.write("v", rows)

    def read(self, keys: list[str], level: ConsistencyLevel = ConsistencyLevel.STRONG) -> dict[str, Any]:
        """Key → the count of a lifetime, or None where it is UNAVAILABLE."""
        result = self.store.get_online_features(["v:of_a"], keys, consistency=level)
        statuses, counts = result.statuses["of_a"], result.to_dict()["of_a"]
        assert {str(s) for s in statuses} <= {"PRESENT", "UNAVAILABLE"}
        assert all((str(s) == "PRESENT") == (n is not None) for s, n in zip(statuses, counts, strict=True))
        return dict(zip(keys, counts, strict=True))

    def slot(self, key: str) -> int:
        return slot_of(self.stored(key))


def other(cluster: RedisCluster, slot: int) -> RedisServer:
    owner = cluster.owner(slot)
    return next(node for node in cluster.shards if node is not owner)


def well(project: Project) -> None:
    project.store.materialize()
    assert project.problems() == []
    project.check()


@pytest.fixture
def project(online: OnlineStore, tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, online)
    made.add("a", "b", "c")
    assert made.read(["a", "b", "c", *MANY]) == {"a": 1, "b": 1, "c": 1, **dict.fromkeys(MANY, 0)}
    yield made
    made.store.close()


@pytest.mark.parametrize("level", [ConsistencyLevel.STRONG, ConsistencyLevel.EVENTUAL])
def test_rows_that_moved_are_read_and_written_and_missing_ones_are_unavailable(
    cluster: RedisCluster, project: Project, level: ConsistencyLevel
) -> None:
    gone = MANY[0]
    there = other(cluster, project.slot("a"))
    cluster.move([slot for slot in (project.slot("a"), project.slot(gone)) if cluster.owner(slot) is not there], there)
    found = project.read(["a", "b", gone], level)
    assert found["a"] == 1 and found[gone] is None
    # what the shard that took them over has of its own is not spoken for either; the others' is
    theirs = {key: cluster.owner(project.slot(key)) is there for key in MANY}
    assert project.read(MANY, level) == {key: None if theirs[key] else 0 for key in MANY}
    assert project.add("a", "b", gone).applied == 2
    assert project.read(["a", "b"], level) == {"a": 2, "b": 2}
    well(project)
    assert project.read(["a", "b", *MANY], level) == {"a": 2, "b": 2, **dict.fromkeys(MANY, 0), gone: 1}


def test_shards_that_give_away_the_slots_of_their_entries_speak_for_their_rows(
    cluster: RedisCluster, project: Project
) -> None:
    """As they do where a shard is added."""
    to = cluster.shards[-1]
    slots = [slot for node in cluster.shards[:-1] for slot in META_SLOTS if cluster.owner(slot) is node]
    kept = slots.pop()
    cluster.move(slots, to)
    kept_by = cluster.owner(kept)
    for key in MANY:
        if cluster.owner(project.slot(key)) is kept_by:
            assert project.read([key]) == {key: 0}
    assert project.read(["a", "b", "c"]).keys() == {"a", "b", "c"}
    well(project)
    # readers ask once a second what a node is; until then its new record does not hold for them
    wait_until(lambda: project.read(MANY) == dict.fromkeys(MANY, 0), "readers to know the shards as they are now")
    for slot in slots:
        cluster.move([slot], other(cluster, slot))
    well(project)


def test_a_shard_that_is_emptied_is_not_read_as_empty_windows(cluster: RedisCluster, project: Project) -> None:
    lost = cluster.owner(project.slot("a"))
    mine = [key for key in MANY if cluster.owner(project.slot(key)) is lost]
    others = [key for key in MANY if key not in mine]
    lost.client.flushall()
    assert project.read(["a", *mine]) == dict.fromkeys(["a", *mine])
    assert project.read(others) == dict.fromkeys(others, 0)
    # writers leave it alone, and go on with the others
    assert project.add("a", others[0]).applied == 1
    assert project.read(["a", others[0]]) == {"a": None, others[0]: 1}
    well(project)
    assert project.read(["a", *mine]) == {"a": 2, **dict.fromkeys(mine, 0)}


def test_while_a_fill_is_under_way_what_was_filled_is_read(
    cluster: RedisCluster, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = other(cluster, project.slot("a"))
    cluster.move([project.slot("a")], there)
    seen: list[dict[str, Any]] = []
    swap = project.online.compare_and_put_all

    def watched(*args: Any, **options: Any) -> list[bool]:
        seen.append(project.read(["a", "b", "c"]))
        return swap(*args, **options)

    monkeypatch.setattr(project.online, "compare_and_put_all", watched)
    project.store.materialize()
    assert seen and all(each == {"a": 1, "b": 1, "c": 1} for each in seen)
    monkeypatch.undo()
    well(project)


def test_writes_and_reads_follow_a_slot_that_is_on_its_way(cluster: RedisCluster, project: Project) -> None:
    slot, key = project.slot("a"), project.stored("a")
    to = other(cluster, slot)
    cluster.begin_move(slot, to)
    project.add("a", "b")
    assert project.read(["a", "b"]) == {"a": 2, "b": 2}
    cluster.carry(to, key)
    # the row is there already, the slot is not
    assert project.add("a", "c").applied == 2
    assert project.read(["a", "c"]) == {"a": 3, "c": 2}
    project.store.materialize()
    assert project.problems() == []
    # the run filled all but that slot: its row is of an older fill
    assert project.read(["a", "c"]) == {"a": None, "c": 2}
    cluster.end_move(slot, to)
    assert project.add("a", "c").applied == 1
    well(project)
    assert project.read(["a", "b", "c"]) == {"a": 4, "b": 2, "c": 3}


@pytest.mark.parametrize("during", ["fold", "fill"])
def test_slots_that_move_during_a_run_are_left_to_the_next(
    cluster: RedisCluster, project: Project, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    if during == "fill":
        project.lose_record()
    project.add("a", "b", "c")
    slots = [project.slot(key) for key in "abc"]
    swap, moved = project.online.compare_and_put_all, list[int]()

    def moving(*args: Any, **options: Any) -> list[bool]:
        if not moved:
            moved.append(1)
            for slot in (*slots[:2], 0):
                cluster.move([slot], other(cluster, slot))
        return swap(*args, **options)

    monkeypatch.setattr(project.online, "compare_and_put_all", moving)
    project.store.materialize()
    assert moved
    monkeypatch.undo()
    assert project.problems() == []
    project.add("a", "b", "c")
    well(project)
    assert project.read(["a", "b", "c"]) == dict.fromkeys("abc", 3)
    cluster.move([0], other(cluster, 0))
    well(project)


def test_a_shard_that_fails_over_without_its_last_writes(tmp_path: Path) -> None:
    with RedisCluster(tmp_path / "cluster", replicas=1) as cluster:
        online = RedisOnlineStore(cluster.url + "?timeout=1s")
        project = Project(tmp_path / "project", online)
        project.add("a", "b", "c")
        project.store.materialize()
        slot = project.slot("a")
        shard = next(i for i, node in enumerate(cluster.shards) if node is cluster.owner(slot))
        primary, heir = cluster.shards[shard], cluster.replicas[shard][0]
        before = primary.client.execute_command("DUMP", project.stored("a"), NEVER_DECODE=True)
        project.add("a", "b")
        cluster.hand_over(primary, heir)
        # as if the last write had not reached it
        heir.client.execute_command("RESTORE", project.stored("a"), 0, before, "REPLACE")
        wait_until(lambda: project.read(["a", "b"]) == {"a": 1, "b": 2}, "the new primary to be found")
        assert project.read(MANY) == dict.fromkeys(MANY, 0)
        new = next(key for key in MANY if cluster.owner(project.slot(key)) is heir)
        assert project.add("a", new).applied == 2
        assert project.read(["a", new]) == {"a": 2, new: 1}
        assert project.problems() == []
        report = project.store.materialize().runs[0]
        assert not report.error
        assert project.read(["a", "b", new]) == {"a": 3, "b": 2, new: 1}
        well(project)
        project.store.close()
        online.close()


def test_a_claim_store_leaves_no_record_in_any_slot(cluster: RedisCluster, project: Project) -> None:
    key = fill_record_key(project.store.context.project, "v", "1.0.0")
    have = [slot for slot in META_SLOTS if cluster.owner(slot).client.hexists(meta_hash(slot), key)]
    assert have == list(META_SLOTS)
    assert project.online.put_meta({key: None})
    assert not any(cluster.owner(slot).client.hexists(meta_hash(slot), key) for slot in META_SLOTS)
    assert project.read(["a"]) == {"a": None}
