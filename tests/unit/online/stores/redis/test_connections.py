"""Redis nodes that restart and stall: connections that ended, or never come about, and data put back from a copy."""

import asyncio
import random
import shutil
import socket
import subprocess
import sys
from collections import Counter

import pytest

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.base import PutOutcome
from headwater.online.connections import ConnectionCounts
from headwater.online.rows.codec import sequence_of
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing import SCALE
from headwater.testing.online_rows import Order, key_of, order_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer
from tests.servers.waiting import at_most

MONOTONIC = ConsistencyLevel.MONOTONIC_READ


def test_a_write_does_not_meet_a_connection_that_the_server_has_closed_meanwhile(tmp_path):
    with RedisServer(tmp_path / "r", "aof") as server:
        store = RedisOnlineStore(server.url)
        for count in (1, 1_000):
            store.put(plain_rows([Order()] * count))
            server.restart()
            assert store.put(plain_rows([Order(count)] * count)) == [PutOutcome.APPLIED] * count
        (row,) = store.multi_get([key_of(0)])
        server.client.client_kill_filter(_type="normal", skipme=True)
        assert store.compare_and_put(key_of(0), sequence_of(row), None)
        store.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_deadline_holds_for_a_connection_that_is_still_to_be_made(asynchronous):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisOnlineStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        call = (plain_row(1)[0],), ConsistencyLevel.STRONG, None, 0.1
        with at_most(0.5), pytest.raises(Unavailable):
            asyncio.run(store.asynchronous().read(*call)) if asynchronous else store.read(*call)
        store.close()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("level", [ConsistencyLevel.EVENTUAL, ConsistencyLevel.STRONG, MONOTONIC])
def test_an_answer_that_comes_after_its_deadline_is_nobody_else_s(tmp_path, asynchronous, level):
    """Deadlines about as long as answers take: each read has the rows of its own keys, or none."""
    rng, outcomes = random.Random(3), Counter()
    with RedisServer(tmp_path / "r") as server, Proxy(server.port) as proxy:
        store = RedisOnlineStore(f"redis://127.0.0.1:{proxy.port}/0")
        store.put(plain_rows([Order(n) for n in range(20)]))
        keys = [key_of(n) for n in range(20)]
        whole = dict(zip(keys, store.multi_get(keys), strict=True))
        marks = {} if level is MONOTONIC else None
        reads = store.asynchronous()

        async def one():
            mine, deadline = rng.sample(keys, rng.randint(1, 4)), rng.choice([0.002, 0.005, 0.01, 0.02, None])
            try:
                found = await reads.read(mine, level, marks, deadline)
            except Unavailable:
                outcomes["late"] += 1
            else:
                assert found.rows == [whole[key] for key in mine]
                outcomes["right"] += 1

        async def several():
            for _ in range(60 * SCALE):
                proxy.delay(rng.uniform(0, 0.02))
                await asyncio.gather(*(one() for _ in range(3)))
            await reads.close()

        if asynchronous:
            asyncio.run(several())
        else:
            for _ in range(60 * SCALE):
                proxy.delay(rng.uniform(0, 0.02))
                mine = rng.sample(keys, 2)
                try:
                    found = store.read(mine, level, marks, rng.choice([0.002, 0.005, 0.01, 0.02, None]))
                except Unavailable:
                    outcomes["late"] += 1
                else:
                    assert found.rows == [whole[key] for key in mine]
                    outcomes["right"] += 1
        store.close()
    assert min(outcomes["late"], outcomes["right"]) > 5, outcomes


def test_a_reader_beside_a_put_that_a_restored_copy_lacks_is_told(tmp_path):
    with RedisServer(tmp_path / "r", "aof") as server:
        store = RedisOnlineStore(server.url)
        store.put([plain_row(0, Order(1))])
        server.stop()
        shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
        server.start()
        before = store.read([key_of(0)], MONOTONIC, {}).marks

        def rows():
            yield from plain_rows([Order(2)] * 5_000)
            # the first scripts are done by now, the put is not
            seen.append(store.read([key_of(0)], MONOTONIC, before))

        seen = []
        store.put(rows())
        assert order_of(seen[0].rows[0]) == Order(2)
        server.stop()
        server.empty()
        shutil.copytree(tmp_path / "copy", server.folder / "appendonlydir")
        server.start()
        assert order_of(store.read([key_of(0)], MONOTONIC, before).rows[0]) == Order(1)
        with pytest.raises(ConsistencyLost):
            store.read([key_of(0)], MONOTONIC, seen[0].marks)
        store.close()


