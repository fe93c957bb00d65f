"""Redis against the suite of online stores: alone, and as a cluster of three shards."""

from collections.abc import Iterator

import pytest
import redis

from headwater.online.stores.redis import RedisOnlineStore
from headwater.testing.online_suite import OnlineStoreSuite
from tests.servers.redis import RedisCluster, RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis") / "one") as server:
        yield server


class TestRedisOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def store(self, server):
        server.client.flushall()
        store = RedisOnlineStore(server.url)
        yield store
        store.close()

    @pytest.fixture(autouse=True)
    def _client(self, server):
        self.client = server.client

    def raw_get(self, store, key):
        return self.client.get(key)

    def raw_set(self, store, key, data):
        self.client.set(key, data)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("redis") / "cluster") as cluster:
        yield cluster


class TestRedisCluster(OnlineStoreSuite):
    @pytest.fixture
    def store(self, cluster):
        for node in cluster.shards:
            node.client.flushall()
        store = RedisOnlineStore(cluster.url)
        yield store
        store.close()

    @pytest.fixture(autouse=True)
    def _client(self, cluster):
        self.client = redis.RedisCluster(host="127.0.0.1", port=cluster.shards[0].port)
        yield
        self.client.close()

    def raw_get(self, store, key):
        return self.client.get(key)

    def raw_set(self, store, key, data):
        self.client.set(key, data)
