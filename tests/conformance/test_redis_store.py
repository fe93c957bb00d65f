"""Redis against the suite of online stores: alone, and as a cluster of three shards."""

from collections.abc import Iterator

import pytest
import redis

from headwater.testing.shared_suite import SharedOnlineStoreSuite
from tests.servers.redis import RedisCluster, RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis") / "one") as server:
        yield server


class TestRedisOnlineStore(SharedOnlineStoreSuite):
    @pytest.fixture
    def place(self, server, tmp_path):
        server.client.flushall()
        return server.url, tmp_path

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


class TestRedisCluster(SharedOnlineStoreSuite):
    @pytest.fixture
    def place(self, cluster, tmp_path):
        for node in cluster.shards:
            node.client.flushall()
        return cluster.url, tmp_path

    @pytest.fixture(autouse=True)
    def _client(self, cluster):
        self.client = redis.RedisCluster(host="127.0.0.1", port=cluster.shards[0].port)
        yield
        self.client.close()

    def raw_get(self, store, key):
        return self.client.get(key)

    def raw_set(self, store, key, data):
        self.client.set(key, data)
