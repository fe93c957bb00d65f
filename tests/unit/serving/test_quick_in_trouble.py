"""Plain reads from Redis while connections are cut and the server dies: each has its own rows, or a clear error."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

import headwater as hw
from headwater.serving.app import App
from headwater.serving.connection import BoundedConnection
from headwater.serving.settings import ServerSettings
from tests.servers.redis import RedisServer
from tests.unit.serving.conftest import NOON, USER

SCORES = hw.FeatureView(
    "scores",
    entity=USER,
    source=hw.PushSource(event_time="at"),
    features=[hw.Feature("n", hw.Int64), hw.Feature("x", hw.Float64)],
)
USERS = 300
CLIENTS = 24


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("trouble") / "redis", persistence="aof") as server:
        yield server


@pytest.fixture(scope="module")
def store(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hw.FeatureStore]:
    folder = tmp_path_factory.mktemp("project")
    with hw.FeatureStore(folder, online=f"{redis.url}?timeout=0.3", clock=lambda: NOON) as store:
        store.apply([SCORES])
        store.write("scores", [{"user": user, "at": NOON, "n": 1_000 + user, "x": user / 7} for user in range(USERS)])
        yield store


class Server:
    """A server in this process, on real sockets.

    Args:
        store: the store.

    Attributes:
        seen: what the answers were, by kind.
        quickly: how many reads were begun without a task.
    """

    def __init__(self, store: hw.FeatureStore) -> None:
        self.app = App(hw.AsyncFeatureStore.of(store), ServerSettings(deadline=1.0))
        self.seen: Counter[str] = Counter()
        self.quickly = 0
        self._begin = self.app.quick.begin
        self.app.quick.begin = self._count  # type: ignore[method-assign]
        self._ids = count()

    def _count(self, *args: object) -> object:
        found = self._begin(*args)  # type: ignore[arg-type]
        self.quickly += found is not None
        return found

    async def listen(self) -> asyncio.Server:
        config = uvicorn.Config(self.app, http=BoundedConnection, lifespan="off", log_config=None, workers=1)
        state = ServerState()
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: BoundedConnection(config, state, {}, loop), "127.0.0.1", 0)

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, users: Sequence[int]) -> None:
        """One read, and what is wrong with its answer."""
        name = f"r{next(self._ids)}"
        body = json.dumps({"features": ["scores:n", "scores:x"], "entities": {"user": users}}).encode()
        lines = ["Host: x", "Content-Type: application/json", f"Headwater-Request-Id: {name}"]
        head = "\r\n".join(["POST /v1/features:read HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        document = json.loads(await reader.readexactly(length))
        assert f"headwater-request-id: {name}\r\n" in answer
        status = int(answer.split()[1])
        if status == 200:
            columns, statuses = document["columns"], document["statuses"]["n"]
            assert columns["user"] == list(users) and set(statuses) == {"PRESENT"}
            assert columns["n"] == [1_000 + user for user in users] and columns["x"] == [user / 7 for user in users]
            self.seen["right"] += 1
        else:
            assert status == 503 and "retry-after" in answer and document["title"] == "Unavailable", document
            assert "redis" in document["detail"] or "online store" in document["detail"], document
            self.seen["refused"] += 1

    async def load(self, port: int, stop: asyncio.Event, seed: int) -> None:
        """Reads on one connection, one after the other, each of keys of its own."""
        rng = random.Random(seed)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not stop.is_set():
            await self.read(reader, writer, rng.sample(range(USERS), rng.choice([1, 1, 1, 2, 5, 40, 200])))
        writer.close()

    async def until(self, kind: str, more: int) -> None:
        """Wait until there were some more answers of a kind."""
        wanted = self.seen[kind] + more
        while self.seen[kind] < wanted:
            await asyncio.sleep(0.002)


async def run(store: hw.FeatureStore, redis: RedisServer) -> None:
    server, stop = Server(store), asyncio.Event()
    listening = await server.listen()
    port = listening.sockets[0].getsockname()[1]
    async with asyncio.timeout(240), asyncio.TaskGroup() as clients:
        for seed in range(CLIENTS):
            clients.create_task(server.load(port, stop, seed))
        await server.until("right", 100)
        for _ in range(12):
            # in the middle of what is under way
            await asyncio.to_thread(redis.client.client_kill_filter, _type="normal", skipme=True)
            await server.until("right", 40)
        redis.pause()
        await server.until("refused", CLIENTS)
        redis.unpause()
        await server.until("right", 100)
        redis.kill()
        await server.until("refused", CLIENTS)
        redis.start()
        await server.until("right", 100)
        stop.set()
    assert server.quickly > 200 and server.app.requests.under_way == 0
    listening.close()
    await store.services.close_clients()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_no_answer_reaches_another_request_while_connections_are_cut(
    store: hw.FeatureStore, redis: RedisServer, loop: object
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(run(store, redis))
