"""RedisOnlineStore beyond the suite: expiry, large puts, faults, and what it says of its server."""

import asyncio
import os
import random
from contextlib import contextmanager

import pytest

from headwater.clock import to_micros
from headwater.errors import ConfigError, StoreError, Unavailable
from headwater.online.base import PutOutcome
from headwater.online.powers import Asynchronous, LeveledReads, NotedWrites, Replicated
from headwater.online.rows.codec import emptied, sequence_of
from headwater.online.stores.redis.batches import WINDOW_BYTES, cut
from headwater.online.stores.redis.nodes import Node
from headwater.online.stores.redis.single import read_rows
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing.online_rows import Order, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisServer
from tests.servers.waiting import at_most

pytest_plugins = ["tests.servers.redis"]
EVENTUAL = ConsistencyLevel.EVENTUAL
APPLIED = PutOutcome.APPLIED


@pytest.fixture
def store(redis_server):
    redis_server.client.flushall()
    store = RedisOnlineStore(redis_server.url)
    yield store
    store.close()


def test_it_has_every_power(store):
    assert all(isinstance(store, power) for power in (LeveledReads, Replicated, NotedWrites, Asynchronous))
    assert any("append-only" in sentence for sentence in store.not_erased())


def test_rows_expire_where_asked_and_never_those_with_a_delete(store, redis_server):
    (key, row), (gone, _) = plain_row(1), plain_row(2)
    store.compare_and_put(gone, 0, emptied(None, -10))
    assert store.put([(key, row), (gone, plain_row(2, Order(5, 5))[1])], expires_in=100) == [APPLIED, APPLIED]
    assert 0 < redis_server.client.ttl(key) <= 100
    assert redis_server.client.ttl(gone) == -1
    store.put([plain_row(1, Order(1))])
    assert redis_server.client.ttl(key) == -1


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 256, 3_000])
def test_puts_of_any_size_tell_of_each_row(store, count):
    rows = [(b"key %d" % i, plain_row(i)[1]) for i in range(count)]
    mark = b"\0hwmeta\0greatest"
    assert store.put(iter(rows), high_water=(mark, count + 1)) == [APPLIED] * count
    assert store.multi_get([mark]) == [(count + 1).to_bytes(8, "big")]
    assert store.put(rows) == [APPLIED] * count
    assert store.multi_get([key for key, _ in rows]) == [row for _, row in rows]


def calls(server, command):
    return server.client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


@contextmanager
def requests_of(store):
    """How often something is sent to the servers."""
    count, send = [], Node.send
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "send", lambda *args, **options: (count.append(1), send(*args, **options))[1])
        yield count


def test_scripts_are_bounded_in_bytes(store, redis_server):
    rows = [plain_row(i, text="x" * size) for i, size in enumerate([300_000] * 40 + [3_000_000, 10, 10])]
    store.put(rows[-1:])
    before = calls(redis_server, "evalsha")
    assert store.put(rows) == [APPLIED] * 43
    # three rows of 300 KB are a megabyte; the large one goes alone
    assert calls(redis_server, "evalsha") - before == 14 + 2
    assert store.multi_get([key for key, _ in rows]) == [row for _, row in rows]
    assert dict(store.scan(b"")) == dict(rows)
    changes = [(key, sequence_of(row), None) for key, row in rows]
    assert store.compare_and_put_all(changes) == [True] * 43


def test_large_rows_are_scanned_a_few_at_a_time():
    pages, asked = [[b"%d %d" % (page, i) for i in range(100)] for page in range(3)], []

    def get(some):
        asked.append(len(some))
        return [b"x" * 1_000_000] * len(some)

    assert [key for key, _ in read_rows(pages, get)] == [key for page in pages for key in page]
    assert max(asked) * 1_000_000 <= WINDOW_BYTES


def test_items_are_cut_by_number_and_size():
    sizes = [3, 3, 3, 9, 20, 1, 1, 1, 1, 1]
    assert [list(some) for some in cut(sizes, list, 4, 10)] == [[3, 3, 3], [9], [20], [1, 1, 1], [1, 1]]
    assert list(cut([], list, 4, 10)) == []


def test_a_write_is_one_request(store):
    until = to_micros(store.clock()) + 60_000_000
    mark = b"\0hwmeta\0greatest"
    store.put([plain_row(1)], until=until)
    with requests_of(store) as sent:
        store.put([plain_row(1, Order(2))], until=until, expires_in=100, high_water=(mark, 7))
        written = store.last_write()
    assert len(sent) == 1
    assert store.lag(written) == {}
    (row,) = store.multi_get([plain_row(1)[0]])
    # the server has the script, whatever ran before
    store.compare_and_put_all([(b"y", 3, None)], until=until)
    with requests_of(store) as sent:
        store.compare_and_put_all([(plain_row(1)[0], sequence_of(row), None), (b"y", 3, None)], until=until)
    assert len(sent) == 1


def test_scripts_are_loaded_again_where_a_server_has_forgotten_them(store, redis_server):
    store.put(plain_rows([Order()]))
    redis_server.client.script_flush()
    assert store.put([plain_row(7)]) == [APPLIED]
    redis_server.client.script_flush()
    assert store.put([(b"key %d" % i, plain_row(i)[1]) for i in range(1_000)]) == [APPLIED] * 1_000


