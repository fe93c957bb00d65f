"""Slots of a cluster that have moved, or are on their way: every call follows them."""

import asyncio
import threading

import pytest

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.base import PutOutcome
from headwater.online.hints import Hint
from headwater.online.rows.codec import replaced, sequence_of
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.slots import slot_of
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.online_rows import PLAIN_ROWS, Order, key_of, order_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisCluster
from tests.servers.waiting import wait_until

SESSION = ConsistencyLevel.SESSION
SUPERSEDED, APPLIED = PutOutcome.SUPERSEDED, PutOutcome.APPLIED
MARK, LOG_ID, WATERMARK, TOKEN = (META_PREFIX + name for name in (b"g of", b"l of", b"w of", b"t of"))


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


def other(cluster, slot):
    """A primary that does not have a slot."""
    owner = cluster.owner(slot)
    return next(node for node in cluster.shards if node is not owner)


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


def hint(number, view="v"):
    return Hint(view, "1.0.0", b"%d" % number, 10, 100, 1_000)


def test_rows_on_their_way_are_read_and_written_where_they_are(cluster, store):
    (gone, row), (stays, _), (elsewhere, _) = plain_row(1), plain_row(2), plain_row(3)
    gone, stays = in_one_slot(gone, 2)
    keys = [elsewhere, gone, stays, gone]
    store.put([(key, row) for key in keys[:3]])
    slot, to = slot_of(gone), other(cluster, slot_of(gone))
    cluster.begin_move(slot, to)
    cluster.carry(to, gone)
    assert store.multi_get(keys) == read_async(store, keys) == [row] * 4
    assert store.read(keys, SESSION, {}).rows == [row] * 4
    newer = plain_row(1, Order(5))[1]
    assert store.put([(gone, newer), (stays, newer)], high_water=(MARK, 7)) == [APPLIED, APPLIED]
    assert [order_of(found) for found in store.multi_get([gone, stays])] == [Order(5)] * 2
    assert store.put([(gone, row)]) == [SUPERSEDED]
    after = replaced(newer, newer)
    changes = [(gone, sequence_of(newer), after), (stays, sequence_of(newer), None), (elsewhere, 7, None)]
    assert store.compare_and_put_all(changes, high_water=(MARK, 8)) == [True, True, False]
    assert store.multi_get([gone, stays, MARK]) == [after, None, (8).to_bytes(8, "big")]
    assert dict(store.scan(b"")) == {gone: after, elsewhere: row, MARK: (8).to_bytes(8, "big")}
    store.delete([gone])
    assert store.multi_get(keys) == [row, None, None, None]
    cluster.end_move(slot, to)


def test_new_rows_of_a_slot_on_its_way_are_put(cluster, store):
    keys = in_one_slot(key_of(40), 12)
    slot = slot_of(keys[0])
    to = other(cluster, slot)
    cluster.begin_move(slot, to)
    older, newer = plain_row(1, Order(1))[1], plain_row(1, Order(2))[1]
    # the same key twice: its rows are put in the order given
    rows = [(key, older) for key in keys] + [(keys[3], newer), (keys[3], older)]
    assert store.put(rows) == [APPLIED] * 13 + [SUPERSEDED]
    assert [order_of(found).event for found in store.multi_get(keys)] == [2 if i == 3 else 1 for i in range(12)]
    cluster.end_move(slot, to)


@pytest.mark.parametrize("work", ["put", "compare", "delete", "read", "session", "scan"])
def test_a_slot_that_has_moved_is_found(cluster, store, work):
    key, row = plain_row(60)
    store.put([(key, row), *plain_rows([Order()] * 50)])
    cluster.move([slot_of(key)], other(cluster, slot_of(key)))
    if work == "put":
        assert store.put([(key, row), *plain_rows([Order()] * 50)]) == [APPLIED] * 51
    elif work == "compare":
        assert store.compare_and_put(key, sequence_of(row), row)
    elif work == "delete":
        store.delete([key])
        assert store.multi_get([key]) == [None]
    elif work == "read":
        assert store.multi_get([key]) == read_async(store, [key]) == [row]
    elif work == "scan":
        assert len(dict(store.scan(PLAIN_ROWS.prefix))) == 51
    else:
        assert store.read([key], SESSION, {}).rows == [row]