def test_connections_are_counted(tmp_path):
    with RedisServer(tmp_path / "r") as server:
        store = RedisOnlineStore(server.url)
        assert store.connections() == ConnectionCounts()
        store.put(plain_rows([Order()]))
        assert store.connections() == ConnectionCounts(idle=1)
        (node,) = store._servers._nodes.values()
        sent = [node.send([("PING",)]) for _ in range(3)]
        assert store.connections() == ConnectionCounts(in_use=3)
        for pending in sent:
            node.receive(pending)
        assert store.connections() == ConnectionCounts(idle=3)
        # what the server ended is noticed once it is asked
        server.restart()
        store.multi_get([key_of(0)])
        assert store.connections() == ConnectionCounts(idle=1)
        store.close()
        assert store.connections() == ConnectionCounts()


def test_connections_of_an_event_loop_are_counted(tmp_path):
    async def main(store):
        reads = store.asynchronous()
        assert reads.connections() == ConnectionCounts()
        await reads.multi_get([key_of(0)])
        assert reads.connections() == ConnectionCounts(idle=1)
        await asyncio.gather(*(reads.multi_get([key_of(0)]) for _ in range(3)))
        assert reads.connections() == ConnectionCounts(idle=1)
        slow = asyncio.create_task(reads._nodes[next(iter(reads._nodes))].run([("BLPOP", "nothing", 0)]))
        while not reads.connections().in_use:
            await asyncio.sleep(0.001)
        assert reads.connections() == ConnectionCounts(in_use=1)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await reads.close()
        assert reads.connections() == ConnectionCounts()

    with RedisServer(tmp_path / "r") as server:
        store = RedisOnlineStore(server.url)
        asyncio.run(main(store))
        store.close()


def test_closed_reads_of_an_event_loop_refuse_and_open_nothing(tmp_path):
    async def main(store):
        idle, unused, busy = (store.asynchronous() for _ in range(3))
        await idle.multi_get([key_of(0)])
        await busy.multi_get([key_of(0)])
        slow = asyncio.create_task(busy._nodes[next(iter(busy._nodes))].run([("BLPOP", "nothing", 0)]))
        while not busy.connections().in_use:
            await asyncio.sleep(0.001)
        begun = asyncio.create_task(busy.multi_get([key_of(0)]))
        await asyncio.sleep(0)
        for reads in (idle, unused, busy):
            await reads.close()
            await reads.close()
            with pytest.raises(Unavailable, match="was closed") as bad:
                await reads.multi_get([key_of(0)])
            assert bad.value.closed
            assert await reads.multi_get([]) == []
        ended = await asyncio.wait_for(asyncio.gather(slow, begun, return_exceptions=True), 60)
        assert [type(error) for error in ended] == [Unavailable] * 2
        assert [reads.connections() for reads in (idle, unused, busy)] == [ConnectionCounts()] * 3

    with RedisServer(tmp_path / "r") as server:
        store = RedisOnlineStore(server.url)
        asyncio.run(main(store))
        with pytest.raises(Unavailable, match="was closed"):
            store.close()
            store.multi_get([key_of(0)])


def test_reads_closed_while_they_connect_are_not_cancelled():
    async def main(port):
        store = RedisOnlineStore(f"redis://127.0.0.1:{port}?connect_timeout=60")
        reads = store.asynchronous()
        waiting = asyncio.create_task(reads.multi_get([key_of(0)]))
        while not any(node._connecting for node in reads._nodes.values()):
            await asyncio.sleep(0.001)
        await reads.close()
        with pytest.raises(Unavailable, match="was closed"):
            await asyncio.wait_for(waiting, 60)
        store.close()

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        asyncio.run(main(silent.getsockname()[1]))


WITHOUT_HIREDIS = """
import asyncio, sys
sys.modules["hiredis"] = None
import headwater as hw
from headwater.online.stores.redis.store import RedisOnlineStore

async def main():
    RedisOnlineStore("redis://127.0.0.1:1").asynchronous()

try:
    asyncio.run(main())
except hw.MissingExtra as missing:
    print(missing)
"""


def test_reads_of_an_event_loop_without_hiredis_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_HIREDIS], capture_output=True, text=True)
    assert done.stdout == "hiredis is not installed: pip install 'headwater[redis]'\n", done.stderr
