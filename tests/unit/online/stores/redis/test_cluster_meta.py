"""Entries beside rows on a cluster: each shard speaks for its own slots, and none for what was moved or lost."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headwater.errors import Unavailable
from headwater.online.base import PutOutcome
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.cluster_entries import _FRAME
from headwater.online.stores.redis.slots import meta_hash, slot_of, tag_of
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.online_rows import Order, key_of, plain_row, plain_rows
from tests.servers.redis import RedisCluster
from tests.servers.waiting import wait_until

APPLIED = PutOutcome.APPLIED
WATERMARK, LOG_ID, TOKEN, MARK = (META_PREFIX + name for name in (b"w of", b"l of", b"t of", b"g of"))
PURGE = META_PREFIX + b"p of it"
ROWS = plain_rows([Order(1)] * 300)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with RedisCluster(tmp_path_factory.mktemp("redis") / "cluster") as cluster:
        yield cluster


@pytest.fixture
def store(cluster):
    cluster.wait_agreed()
    for node in cluster.shards:
        node.client.flushall()
    store = RedisOnlineStore(cluster.url)
    yield store
    store.close()


@pytest.fixture
def breakable(tmp_path):
    """A cluster with replicas, which a test may break, and a store on it."""
    with RedisCluster(tmp_path / "cluster", replicas=1) as cluster:
        store = RedisOnlineStore(cluster.url + "?timeout=1s")
        yield cluster, store
        store.close()


def number(mark):
    return mark.to_bytes(8, "big")


def other(cluster, slot):
    owner = cluster.owner(slot)
    return next(node for node in cluster.shards if node is not owner)


def run(store, between=lambda: None, watermark=b"\2 new"):
    """A run of two puts; whether its watermark was written."""
    epoch = store.epoch(TOKEN)
    assert store.put(ROWS[:150]) == [APPLIED] * 150
    between()
    assert store.put(ROWS[150:]) == [APPLIED] * 150
    return store.put_meta({WATERMARK: watermark}, epoch=(TOKEN, epoch))


def watermark(store):
    return store.multi_get([WATERMARK])[0]


def test_a_run_speaks_for_every_slot(store):
    assert watermark(store) is None
    assert run(store)
    assert watermark(store) == b"\2 new"
    assert store.put_meta({WATERMARK: b"\2 newer"}, expected={WATERMARK: b"\2 new"})
    assert not store.put_meta({WATERMARK: b"\2 other"}, expected={WATERMARK: b"\2 new"})
    assert dict(store.scan(META_PREFIX)) == {WATERMARK: b"\2 newer", TOKEN: store.multi_get([TOKEN])[0]}
    assert store.put_meta({WATERMARK: None}) and watermark(store) is None


@pytest.mark.parametrize("count", [1, 2, 700])
@pytest.mark.parametrize("last", [False, True])
def test_slots_that_move_during_a_run_are_left_out_and_alone_repeat_none(cluster, store, count, last):
    assert run(store, watermark=b"\1 old")
    a = cluster.shards[0]
    slots = cluster.slots(a)[-count:] if last else cluster.slots(a)[:count]
    assert run(store, lambda: cluster.move(slots, cluster.shards[1]))
    assert watermark(store) is None
    # the next run finds no watermark, and fills again
    assert run(store) and watermark(store) == b"\2 new"
    cluster.move(slots, a)
    assert watermark(store) is None
    assert run(store) and watermark(store) == b"\2 new"


def test_a_slot_on_its_way_is_spoken_for_by_none(cluster, store):
    assert run(store)
    for slot in (cluster.slots(cluster.shards[1])[40], cluster.slots(cluster.shards[1])[0], 5_632):
        to = other(cluster, slot)
        cluster.begin_move(slot, to)
        assert watermark(store) is None
        assert run(store)
        assert watermark(store) is None
        cluster.end_move(slot, to)
        assert run(store) and watermark(store) == b"\2 new"


def test_a_slot_that_was_away_and_came_back_is_not_spoken_for(cluster, store):
    """What the shard has that it was on meanwhile may have been lost."""
    assert run(store)
    key = ROWS[0][0]
    slot = slot_of(key)
    home, away = cluster.owner(slot), other(cluster, slot)
    cluster.move([slot], away)
    away.client.delete(key)
    cluster.move([slot], home)
    assert watermark(store) is None

    def there_and_back():
        cluster.move([slot], away)
        cluster.move([slot], home)

    assert run(store)
    assert watermark(store) == b"\2 new"
    assert run(store, there_and_back)
    assert watermark(store) is None


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_shard_that_is_flushed_refuses_the_watermark(cluster, store, shard):
    assert run(store, watermark=b"\1 old")
    assert not run(store, cluster.shards[shard].client.flushall)
    assert watermark(store) is None
    # others have put a new token meanwhile: it is another
    assert not run(store, lambda: (cluster.shards[shard].client.flushall(), store.epoch(TOKEN)))
    assert run(store) and watermark(store) == b"\2 new"
    cluster.shards[shard].client.flushall()
    assert watermark(store) is None


def test_a_shard_that_restarts_empty_refuses_the_watermark(breakable):
    cluster, store = breakable

    def restart():
        for replica in cluster.replicas[1]:
            replica.kill()
        cluster.shards[1].restart_empty()
        wait_until(lambda: _writes(store), "the shard to be back")

    assert run(store)
    assert not run(store, restart)
    assert watermark(store) is None
    assert run(store) and watermark(store) == b"\2 new"


def test_a_shard_that_fails_over_refuses_the_watermark(breakable):
    cluster, store = breakable
    assert run(store)
    primary, heir = cluster.shards[2], cluster.replicas[2][0]
    if heir.told("replication")["role"] == "master":
        # a host that stood still for two seconds has made it one
        primary, heir = heir, primary

    def fail_over():
        cluster.hand_over(primary, heir)
        wait_until(lambda: _writes(store), "the new primary to be found")

    assert not run(store, fail_over, watermark=b"\2 newer")
    # of before: nothing was lost
    assert watermark(store) == b"\2 new"
    assert run(store, watermark=b"\2 newer") and watermark(store) == b"\2 newer"


def _writes(store):
    try:
        return store.put(plain_rows([Order(1)] * 60, start=900)) == [APPLIED] * 60
    except Unavailable:
        return False


def test_a_shard_that_joins_or_leaves_during_a_run(tmp_path):
    with RedisCluster(tmp_path / "cluster") as cluster:
        store = RedisOnlineStore(cluster.url)
        added = []

        def join():
            added.append(cluster.add())
            # else it follows another shard as soon as it has no slots any more, which changes that one's replication id
            added[0].client.config_set("cluster-allow-replica-migration", "no")
            cluster.move(cluster.slots(cluster.shards[0])[:300], added[0])

        assert run(store, join)
        assert watermark(store) is None
        assert run(store) and watermark(store) == b"\2 new"

        def leave():
            cluster.move_all(added[0], cluster.shards[1])
            cluster.remove(added[0])

        assert run(store, leave)
        assert watermark(store) is None
        assert run(store) and watermark(store) == b"\2 new"
        store.close()


def test_what_is_of_the_whole_store_outlives_moves_and_the_loss_of_a_shard(cluster, store):
    assert store.put_meta({LOG_ID: b"log one", PURGE: b"gone"}, expected={LOG_ID: None, PURGE: None})
    store.put(ROWS, high_water=(MARK, 300))
    wanted = [b"log one", b"gone", number(300)]
    for slots in (cluster.slots(cluster.shards[1])[:600], cluster.slots(cluster.shards[2])[:1]):
        cluster.move(slots, cluster.shards[0])
        assert store.multi_get([LOG_ID, PURGE, MARK]) == wanted
        assert not store.put_meta({LOG_ID: b"log two"}, expected={LOG_ID: None})
    cluster.shards[0].client.flushall()
    assert store.multi_get([LOG_ID, PURGE, MARK]) == wanted
    # what took its place is on every shard, and nothing of before is left in slots that have moved
    assert store.put_meta({LOG_ID: b"a log", PURGE: None}, expected={LOG_ID: b"log one"}, high_water=(MARK, 299))
    assert store.multi_get([LOG_ID, PURGE, MARK]) == [b"a log", None, number(300)]
    fresh = RedisOnlineStore(cluster.url)
    assert dict(fresh.scan(META_PREFIX)) == {LOG_ID: b"a log", MARK: number(300)}
    store.delete([LOG_ID, MARK])
    assert dict(fresh.scan(b"")) == dict(fresh.scan(ROWS[0][0][:8]))
    fresh.close()


def test_the_greatest_position_is_known_whatever_becomes_of_the_shard_that_was_written_to(tmp_path):
    with RedisCluster(tmp_path / "cluster") as cluster:
        store = RedisOnlineStore(cluster.url)
        a = cluster.shards[0]
        d = cluster.add()
        small = [slot for slot in cluster.slots(a) if slot % 256 in (7, 8)][:2]
        cluster.move(small, d)
        # a shard that has none of the slots in which entries are kept
        keys = [tag_of(slot) + b"row" for slot in small]
        assert store.put([(key, plain_row(1)[1]) for key in keys], high_water=(MARK, 41)) == [APPLIED] * 2
        cluster.move_all(d, a)
        assert store.multi_get([MARK]) == [number(41)]
        slot = slot_of(key_of(5))
        for mark in range(42, 60):
            cluster.move([cluster.slots(cluster.owner(slot))[0]], other(cluster, slot))
            store.put([plain_row(5, Order(mark))], high_water=(MARK, mark))
            assert RedisOnlineStore(cluster.url).multi_get([MARK]) == [number(mark)]
        assert store.put([], high_water=(MARK, 99)) == [] and store.multi_get([MARK]) == [number(99)]
        store.close()


def test_of_watermarks_that_differ_the_lesser_counts_and_of_others_none(cluster, store):
    """As where the writer is killed between the shards."""
    fill = META_PREFIX + b"e of"
    for key, expected in ((WATERMARK, b"\2 1"), (fill, None)):
        assert store.put_meta({key: b"\2 2"}) and store.multi_get([key]) == [b"\2 2"]
        (first, *_) = (node for node in cluster.shards if node is cluster.owner(256))
        name = next(meta_hash(slot) for slot in range(0, 16_384, 256) if first.client.exists(meta_hash(slot)))
        framed = first.client.hget(name, key)
        assert framed.startswith(_FRAME)
        first.client.hset(name, key, framed.replace(b"\2 2", b"\2 1"))
        assert store.multi_get([key]) == [expected]
        # and the next one puts all right
        assert store.put_meta({key: b"\2 3"}, expected={key: expected})
        assert store.multi_get([key]) == [b"\2 3"]


def test_one_of_two_who_claim_a_cluster_gets_it(cluster, store):
    stores = [RedisOnlineStore(cluster.url) for _ in range(4)]
    for turn in range(10):
        store.delete([LOG_ID])
        with ThreadPoolExecutor(4) as pool:
            logs = [b"log %d" % i for i in range(4)]
            won = list(pool.map(lambda own, log: own.put_meta({LOG_ID: log}, expected={LOG_ID: None}), stores, logs))
        assert sum(won) == 1, turn
        assert store.multi_get([LOG_ID]) == [logs[won.index(True)]]
    for each in stores:
        each.close()


def test_entries_of_an_earlier_release_are_read_and_replaced(cluster, store):
    firsts = [tag_of(shard.first) for shard in store._redis._calls.refreshed()]
    client = {tag: cluster.owner(slot_of(tag)).client for tag in firsts}
    for tag in firsts:
        client[tag].set(tag + WATERMARK, b"\x96 old")
        client[tag].set(tag + LOG_ID, b"\x93 log")
    assert store.multi_get([WATERMARK, LOG_ID]) == [b"\x96 old", b"\x93 log"]
    assert not store.put_meta({LOG_ID: b"other"}, expected={LOG_ID: None})
    client[firsts[1]].delete(firsts[1] + WATERMARK)
    assert watermark(store) is None
    assert run(store)
    assert watermark(store) == b"\2 new"
    assert not any(client[tag].exists(tag + WATERMARK) for tag in firsts)
    assert dict(store.scan(ROWS[0][0][:8])) == dict(ROWS)
