"""Slots of a cluster that have moved, or are on their way: reads and writes follow them."""

import asyncio

import pytest

from headwater.online.stores.redis import RedisOnlineStore
from headwater.online.stores.redis_cluster import slot_of
from headwater.testing.online_rows import Order, key_of, order_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisCluster

SESSION = ConsistencyLevel.SESSION


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RedisCluster(tmp_path_factory.mktemp("redis") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def store(cluster):
    for node in cluster.shards:
        node.client.flushall()
    store = RedisOnlineStore(cluster.url)
    yield store
    store.close()


class Moving:
    """A slot on its way from its node to another one."""

    def __init__(self, cluster, slot):
        owner = next(
            start for start in cluster.shards[0].client.execute_command("CLUSTER", "SLOTS") if self._in(start, slot)
        )
        self.slot = slot
        self.source = next(node for node in cluster.shards if node.port == owner[2][1])
        self.target = next(node for node in cluster.shards if node is not self.source)
        self.cluster = cluster
        self._set(self.target, "IMPORTING", self._name(self.source))
        self._set(self.source, "MIGRATING", self._name(self.target))

    @staticmethod
    def _in(owned, slot):
        return owned[0] <= slot <= owned[1]

    @staticmethod
    def _name(node):
        return node.client.execute_command("CLUSTER", "MYID")

    def _set(self, node, *state):
        node.client.execute_command("CLUSTER", "SETSLOT", self.slot, *state)

    def carry(self, *keys):
        for key in keys:
            self.source.client.execute_command("MIGRATE", "127.0.0.1", self.target.port, key, 0, 5000)

    def arrive(self):
        for node in (self.target, self.source, *self.cluster.shards):
            self._set(node, "NODE", self._name(self.target))


def in_one_slot(key, count):
    """Keys that lie in the slot of another."""
    found, number = [], 0
    while len(found) < count:
        candidate = key + b"%d" % number
        if slot_of(candidate) == slot_of(key):
            found.append(candidate)
        number += 1
    return found


def read_async(store, keys):
    async def read():
        reads = store.asynchronous()
        try:
            return await reads.multi_get(keys)
        finally:
            await reads.close()

    return asyncio.run(read())


def test_rows_on_their_way_are_read_and_written_where_they_are(cluster, store):
    (gone, row), (stays, _), (elsewhere, _) = plain_row(1), plain_row(2), plain_row(3)
    gone, stays = in_one_slot(gone, 2)
    keys = [elsewhere, gone, stays, gone]
    store.put([(key, row) for key in keys[:3]])
    moving = Moving(cluster, slot_of(gone))
    moving.carry(gone)
    assert store.multi_get(keys) == read_async(store, keys) == [row] * 4
    assert store.read(keys, SESSION, {}).rows == [row] * 4
    newer = plain_row(1, Order(5))[1]
    assert store.put([(gone, newer), (stays, newer)]) == [True, True]
    assert [order_of(found) for found in store.multi_get([gone, stays])] == [Order(5)] * 2
    assert store.put([(gone, row)]) == [False]
    assert store.compare_and_put(gone, 2, newer) and not store.compare_and_put(gone, 7, newer)
    store.delete([gone])
    assert store.multi_get(keys) == [row, None, store.multi_get([stays])[0], None]
    moving.carry(stays)
    moving.arrive()


def test_new_rows_of_a_slot_on_its_way_are_put(cluster, store):
    keys = in_one_slot(key_of(40), 12)
    moving = Moving(cluster, slot_of(keys[0]))
    older, newer = plain_row(1, Order(1))[1], plain_row(1, Order(2))[1]
    # the same key twice: its rows are put in the order given
    rows = [(key, older) for key in keys] + [(keys[3], newer), (keys[3], older)]
    assert store.put(rows) == [True] * 13 + [False]
    assert [order_of(found).event for found in store.multi_get(keys)] == [2 if i == 3 else 1 for i in range(12)]
    moving.arrive()


@pytest.mark.parametrize("work", ["put", "compare", "delete", "read", "session"])
def test_a_slot_that_has_moved_is_found(cluster, store, work):
    key, row = plain_row(60)
    store.put([(key, row), *plain_rows([Order()] * 50)])
    moving = Moving(cluster, slot_of(key))
    moving.carry(key)
    moving.arrive()
    if work == "put":
        assert store.put([(key, row), *plain_rows([Order()] * 50)]) == [True] * 51
    elif work == "compare":
        assert store.compare_and_put(key, 1, row)
    elif work == "delete":
        store.delete([key])
        assert store.multi_get([key]) == [None]
    elif work == "read":
        assert store.multi_get([key]) == read_async(store, [key]) == [row]
    else:
        assert store.read([key], SESSION, {}).rows == [row]
