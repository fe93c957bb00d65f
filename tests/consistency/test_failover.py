"""Primaries that die, restart, lose data or get their first replica: sessions go on, or are told that they are lost."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import headwater as hw
from headwater.online.powers import Replicated
from tests.consistency.clients import Get, bounded, get, open_store, put, reading
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisReplicas, RedisSentinel, RedisServer
from tests.servers.waiting import wait_until

LEVELS = ["session", "monotonic_read"]


def die(nodes: RedisReplicas) -> None:
    """Kill the primary, and make the first replica the new one."""
    nodes.primary.kill()
    nodes.fail_over(nodes.replicas[0])


@pytest.mark.parametrize("level", LEVELS)
def test_after_a_failover_that_lost_nothing_a_session_goes_on(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get, level: str
) -> None:
    session = store.session()
    put(store, 7, 1, session=session)
    nodes.wait_level()
    assert read(7, level, session) == 1
    die(nodes)
    assert [read(7, level, session) for _ in range(4)] == [1] * 4
    put(store, 7, 2, session=session)
    assert [read(7, "session", session) for _ in range(4)] == [2] * 4
    assert read(7, "strong") == 2


@pytest.mark.parametrize("level", ["eventual", "strong", *LEVELS])
def test_a_session_that_has_seen_nothing_has_nothing_to_lose(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get, level: str
) -> None:
    session = store.session()
    assert read(7, level, session) is None
    nodes.primary.restart_empty()
    wait_until(lambda: bounded(lambda: read(7, "strong")) is None, "the primary to answer")
    assert [read(7, "session", session) for _ in range(4)] == [None] * 4
    put(store, 7, 2, session=session)
    assert read(7, "session", session) == 2


@pytest.mark.parametrize("level", LEVELS)
def test_after_a_failover_that_lost_its_write_a_session_is_told(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get, level: str
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    session = store.session()
    put(store, 7, 2, session=session)
    assert read(7, level, session) == 2
    die(nodes)
    for _ in range(3):
        with pytest.raises(hw.errors.ConsistencyLost) as lost:
            read(7, level, session)
    fresh = lost.value.session
    assert [read(7, level, fresh) for _ in range(4)] == [1] * 4
    put(store, 7, 3, session=fresh)
    assert read(7, "session", fresh) == 3


def test_a_lost_session_stays_lost_when_the_new_primary_has_written_more(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    session = store.session()
    put(store, 7, 2, session=session)
    die(nodes)
    for user in range(100, 200):  # its offset is soon beyond the session's
        put(store, user, 1)
    with pytest.raises(hw.errors.ConsistencyLost):
        read(7, "session", session)


def test_a_lost_session_stays_lost_when_it_goes_on_to_write(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    session = store.session()
    put(store, 7, 2, session=session)
    die(nodes)
    put(store, 8, 1, session=session)
    for level in LEVELS:
        with pytest.raises(hw.errors.ConsistencyLost):
            read(7, level, session)


def test_a_lost_session_stays_lost_when_it_reads_by_other_levels(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    session = store.session()
    put(store, 7, 2, session=session)
    die(nodes)
    assert (read(7, "strong", session), read(7, "eventual", session)) == (1, 1)
    for level in LEVELS:
        with pytest.raises(hw.errors.ConsistencyLost):
            read(7, level, session)


def test_a_session_stays_small_however_much_it_writes(store: hw.FeatureStore, nodes: RedisReplicas) -> None:
    session = store.session()
    for n in range(1, 50):
        put(store, 7, n, session=session)
    assert len(session.token) < 400


def test_a_session_that_saw_only_what_every_node_had_survives_the_loss_of_others_writes(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    session = store.session()
    assert read(7, "eventual", session) == 1
    put(store, 7, 2)
    die(nodes)
    assert [read(7, "monotonic_read", session) for _ in range(4)] == [1] * 4


def test_the_old_primary_that_comes_back_serves_nobody_from_its_past(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get, tmp_path: Path
) -> None:
    old = nodes.primary
    put(store, 7, 1)
    nodes.wait_level()
    old.pause()
    nodes.fail_over(nodes.replicas[0])
    session = store.session()
    # the store finds the new primary although the old one, silent, is named first
    wait_until(lambda: bounded(lambda: put(store, 7, 2, session=session).applied) == 1, "a write on the new primary")
    old.unpause()
    old.follow(nodes.primary.port)
    assert [read(7, "session", session) for _ in range(6)] == [2] * 6
    assert [read(7, "strong") for _ in range(6)] == [2] * 6


def test_a_durable_write_survives_a_failover_to_any_replica(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    session = store.session()
    # busy replicas may take longer than the tests' stores wait
    settings = replace(store.context.settings, durable_within=timedelta(seconds=20))
    store.context = replace(store.context, settings=settings)
    assert put(store, 7, 1, durability=2, session=session).durable
    nodes.primary.kill()
    nodes.fail_over(nodes.replicas[1])
    assert read(7, "strong") == 1
    assert read(7, "session", session) == 1


def test_a_primary_that_takes_over_between_a_write_and_its_acknowledgement_acknowledges_nothing(
    store: hw.FeatureStore, nodes: RedisReplicas
) -> None:
    online = store.context.online
    assert isinstance(online, Replicated)
    put(store, 7, 1)
    nodes.wait_level()
    nodes.hold()
    put(store, 7, 2)
    die(nodes)
    # another thread finds the new primary, which has another replica; this one has only just written
    with ThreadPoolExecutor(1) as other:
        assert other.submit(get, store, 7, "strong").result() == 1
        assert other.submit(online.wait, 1, 2.0).result() == 1
    assert online.wait(1, 0.5) == 0
    with pytest.raises(hw.errors.Unavailable, match="the write was lost"):
        online.marks()
    put(store, 7, 3)
    assert online.marks() and online.wait(1, 2.0) == 1


@contextmanager
def alone(folder: Path, project: Path, persistence: str) -> Iterator[tuple[RedisServer, hw.FeatureStore]]:
    """One server, and a store on it."""
    with RedisServer(folder, persistence) as server, open_store(project, server.url) as store:
        yield server, store


def end_plainly(server: RedisServer) -> None:
    server.restart()


def end_by_force(server: RedisServer) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize(
    ("persistence", "restart"), [("rdb", end_plainly), ("aof", end_plainly), ("aof", end_by_force)]
)
@pytest.mark.parametrize("replicas", [0, 1])
def test_a_restart_of_the_primary_loses_no_session_whose_data_is_there(
    tmp_path: Path, project: Path, persistence: str, restart: Callable[[RedisServer], None], replicas: int
) -> None:
    with RedisReplicas(tmp_path / "redis", persistence, replicas) as nodes, open_store(project, nodes.url) as store:
        session = store.session()
        put(store, 7, 1, session=session)
        nodes.wait_level()
        assert get(store, 7, "session", session) == 1
        restart(nodes.primary)
        assert [get(store, 7, level, session) for level in LEVELS for _ in range(4)] == [1] * 8
        put(store, 7, 2, session=session)
        assert [get(store, 7, level, session) for level in LEVELS for _ in range(4)] == [2] * 8


@pytest.mark.parametrize("persistence", ["none", "rdb"])
def test_a_restart_that_loses_data_loses_the_session(tmp_path: Path, project: Path, persistence: str) -> None:
    with alone(tmp_path / "redis", project, persistence) as (server, store):
        put(store, 7, 1)
        if persistence == "rdb":
            server.client.save()
        session = store.session()
        put(store, 7, 2, session=session)
        end_by_force(server)
        for level in LEVELS:
            with pytest.raises(hw.errors.ConsistencyLost) as lost:
                get(store, 7, level, session)
            assert get(store, 7, level, lost.value.session) == (1 if persistence == "rdb" else None)


def test_a_copy_of_last_week_loses_the_session(tmp_path: Path, project: Path) -> None:
    with alone(tmp_path / "redis", project, "aof") as (server, store):
        session = store.session()
        put(store, 7, 1, session=session)
        server.stop()
        shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
        server.start()
        assert get(store, 7, "session", session) == 1
        put(store, 7, 2, session=session)
        server.stop()
        server.empty()
        shutil.copytree(tmp_path / "copy", server.folder / "appendonlydir")
        server.start()
        with pytest.raises(hw.errors.ConsistencyLost) as lost:
            get(store, 7, "session", session)
        assert get(store, 7, "session", lost.value.session) == 1


def test_the_first_replica_that_joins_loses_no_session(tmp_path: Path, project: Path) -> None:
    with alone(tmp_path / "redis", project, "none") as (server, store):
        session = store.session()
        put(store, 7, 1, session=session)
        before = server.told("replication")["master_replid"]
        with Proxy(server.port) as link, RedisServer(tmp_path / "replica", follows=link.port) as replica:
            replica.wait_linked()
            assert server.told("replication")["master_replid"] != before, "the case is not the one meant"
            assert get(store, 7, "session", session) == 1
            with open_store(project, f"{server.url}?replicas=127.0.0.1:{replica.port}") as both:
                assert [get(both, 7, level, session) for level in LEVELS for _ in range(4)] == [1] * 8
                link.hold()
                put(both, 7, 2, session=session)
                assert [get(both, 7, level, session) for level in LEVELS for _ in range(4)] == [2] * 8


def test_while_the_primary_is_down_replicas_serve_what_they_cover(
    store: hw.FeatureStore, nodes: RedisReplicas, read: Get
) -> None:
    covered, ahead = store.session(), store.session()
    put(store, 7, 1, session=covered)
    nodes.wait_level()
    nodes.hold()
    put(store, 7, 2, session=ahead)
    nodes.primary.kill()
    assert [read(7, "eventual") for _ in range(4)] == [1] * 4
    assert [read(7, level, covered) for level in LEVELS for _ in range(4)] == [1] * 8
    for refused in (
        lambda: read(7, "strong"),
        lambda: read(7, "session", ahead),
        lambda: read(7, "monotonic_read", ahead),
        lambda: put(store, 7, 3),
        lambda: put(store, 7, 3, to="both"),
        lambda: store.delete("score", [7]),
    ):
        assert isinstance(bounded(refused), hw.errors.Unavailable)


def test_a_primary_that_is_silent_is_down_too(store: hw.FeatureStore, nodes: RedisReplicas, read: Get) -> None:
    covered = store.session()
    put(store, 7, 1, session=covered)
    nodes.wait_level()
    nodes.primary.pause()
    assert [bounded(lambda: read(7, "eventual")) for _ in range(4)] == [1] * 4
    assert [bounded(lambda level=level: read(7, level, covered)) for level in LEVELS] == [1] * 2  # type: ignore[misc]
    assert isinstance(bounded(lambda: read(7, "strong")), hw.errors.Unavailable)
    assert isinstance(bounded(lambda: put(store, 7, 2)), hw.errors.Unavailable)
    nodes.primary.unpause()
    wait_until(lambda: bounded(lambda: read(7, "strong")) in (1, 2), "the primary to be found again")


def test_sentinel_s_new_primary_is_found_and_sessions_go_on(tmp_path: Path, project: Path) -> None:
    with (
        RedisSentinel(tmp_path / "redis") as watched,
        reading(project, watched.url, "async") as read,
        open_store(project, watched.url) as store,
    ):
        session = store.session()
        put(store, 7, 1, session=session)
        for replica in watched.nodes[1:]:
            replica.wait_offset(watched.nodes[0].offset)
        assert [get(store, 7, level, session) for level in LEVELS for _ in range(3)] == [1] * 6
        old = watched.primary
        old.kill()
        assert [get(store, 7, "eventual") for _ in range(3)] == [1] * 3
        assert bounded(lambda: get(store, 7, "session", session)) == 1
        wait_until(lambda: watched.primary is not old, "Sentinel to promote a replica")
        wait_until(lambda: bounded(lambda: get(store, 7, "strong")) == 1, "the new primary to be found")
        put(store, 7, 2, session=session)
        assert [get(store, 7, level, session) for level in LEVELS for _ in range(3)] == [2] * 6
        assert [read(7, level, session) for level in LEVELS for _ in range(3)] == [2] * 6