def test_a_child_process_has_connections_of_its_own(store):
    store.put([plain_row(1)])
    key = plain_row(1)[0]
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        same = all(store.multi_get([key])[0] is not None for _ in range(50))
        os.write(write, b"1" if same else b"0")
        os._exit(0)
    assert all(store.multi_get([key])[0] is not None for _ in range(50))
    os.waitpid(pid, 0)
    assert os.read(read, 1) == b"1"


def test_it_says_what_is_wrong_with_its_server(store, redis_server):
    assert "persists nothing" in str(store.info()["warnings"])
    redis_server.client.config_set("maxmemory", "100mb")
    redis_server.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in str(store.info()["warnings"])
    finally:
        redis_server.client.config_set("maxmemory", "0")
        redis_server.client.config_set("maxmemory-policy", "noeviction")


def test_wrong_passwords_are_told_and_not_shown(tmp_path):
    with RedisServer(tmp_path / "locked") as server:
        server.client.config_set("requirepass", "right")
        server_url = f"redis://:right@127.0.0.1:{server.port}/0"
        assert RedisOnlineStore(server_url).multi_get([b"x"]) == [None]
        for wrong in (f"redis://:wr0ng@127.0.0.1:{server.port}/0", f"redis://127.0.0.1:{server.port}/0"):
            with pytest.raises(StoreError) as told:
                RedisOnlineStore(wrong).multi_get([b"x"])
            assert "wr0ng" not in str(told.value) and "password" in str(told.value)


def test_a_full_server_refuses_and_keeps_what_it_had(tmp_path):
    with RedisServer(tmp_path / "full", maxmemory="3mb") as server:
        store = RedisOnlineStore(server.url)
        store.put([plain_row(1)])
        with pytest.raises(StoreError, match="maxmemory"):
            for i in range(100):
                store.put([(b"%d %d" % (i, j), plain_row(j)[1] + bytes(2_000)) for j in range(100)])
        assert store.multi_get([plain_row(1)[0]])[0] is not None
        store.close()


def test_a_server_that_is_gone_or_deaf_fails_in_bounded_time(tmp_path):
    with RedisServer(tmp_path / "r") as server:
        store = RedisOnlineStore(server.url + "?timeout=300ms&connect_timeout=300ms")
        store.put([plain_row(1)])
        server.pause()
        for call in (
            lambda: store.multi_get([b"x"]),
            lambda: store.put([plain_row(1)]),
            lambda: store.read([b"x"], EVENTUAL, None),
        ):
            with at_most(1), pytest.raises(Unavailable, match=str(server.port)):
                call()
        server.unpause()
        assert store.multi_get([plain_row(1)[0]])[0] is not None
        server.kill()
        with pytest.raises(Unavailable):
            store.multi_get([b"x"])
        server.start()
        assert store.multi_get([plain_row(1)[0]]) == [None]


def test_a_deadline_is_kept(tmp_path):
    with RedisServer(tmp_path / "r") as server:
        store = RedisOnlineStore(server.url)
        store.multi_get([b"x"])
        server.pause()
        with at_most(0.5), pytest.raises(Unavailable):
            store.read([b"x"], EVENTUAL, None, deadline=0.05)
        server.unpause()


def test_a_replica_alone_is_told(tmp_path):
    with RedisServer(tmp_path / "a") as first, RedisServer(tmp_path / "b", follows=first.port) as second:
        second.wait_linked()
        with pytest.raises(Unavailable, match=r"(?i)read ?only"):
            RedisOnlineStore(second.url).put([plain_row(1)])


def test_two_primaries_are_refused(tmp_path):
    with RedisServer(tmp_path / "a") as one, RedisServer(tmp_path / "b") as two:
        store = RedisOnlineStore(f"{one.url}?replicas=127.0.0.1:{two.port}")
        with pytest.raises(Unavailable, match="both report that they are the primary"):
            store.multi_get([b"x"])


def test_a_url_that_cannot_be_read_is_refused():
    with pytest.raises(ConfigError):
        RedisOnlineStore("redis://x?wrong=1")


def test_cancelled_reads_leave_no_half_answer_behind(store):
    rows = [(b"key %d" % i, plain_row(i)[1]) for i in range(200)]
    store.put(rows)

    async def run():
        reads, rng = store.asynchronous(), random.Random(7)
        for _ in range(60):
            some = rng.sample(range(200), 50)
            task = asyncio.create_task(reads.read([b"key %d" % i for i in some], EVENTUAL, None))
            await asyncio.sleep(rng.random() * 0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            probe = rng.randrange(200)
            assert await reads.multi_get([b"key %d" % probe]) == [rows[probe][1]]
        await reads.close()

    asyncio.run(run())


def test_both_clients_give_the_same(store):
    store.put([plain_row(i) for i in range(20)])
    keys = [plain_row(i)[0] for i in (3, 99, 3, 0)]

    async def read(level, marks):
        reads = store.asynchronous()
        found = await reads.read(keys, level, marks)
        await reads.close()
        return found

    for level in ConsistencyLevel:
        marks = dict(store.marks())
        sync = store.read(keys, level, marks)
        assert sync == asyncio.run(read(level, marks))
        assert sync.rows == store.multi_get(keys)
