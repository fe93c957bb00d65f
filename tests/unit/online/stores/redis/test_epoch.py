"""A watermark is written only where the store has all that was put in its epoch: restarts, flushes, failovers."""

import shutil
from functools import partial

import pytest

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.base import PutOutcome
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.online_rows import Order, plain_rows
from tests.servers.redis import RedisReplicas, RedisSentinel, RedisServer
from tests.servers.waiting import wait_until

APPLIED = PutOutcome.APPLIED
WATERMARK, TOKEN, MARK = META_PREFIX + b"w of", META_PREFIX + b"t of", META_PREFIX + b"g of"
FIRST, SECOND = plain_rows([Order(1)] * 200), plain_rows([Order(1)] * 200, start=200)


def run(store, between):
    """A run of two puts; whether its watermark was written."""
    epoch = store.epoch(TOKEN)
    store.put(FIRST, high_water=(MARK, 5))
    between()
    assert store.put(SECOND, high_water=(MARK, 5)) == [APPLIED] * 200
    return store.put_meta({WATERMARK: b"\2"}, expected={WATERMARK: None}, epoch=(TOKEN, epoch), high_water=(MARK, 6))


def check_run_again(store):
    """Nothing of a run that was refused stays, and the next one is complete."""
    assert store.multi_get([WATERMARK]) == [None]
    assert store.multi_get([MARK])[0] in (None, (5).to_bytes(8, "big"))
    assert run(store, lambda: None)
    assert store.multi_get([WATERMARK, MARK]) == [b"\2", (6).to_bytes(8, "big")]
    assert all(row is not None for row in store.multi_get([key for key, _ in FIRST + SECOND]))


def test_a_restart_without_persistence_refuses_the_watermark(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        store = RedisOnlineStore(server.url)
        assert not run(store, server.restart)
        check_run_again(store)
        store.close()


def test_a_flush_refuses_the_watermark(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        store = RedisOnlineStore(server.url)
        assert not run(store, server.client.flushall)
        check_run_again(store)
        # also where another run has put a new token meanwhile
        store.delete([WATERMARK])
        assert not run(store, lambda: (server.client.flushall(), store.epoch(TOKEN)))
        check_run_again(store)
        store.close()


def test_a_copy_that_was_put_back_refuses_the_watermark(tmp_path):
    with RedisServer(tmp_path / "redis", "aof") as server:
        store = RedisOnlineStore(server.url)
        store.epoch(TOKEN)
        server.stop()
        shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
        server.start()

        def put_back():
            server.stop()
            server.empty()
            shutil.copytree(tmp_path / "copy", server.folder / "appendonlydir")
            server.start()

        assert not run(store, put_back)
        check_run_again(store)
        store.close()


@pytest.mark.parametrize("held", [True, False])
def test_a_failover_refuses_the_watermark(tmp_path, held):
    with RedisReplicas(tmp_path / "redis") as nodes:
        store = RedisOnlineStore(nodes.url + "&timeout=1s")
        store.epoch(TOKEN)
        nodes.wait_level()

        def fail_over():
            # the token is on the replicas long since; where they are held back, the rows are not
            if held:
                nodes.hold()
                store.put(plain_rows([Order(2)] * 200))
            else:
                nodes.wait_level()
            nodes.primary.kill()
            nodes.fail_over(nodes.replicas[0])
            wait_until(partial(_writes, store), "the new primary to be found")

        assert not run(store, fail_over)
        check_run_again(store)
        store.close()


def _writes(store):
    try:
        return store.put(plain_rows([Order(1)], start=900)) == [APPLIED]
    except Unavailable:
        return False


def test_sentinel_s_failover_refuses_the_watermark(tmp_path):
    with RedisSentinel(tmp_path / "redis") as watched:
        store = RedisOnlineStore(watched.url + "?timeout=1s")

        def fail_over():
            old = watched.primary
            for replica in watched.nodes[1:]:
                replica.wait_offset(old.offset)
            old.kill()
            wait_until(lambda: watched.primary is not old, "Sentinel to promote a replica")
            wait_until(partial(_writes, store), "the new primary to be found")

        assert not run(store, fail_over)
        check_run_again(store)
        store.close()


def test_writes_of_others_change_no_epoch(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        store, other = RedisOnlineStore(server.url), RedisOnlineStore(server.url)
        assert run(store, lambda: (other.put(plain_rows([Order(9)] * 10)), other.epoch(TOKEN), other.delete([b"x"])))
        store.close(), other.close()


def test_what_a_write_left_behind_tells_which_replicas_have_it(tmp_path):
    with RedisReplicas(tmp_path / "redis") as nodes:
        store = RedisOnlineStore(nodes.url)
        assert store.last_write() is None
        store.put(FIRST)
        first = store.last_write()
        nodes.wait_level()
        held = nodes.replicas[1]
        nodes.links[held].hold()
        store.put(SECOND)
        second = store.last_write()
        level = nodes.replicas[0]
        wait_until(lambda: level.offset == nodes.primary.offset, "a replica to have all")
        assert set(store.lag(first).values()) == {0}
        behind = store.lag(second)
        assert behind[f"127.0.0.1:{level.port}"] == 0 and behind[f"127.0.0.1:{held.port}"] > 0
        # many writes later the marker is let go: its write is there all the same
        with nodes.primary.client.pipeline(transaction=False) as pipeline:
            pipeline.hset(META_PREFIX + b"marks", "s", 20_000).hdel(META_PREFIX + b"marks", 1, 2).execute()
        nodes.links[held].resume()
        nodes.wait_level()
        assert set(store.lag(second).values()) == {0}
        nodes.primary.client.flushall()
        with pytest.raises(ConsistencyLost):
            store.lag(second)
        store.close()
