"""A small project on an online store, and what its clients do, in this process or another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import headwater as hw
from tests.servers.waiting import at_most

T0 = datetime(2024, 1, 1, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
SCORE = hw.FeatureView(
    "score", entity=USER, source=hw.PushSource(event_time="at"), features=[hw.Feature("n", hw.Int64)]
)
BOUND = 5.0
"""Seconds within which a call on a store that does not answer must end."""


def make_project(folder: Path) -> Path:
    """A project whose writes wait for replicas for a third of a second."""
    folder.mkdir()
    (folder / "headwater.toml").write_text('project = "test"\n[online]\ndurable_within = "300ms"\n')
    with hw.FeatureStore(folder, online="memory:") as store:
        store.apply([USER, SCORE])
    return folder


def open_store(project: Path, url: str) -> hw.FeatureStore:
    """The project's store on an online store."""
    return hw.FeatureStore(project, online=url)


def put(store: Any, user: int | Iterable[int], n: int, **options: Any) -> Any:
    """Write n as the newest score of some users, to a store or by a client; a greater n is a newer one."""
    users = [user] if isinstance(user, int) else user
    rows = [{"user": user, "at": T0 + timedelta(microseconds=n), "n": n} for user in users]
    return store.write("score", rows, **{"to": "online", **options})


def get(store: hw.FeatureStore | hw.Client, user: int, level: str, session: hw.Session | None = None) -> int | None:
    """A user's score."""
    result = store.get_online_features(["score:n"], [user], consistency=level, session=session)
    value: int | None = result.to_dict()["n"][0]
    return value


Get = Callable[..., int | None]
"""`get` without its first argument."""


@contextmanager
def reading(project: Path, url: str, way: str) -> Iterator[Get]:
    """What reads a user's score, by a level and a session: `sync`, or `async` on an event loop of its own."""
    if way == "sync":
        with open_store(project, url) as store:
            yield partial(get, store)
        return
    with asyncio.Runner() as runner:
        store = hw.AsyncFeatureStore.of(open_store(project, url))

        async def read(user: int, level: str, session: hw.Session | None = None) -> Any:
            return await store.get_online_features(["score:n"], [user], consistency=level, session=session)

        try:
            yield lambda *asked: runner.run(read(*asked)).to_dict()["n"][0]
        finally:
            runner.run(store.close())


def put_elsewhere(project: Path, url: str, token: str, user: int, n: int) -> str:
    """In another process: write with a token, and give the token that this makes."""
    session = hw.Session.from_token(token)
    with open_store(project, url) as store:
        put(store, user, n, session=session)
    return session.token


def get_elsewhere(project: Path, url: str, token: str, user: int, level: str, times: int = 1) -> tuple[list[Any], str]:
    """In another process: read some times with a token, and give the values and the token that this makes."""
    session = hw.Session.from_token(token)
    with open_store(project, url) as store:
        values = [get(store, user, level, session) for _ in range(times)]
    return values, session.token


async def get_from_server(client: hw.AsyncClient, user: int, level: str, session: hw.Session) -> int | None:
    """A user's score, by a client on an event loop."""
    result = await client.get_online_features(["score:n"], [user], consistency=level, session=session)
    value: int | None = result.to_dict()["n"][0]
    return value


def read_from_server(url: str, way: str, token: str, user: int, level: str, times: int) -> tuple[list[int | None], str]:
    """In another process: read some times through a client with a token; the values, and the token that this makes."""
    session = hw.Session.from_token(token)
    if way == "sync":
        with hw.Client(url, timeout="30s") as client:
            return [get(client, user, level, session) for _ in range(times)], session.token

    async def main() -> list[int | None]:
        async with hw.AsyncClient(url, timeout="30s") as client:
            return [await get_from_server(client, user, level, session) for _ in range(times)]

    return asyncio.run(main()), session.token


def write_to_server(url: str, way: str, token: str, user: int, n: int) -> str:
    """In another process: write through a client with a token, and give the token that this makes."""
    session = hw.Session.from_token(token)
    if way == "sync":
        with hw.Client(url, timeout="30s") as client:
            put(client, user, n, to="both", session=session)
            return session.token

    async def main() -> None:
        async with hw.AsyncClient(url, timeout="30s") as client:
            await put(client, user, n, to="both", session=session)

    asyncio.run(main())
    return session.token


def bounded(call: Callable[[], Any]) -> Any:
    """What a call gives or raises, given or raised in bounded time."""
    with at_most(BOUND):
        try:
            return call()
        except hw.HeadwaterError as bad:
            return bad
