"""The levels on a cluster: a session's marks are of each shard that it has touched."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.online.stores.redis.async_reads import RedisReads
from headwater.online.stores.redis.errors import Moved
from headwater.online.stores.redis.slots import slot_of
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.online.stores.redis.url import parse_url
from tests.consistency.clients import bounded, get, get_elsewhere, make_project, open_store, put, reading
from tests.servers.redis import RedisCluster, RedisServer
from tests.servers.waiting import wait_until

LEVELS = ["eventual", "monotonic_read", "session", "strong"]
USERS = range(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three shards with a replica each, which the last test of the module breaks."""
    with RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster's one project: an online store belongs to one offline log."""
    return make_project(tmp_path_factory.mktemp("of_cluster") / "project")


def shown(node: RedisServer) -> str:
    """The map of a cluster that a node gives out."""
    return str(node.client.execute_command("CLUSTER", "SLOTS"))


def read_all(store: hw.FeatureStore, level: str, session: hw.Session | None) -> list[Any]:
    result = store.get_online_features(["score:n"], list(USERS), consistency=level, session=session)
    values: list[Any] = result.to_dict()["n"]
    return values


def test_every_level_over_all_shards(cluster: RedisCluster, project: Path, elsewhere: Callable[..., Any]) -> None:
    with open_store(project, cluster.url) as store, reading(project, cluster.url, "async") as read:
        session = store.session()
        for n in range(1, 6):
            assert put(store, USERS, n, session=session).applied == len(USERS)
            assert read_all(store, "session", session) == [n] * len(USERS)
            assert read_all(store, "strong", None) == [n] * len(USERS)
        for level in LEVELS:
            assert read_all(store, level, session) == [5] * len(USERS)
            assert read(7, level, session) == 5
        values, token = elsewhere(get_elsewhere, project, cluster.url, session.token, 7, "session", 3)
        assert values == [5] * 3
        session.merge(hw.Session.from_token(token))
        assert read_all(store, "session", session) == [5] * len(USERS)
        assert len(session.token) < 1_000


def test_a_node_that_was_read_as_a_replica_is_none_where_it_is_taken_for_a_primary(
    cluster: RedisCluster,
) -> None:
    """Else it would answer with what it has, for good, where it was a primary for a while and a map still says so."""
    key = b"some key"
    (node,) = cluster.replicas[cluster.shards.index(cluster.owner(slot_of(key)))]
    address, eventual = ("127.0.0.1", node.port), hw.ConsistencyLevel.EVENTUAL
    # a node is in nobody's map before the others have heard of it
    wait_until(lambda: all(str(node.port) in shown(other) for other in cluster.nodes), "the replica to be known")
    store = RedisOnlineStore(cluster.url)
    for _ in range(5):
        store.read([key], eventual, None)
    with pytest.raises(Moved):
        store._servers.node(address).run((("GET", key),))
    store.close()

    async def on_a_loop() -> None:
        reads = RedisReads(parse_url(cluster.url))
        for _ in range(5):
            await reads.read([key], eventual, None)
        answers = await reads._nodes[address, False].run((("GET", key),), each=True)
        assert all(isinstance(row, Moved) for row in answers)
        await reads.close()

    asyncio.run(on_a_loop())


def test_a_shard_that_fails_over_loses_no_session_that_its_replica_covers(cluster: RedisCluster, project: Path) -> None:
    with open_store(project, cluster.url) as store:
        session = store.session()
        put(store, USERS, 10, session=session)
        for shard, replicas in zip(cluster.shards, cluster.replicas, strict=True):
            replicas[0].wait_offset(shard.offset)
        cluster.hand_over(shard, replicas[0])
        assert bounded(lambda: read_all(store, "session", session)) == [10] * len(USERS)
        put(store, USERS, 11, session=session)
        assert read_all(store, "session", session) == [11] * len(USERS)


def test_a_shard_that_is_down_fails_reads_of_its_keys_alone(cluster: RedisCluster, project: Path) -> None:
    with open_store(project, cluster.url) as store:
        put(store, USERS, 20)
        before = {user: get(store, user, "strong") for user in USERS}
        assert set(before.values()) == {20}
        for node in cluster.replicas[0]:
            node.kill()
        cluster.shards[0].kill()
        found = [bounded(lambda user=user: get(store, user, "strong")) for user in list(USERS)[:12]]  # type: ignore[misc]
        assert all(value == 20 or isinstance(value, hw.errors.Unavailable) for value in found)
