"""Connections to Redis that ended while they were idle, or never come about."""

import asyncio
import socket
import time

import pytest

from headwater.errors import Unavailable
from headwater.online.stores.redis import RedisOnlineStore
from headwater.testing.online_rows import Order, key_of, plain_row, plain_rows
from headwater.types import ConsistencyLevel
from tests.servers.redis import RedisServer


def test_a_write_does_not_meet_a_connection_that_the_server_has_closed_meanwhile(tmp_path):
    with RedisServer(tmp_path / "r", "aof") as server:
        store = RedisOnlineStore(server.url)
        for count in (1, 1_000):
            store.put(plain_rows([Order()] * count))
            server.restart()
            assert store.put(plain_rows([Order()] * count)) == [True] * count
        server.client.client_kill_filter(_type="normal", skipme=True)
        assert store.compare_and_put(key_of(0), 4, None)
        store.close()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_deadline_holds_for_a_connection_that_is_still_to_be_made(asynchronous):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisOnlineStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        call = (plain_row(1)[0],), ConsistencyLevel.STRONG, None, 0.1
        began = time.monotonic()
        with pytest.raises(Unavailable):
            asyncio.run(store.asynchronous().read(*call)) if asynchronous else store.read(*call)
        assert time.monotonic() - began < 0.5
        store.close()