def use(store, queue, number):
    """Every call of a store that writes, or asks all shards."""
    rows = plain_rows([Order(number)] * 300)
    assert store.put(rows, high_water=(MARK, number)) == [APPLIED] * 300
    assert store.multi_get([MARK, LOG_ID]) == [number.to_bytes(8, "big"), b"the log's"]
    key, row = plain_row(7, Order(number, number))
    (stored,) = store.multi_get([key])
    assert store.compare_and_put(key, sequence_of(stored), row)
    assert not store.compare_and_put(key, sequence_of(stored), row)
    gone, kept = key_of(1_000 + number), key_of(2_000 + number)
    store.put([(gone, row), (kept, row)])
    store.delete([gone])
    assert store.multi_get([gone, kept]) == [None, row]
    assert len(dict(store.scan(PLAIN_ROWS.prefix))) == 300 + number
    # the queue's keys count too
    assert 300 + number <= store.info()["entries"] < 310 + number
    assert store.marks() and set(store.lag(store.marks()).values()) <= {0, -1} and store.wait(0, 0.1) >= 0
    assert store.read([key, kept], SESSION, store.marks()).rows == [row, row]
    assert store.put_meta({LOG_ID: b"the log's"}, expected={LOG_ID: b"the log's"})
    epoch = store.epoch(TOKEN)
    assert store.put_meta({WATERMARK: b"\2%d" % number}, epoch=(TOKEN, epoch), high_water=(MARK, number))
    assert store.multi_get([WATERMARK]) == [b"\2%d" % number]
    queue.offer([hint(number)], 20)
    (claim,) = queue.claim(["v"], 10, 30, 600_000_000)
    assert claim.hint.key == b"%d" % number


def test_every_call_follows_whatever_is_moved(tmp_path):
    with RedisCluster(tmp_path / "cluster") as cluster:
        store = RedisOnlineStore(cluster.url)
        queue = store.hint_queue("q", 100)
        assert store.put_meta({LOG_ID: b"the log's"}, expected={LOG_ID: None})
        a, b, c = cluster.shards
        use(store, queue, 1)
        cluster.move(cluster.slots(a)[:1], b)
        use(store, queue, 2)
        cluster.move(cluster.slots(b)[1:4], c)
        use(store, queue, 3)
        cluster.move(cluster.slots(a)[-300:], c)
        use(store, queue, 4)
        d = cluster.add()
        use(store, queue, 5)
        # three slots, none of which is one of those in which entries are kept
        cluster.move(cluster.slots(a)[:3], d)
        use(store, queue, 6)
        cluster.move_all(a, d)
        use(store, queue, 7)
        cluster.remove(a)
        use(store, queue, 8)
        cluster.move_all(d, b)
        use(store, queue, 9)
        store.close()


def test_clients_go_on_while_slots_are_moved(cluster, store):
    done, counts, problems = threading.Event(), [0] * 6, []

    def work(number):
        own = RedisOnlineStore(cluster.url)
        try:
            while not done.is_set():
                counts[number] += 1
                rows = plain_rows([Order(counts[number])] * 40, start=100 * number)
                assert own.put(rows, high_water=(MARK, counts[number])) == [APPLIED] * 40
                assert own.multi_get([key for key, _ in rows]) == [row for _, row in rows]
                if number % 2:
                    assert len(dict(own.scan(PLAIN_ROWS.prefix))) >= 40
                else:
                    key, row = rows[3]
                    assert own.compare_and_put(key, sequence_of(row), replaced(row, row))
        except BaseException as bad:
            problems.append(bad)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    slots = sorted({slot_of(key_of(100 * number + i)) for number in range(6) for i in range(0, 40, 4)})
    for slot in slots:
        cluster.move([slot], other(cluster, slot))
    done.set()
    for thread in threads:
        thread.join(60)
    assert problems == [] and min(counts) > 0
    assert store.multi_get([MARK]) == [max(counts).to_bytes(8, "big")]
    found = store.multi_get([key_of(100 * number) for number in range(6)])
    assert [order_of(row).event for row in found] == counts


