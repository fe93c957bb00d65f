"""The four levels on a primary with two replicas whose replication is held back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from tests.consistency.clients import Get, get, get_elsewhere, open_store, put, put_elsewhere, reading
from tests.servers.redis import RedisReplicas
from tests.servers.waiting import at_most, wait_until

Elsewhere = Callable[..., Any]


def behind(store: hw.FeatureStore, nodes: RedisReplicas) -> None:
    """Score 1 everywhere, then 2 on the primary alone."""
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    put(store, 7, 2)


def reads_of(nodes: RedisReplicas) -> int:
    """How many reads of rows the replicas have served."""
    told = [replica.told("commandstats") for replica in nodes.replicas]
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for stats in told for name in ("get", "mget"))


def test_eventual_reads_may_be_old_and_catch_up(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    behind(store, nodes)
    assert 1 in {read(7, "eventual") for _ in range(4)}
    nodes.resume()
    nodes.wait_level()
    assert {read(7, "eventual") for _ in range(4)} == {2}


def test_strong_reads_are_never_old(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    behind(store, nodes)
    for n in range(3, 13):
        put(store, 7, n)
        assert read(7, "strong") == n


def test_a_session_sees_its_own_writes(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    behind(store, nodes)
    session = store.session()
    for n in range(3, 13):
        put(store, 7, n, session=session)
        assert read(7, "session", session) == n


def test_a_session_sees_its_own_delete(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    behind(store, nodes)
    session = store.session()
    store.delete("score", [7], session=session)
    assert [read(7, "session", session) for _ in range(4)] == [None] * 4


def test_a_session_sees_writes_of_before_its_first_read_once_it_has_read_them(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    behind(store, nodes)
    session = store.session()
    assert read(7, "strong", session) == 2
    assert [read(7, "session", session) for _ in range(4)] == [2] * 4
    assert [read(7, "monotonic_read", session) for _ in range(4)] == [2] * 4


def test_another_process_sees_what_the_token_has_seen(
    store: hw.FeatureStore, nodes: RedisReplicas, project: Path, elsewhere: Elsewhere, read: Get
) -> None:
    behind(store, nodes)
    session = store.session()
    put(store, 7, 3, session=session)
    values, token = elsewhere(get_elsewhere, project, nodes.url, session.token, 7, "session", 4)
    assert values == [3] * 4
    # and back: what the other process wrote is seen here with its token
    token = elsewhere(put_elsewhere, project, nodes.url, token, 7, 4)
    assert [read(7, "session", hw.Session.from_token(token)) for _ in range(4)] == [4] * 4
    session.merge(hw.Session.from_token(token))
    assert read(7, "session", session) == 4


def test_replicas_serve_sessions_that_they_cover(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    session = store.session()
    put(store, 7, 1, session=session)
    nodes.wait_level()
    served = reads_of(nodes)
    assert [read(7, level, session) for level in ("session", "monotonic_read") for _ in range(5)] == [1] * 10
    assert reads_of(nodes) >= served + 10


def test_monotonic_reads_never_step_back_when_replicas_alternate(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    behind(store, nodes)
    nodes.links[nodes.replicas[0]].resume()
    session, other = store.session(), store.session()
    seen, eventual = [], []
    for n in range(3, 43):
        put(store, 7, n)
        seen.append(read(7, "monotonic_read", session))
        eventual.append(read(7, "eventual", other))
    assert seen == sorted(seen)
    # the same replicas without a level: they did alternate
    assert eventual != sorted(eventual)


def test_monotonic_reads_never_see_a_replica_that_restarted_empty(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    session = store.session()
    assert read(7, "monotonic_read", session) == 1
    empty = nodes.replicas[0]
    nodes.links[empty].hold()
    empty.restart_empty()
    # not even eventual reads do, while another node hears its primary
    assert {read(7, "eventual") for _ in range(6)} == {1}
    assert {read(7, "monotonic_read", session) for _ in range(6)} == {1}
    assert {read(7, "session", session) for _ in range(6)} == {1}
    nodes.resume()
    nodes.wait_level()
    assert {read(7, "eventual") for _ in range(6)} == {1}


def test_a_session_of_nothing_yet_reads_any_node(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    behind(store, nodes)
    assert read(7, "monotonic_read", store.session()) in (1, 2)
    assert read(7, "session", store.session()) in (1, 2)


@pytest.mark.parametrize("level", ["session", "monotonic_read"])
def test_levels_of_sessions_need_one(store: hw.FeatureStore, level: str) -> None:
    with pytest.raises(hw.errors.SessionRequired):
        get(store, 7, level)


def test_a_write_tells_how_many_replicas_have_it(store: hw.FeatureStore, nodes: RedisReplicas) -> None:
    # busy replicas may take longer than the tests' stores wait
    short = store.context
    settings = replace(short.settings, durable_within=timedelta(seconds=20))
    patient = store.context = replace(short, settings=settings)
    assert put(store, 7, 1, durability=2).durable
    first, second = nodes.replicas
    nodes.links[first].hold()
    assert put(store, 7, 2, durability=1).durable
    store.context = short
    with at_most(2):
        report = put(store, 7, 3, durability=2)
    assert (report.applied, report.durable) == (1, False)
    assert "not durable" in repr(report)
    assert get(store, 7, "strong") == 3
    nodes.resume()
    store.context = patient
    assert put(store, 7, 4, durability=2).durable
    assert second.offset == first.offset


def test_propagation_is_told_replica_by_replica(store: hw.FeatureStore, nodes: RedisReplicas, project: Path) -> None:
    manager = hw.FeatureConsistencyManager(store)
    put(store, 7, 1)
    report = manager.ensure_write_propagation(timeout="5s")
    assert report.complete and len(report.replicas) == 2
    held = nodes.replicas[1]
    nodes.links[held].hold()
    put(store, 7, 2)
    (write, before) = manager.get_recent_writes()
    with at_most(2):
        report = manager.ensure_write_propagation(write, timeout="300ms")
    assert not report.complete and report.seconds >= 0.25
    late = {name: lag for name, lag in report.replicas.items() if lag}
    assert len(late) == 1 and str(held.port) in next(iter(late)) and next(iter(late.values())) > 0
    assert manager.ensure_write_propagation(before, timeout=0).complete
    nodes.resume()
    assert manager.ensure_write_propagation(write).complete
    wait_until(lambda: manager.ensure_write_propagation(timeout=0).complete, "the replicas to have it all")
    # a replica that is away is no replica that has it
    held.kill()
    put(store, 7, 3)
    report = manager.ensure_write_propagation(timeout="200ms")
    assert not report.complete
    with open_store(project, nodes.url) as fresh:
        assert hw.FeatureConsistencyManager(fresh).get_recent_writes() == []


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("replicated", [False, True])
def test_data_that_was_emptied_twice_in_a_moment_is_told(
    project: Path, nodes: RedisReplicas, way: str, replicated: bool
) -> None:
    """Nothing of the server's own tells of it: its process, replication id and offset go on."""
    url = nodes.url if replicated else f"redis://127.0.0.1:{nodes.primary.port}"
    with open_store(project, url) as store, reading(project, url, way) as read:
        for n in range(1, 9):
            session = store.session()
            put(store, 7, n, session=session)
            assert read(7, "session", session) == n
            early = hw.Session.from_token(session.token)
            nodes.primary.client.flushall()
            if n % 2:
                put(store, 8, n)
            # until then a replica has all that the session has seen, and may answer
            nodes.wait_level()
            for level in ("session", "monotonic_read"):
                with pytest.raises(hw.ConsistencyLost):
                    read(7, level, hw.Session.from_token(early.token))
