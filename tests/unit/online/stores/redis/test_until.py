"""Puts that are held up on their way: the server's own clock refuses them, whatever the host's clock says."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from headwater.clock import to_micros
from headwater.errors import Unavailable
from headwater.online.base import PutOutcome
from headwater.online.rows.codec import sequence_of
from headwater.online.stores.redis import until as redis_until
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.online.stores.redis.until import ServerTime, Until, elapsed
from headwater.testing.online_rows import Order, key_of, order_of, plain_row, plain_rows
from tests.servers.redis import RedisCluster, RedisServer

APPLIED = PutOutcome.APPLIED
LONG_AGO, FAR_AHEAD = datetime(2001, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
SECOND = 1_000_000


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def store(server):
    store = RedisOnlineStore(server.url + "?timeout=10s")
    yield store
    store.close()


@contextmanager
def held_up(server, seconds):
    """Whatever reaches the server meanwhile is done only after so many seconds."""
    server.pause()
    timer = threading.Timer(seconds, server.unpause)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize("now", [LONG_AGO, FAR_AHEAD])
def test_a_clock_that_is_wrong_or_made_up_does_no_harm(server, store, now):
    store.clock = lambda: now
    soon, late = to_micros(now) + SECOND, to_micros(now) + 60 * SECOND
    assert store.put([plain_row(1)], until=late) == [APPLIED]
    (row,) = store.multi_get([key_of(1)])
    with held_up(server, 1.3), pytest.raises(Unavailable, match="took too long"):
        store.put([plain_row(1, Order(2))], until=soon)
    with held_up(server, 1.3), pytest.raises(Unavailable, match="took too long"):
        store.compare_and_put(key_of(1), sequence_of(row), None, until=soon)
    assert store.multi_get([key_of(1)]) == [row]
    assert store.put([plain_row(1, Order(2))], until=late) == [APPLIED]


@pytest.mark.parametrize("step", [timedelta(hours=-2), timedelta(hours=2)])
def test_a_clock_that_is_set_while_a_put_is_under_way_does_no_harm(server, store, step):
    shift = timedelta()
    store.clock = lambda: datetime.now(UTC) + shift
    store.put([plain_row(1)])
    until = to_micros(store.clock()) + SECOND
    with held_up(server, 1.3):

        def put():
            with pytest.raises(Unavailable, match="took too long"):
                store.put([plain_row(1, Order(2))], until=until)

        putter = threading.Thread(target=put)
        putter.start()
        time.sleep(0.2)
        shift = step
        putter.join()
    assert order_of(store.multi_get([key_of(1)])[0]) == Order()
    # what is asked for by the clock as it is now is done
    assert store.put([plain_row(1, Order(2))], until=to_micros(store.clock()) + 60 * SECOND) == [APPLIED]


def test_the_rest_of_a_put_that_is_held_up_half_way_is_not_applied(server, store):
    def rows():
        yield from plain_rows([Order()] * 300)
        time.sleep(3.1)
        yield from plain_rows([Order()] * 300, start=300)

    with pytest.raises(Unavailable, match="took too long"):
        store.put(rows(), until=to_micros(store.clock()) + 3 * SECOND)
    found = store.multi_get([key_of(0), key_of(200), key_of(599)])
    assert [row is None for row in found] == [False, False, True]


def test_a_cluster_refuses_too(tmp_path):
    with RedisCluster(tmp_path / "cluster") as cluster:
        store = RedisOnlineStore(cluster.url + "?timeout=10s")
        store.clock = lambda: LONG_AGO
        soon, keys = to_micros(LONG_AGO) + SECOND, [key_of(n) for n in range(30)]
        assert store.put(plain_rows([Order()] * 30), until=soon) == [APPLIED] * 30
        server = cluster.shards[0]
        mine = [n for n, key in enumerate(keys) if cluster.owner(store._slots.shard(key).first) is server]
        with held_up(server, 1.3), pytest.raises(Unavailable, match="took too long"):
            store.put(plain_rows([Order(2)] * 30), until=soon)
        found = [order_of(row) for row in store.multi_get(keys)]
        assert mine and all(order == Order(0 if n in mine else 2) for n, order in enumerate(found))
        store.close()


def test_a_server_s_clock_that_was_read_long_ago_or_was_set_since_is_read_again(server, store, monkeypatch):
    soon = to_micros(store.clock()) + 60 * SECOND
    store.put([plain_row(1)], until=soon)
    (node,) = store._servers._nodes.values()
    (connection,) = node._times
    behind = ServerTime(node._times[connection].micros - 3_600 * SECOND, elapsed())
    node._times[connection] = behind
    # as if the server's clock had been put on by an hour: refused once, then by its clock as it is
    with pytest.raises(Unavailable, match="took too long"):
        store.put([plain_row(1, Order(2))], until=soon)
    assert store.put([plain_row(1, Order(2))], until=soon) == [APPLIED]
    (connection,) = node._times
    node._times[connection] = ServerTime(behind.micros, elapsed() - redis_until.KEPT)
    assert store.put([plain_row(1, Order(3))], until=soon) == [APPLIED]
    assert node._times[connection].fresh


def test_an_instant_by_a_server_s_clock():
    read = ServerTime(micros=5_000, at=100)
    assert [read.of(Until(at)) for at in (0, 100, 700)] == [4_900, 5_000, 5_600]
