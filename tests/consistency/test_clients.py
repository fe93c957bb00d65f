"""Sessions that go from client to client, on a server that reads from replicas whose replication is held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from tests.consistency.clients import (
    get,
    get_elsewhere,
    get_from_server,
    make_project,
    open_store,
    put,
    read_from_server,
    write_to_server,
)
from tests.consistency.test_levels import reads_of
from tests.servers.headwater_server import HeadwaterServer
from tests.servers.redis import RedisReplicas

Elsewhere = Callable[..., Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisReplicas, Path, str]]:
    """A primary with two replicas, a project on them, and the URL of its server of two workers."""
    folder = tmp_path_factory.mktemp("served")
    with RedisReplicas(folder / "redis") as nodes:
        project = make_project(folder / "project")
        settings = project / "headwater.toml"
        settings.write_text(f'{settings.read_text()}url = "{nodes.url}"\n[server]\ndeadline = "30s"\n')
        with HeadwaterServer(project, workers=2) as server:
            yield nodes, project, f"http://127.0.0.1:{server.port}"


@pytest.fixture
def nodes(served: tuple[RedisReplicas, Path, str]) -> Iterator[RedisReplicas]:
    """The nodes, level with each other before and after a test."""
    try:
        served[0].wait_level()
        yield served[0]
    finally:
        served[0].resume()


@pytest.fixture
def project(served: tuple[RedisReplicas, Path, str]) -> Path:
    return served[1]


@pytest.fixture
def url(served: tuple[RedisReplicas, Path, str]) -> str:
    return served[2]


@pytest.fixture
def client(url: str) -> Iterator[hw.Client]:
    with hw.Client(url, timeout="30s") as client:
        yield client


def behind(client: hw.Client, nodes: RedisReplicas, user: int) -> None:
    """Score 1 everywhere, then 2 on the primary alone."""
    put(client, user, 1, to="both")
    nodes.wait_level()
    nodes.hold()
    put(client, user, 2, to="both")


@pytest.mark.parametrize("way", ["sync", "async"])
def test_another_process_s_client_sees_what_a_session_has_written(
    client: hw.Client, nodes: RedisReplicas, url: str, elsewhere: Elsewhere, way: str
) -> None:
    user = 10 if way == "sync" else 11
    behind(client, nodes, user)
    session = client.session()
    put(client, user, 3, to="both", session=session)
    values, token = elsewhere(read_from_server, url, way, session.token, user, "session", 8)
    assert values == [3] * 8
    # and back: what the other process wrote is seen here with its token
    token = elsewhere(write_to_server, url, way, token, user, 4)
    returned = hw.Session.from_token(token)
    assert [get(client, user, "session", returned) for _ in range(8)] == [4] * 8
    # a session that has seen the newest value never steps back to a replica's
    assert [get(client, user, "monotonic_read", returned) for _ in range(8)] == [4] * 8


def test_the_replicas_are_behind_meanwhile(client: hw.Client, nodes: RedisReplicas) -> None:
    behind(client, nodes, 20)
    # some of as many reads as this come to a replica, whichever worker is asked
    assert 1 in {get(client, 20, "eventual") for _ in range(16)}
    assert {get(client, 20, "strong") for _ in range(4)} == {2}


def test_a_delete_is_seen_by_another_process_s_client(
    client: hw.Client, nodes: RedisReplicas, url: str, elsewhere: Elsewhere
) -> None:
    behind(client, nodes, 30)
    session = client.session()
    client.delete("score", [30], session=session)
    values, _ = elsewhere(read_from_server, url, "sync", session.token, 30, "session", 8)
    assert values == [None] * 8


def test_a_token_goes_between_clients_and_stores(
    client: hw.Client, nodes: RedisReplicas, project: Path, url: str, elsewhere: Elsewhere
) -> None:
    behind(client, nodes, 40)
    session = client.session()
    put(client, 40, 3, to="both", session=session)
    values, token = elsewhere(get_elsewhere, project, nodes.url, session.token, 40, "session", 8)
    assert values == [3] * 8
    with open_store(project, nodes.url) as store:
        session = hw.Session.from_token(token)
        put(store, 40, 4, session=session)
    values, _ = elsewhere(read_from_server, url, "async", session.token, 40, "session", 8)
    assert values == [4] * 8


def test_replicas_serve_the_sessions_of_clients_that_they_cover(
    client: hw.Client, nodes: RedisReplicas, url: str, elsewhere: Elsewhere
) -> None:
    session = client.session()
    put(client, 50, 1, to="both", session=session)
    nodes.wait_level()
    before = reads_of(nodes)
    values, _ = elsewhere(read_from_server, url, "sync", session.token, 50, "session", 10)
    assert values == [1] * 10 and reads_of(nodes) >= before + 10


def test_many_clients_of_one_session_read_their_writes_while_replicas_lag(
    client: hw.Client, nodes: RedisReplicas, url: str
) -> None:
    behind(client, nodes, 60)

    async def main() -> None:
        async with hw.AsyncClient(url, timeout="60s") as other:

            async def one(user: int) -> None:
                session = other.session()
                for n in range(3, 8):
                    await put(other, user, n, to="both", session=session)
                    again = hw.Session.from_token(session.token)
                    read = await get_from_server(other, user, "session", again)
                    assert read == n

            await asyncio.gather(*(one(user) for user in range(60, 66)))

    asyncio.run(main())