def test_a_scan_beside_moves_misses_no_row(cluster, store):
    rows = dict(plain_rows([Order(1)] * 2_000))
    store.put(rows.items())
    slots = sorted({slot_of(key) for key in rows})[::7]
    seen = {}
    for i, (key, row) in enumerate(store.scan(PLAIN_ROWS.prefix)):
        seen[key] = row
        if i % 10 == 0 and slots:
            slot = slots.pop()
            # to the shard that was scanned first
            cluster.move(
                [slot], cluster.shards[0] if cluster.owner(slot) is not cluster.shards[0] else other(cluster, slot)
            )
    assert seen == rows


def test_the_queue_waits_for_its_slot_to_arrive(cluster, store):
    queue = store.hint_queue("moved", 100)
    queue.offer([hint(1), hint(2)], 20)
    slot = slot_of(queue._keys[0])
    to = other(cluster, slot)
    cluster.begin_move(slot, to)
    with pytest.raises(Unavailable):
        queue.offer([hint(3)], 20)
    mover = threading.Timer(0.3, cluster.end_move, (slot, to))
    mover.start()
    queue.offer([hint(4)], 20)
    mover.join()
    assert {claim.hint.key for claim in queue.claim(["v"], 10, 30, 1_000_000)} == {b"1", b"2", b"4"}


def test_a_session_goes_on_after_slots_have_moved_and_is_told_of_a_loss(tmp_path):
    with RedisCluster(tmp_path / "cluster") as cluster:
        store = RedisOnlineStore(cluster.url)
        rows = plain_rows([Order(1)] * 60)
        keys = [key for key, _ in rows]
        store.put(rows)
        marks = store.read(keys, SESSION, store.marks()).marks
        a, b, c = cluster.shards
        cluster.move(cluster.slots(a)[:2], b)
        cluster.move(cluster.slots(b)[2:4], c)
        assert store.read(keys, SESSION, marks).rows == [row for _, row in rows]
        assert set(store.lag(marks).values()) == set()
        marks = store.read(keys, SESSION, marks).marks
        cluster.move_all(a, c)
        wait_until(lambda: a.told("replication")["role"] == "slave", "a shard without slots to follow another")
        # the history of a shard that is gone is known to nobody any more: who has seen it is told, once
        with pytest.raises(ConsistencyLost) as lost:
            store.read(keys, SESSION, marks)
        assert store.read(keys, SESSION, lost.value.marks).rows == [row for _, row in rows]
        marks = store.read(keys, SESSION, lost.value.marks).marks
        b.restart()
        wait_until(lambda: "cluster_state:ok" in str(b.client.execute_command("CLUSTER", "INFO")), "it to be back")
        with pytest.raises(ConsistencyLost):
            store.read(keys, SESSION, marks)
        store.close()


def test_a_shard_that_failed_over_is_found_again_by_writes(tmp_path):
    with RedisCluster(tmp_path / "cluster", replicas=1) as cluster:
        # of the nodes that the URL names none is left
        store = RedisOnlineStore(f"redis+cluster://127.0.0.1:{cluster.shards[0].port}?timeout=1s")
        rows = plain_rows([Order(1)] * 60)
        store.put(rows)
        for shard, (replica,) in zip(cluster.shards, cluster.replicas, strict=True):
            replica.wait_offset(shard.offset)
        dead, (heir,) = cluster.shards[0], cluster.replicas[0]
        dead.kill()
        wait_until(lambda: heir.told("replication")["role"] == "master", "the replica to take over")

        def put():
            try:
                return store.put(plain_rows([Order(2)] * 60)) == [APPLIED] * 60
            except Unavailable:
                return False

        wait_until(put, "writes to find the new primary")
        assert [order_of(row) for row in store.multi_get([key for key, _ in rows])] == [Order(2)] * 60
        store.close()
