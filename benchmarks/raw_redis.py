"""Raw Redis to read beside: one msgpack row an entity, by redis-py with hiredis: GET or MGET, decoded row by row."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import redis
import redis.asyncio
from numpy.typing import NDArray

from benchmarks.projects import NAMES, Features
from benchmarks.raw_reads import Reads, columns, rows

Rows = list[Any]
AsyncReads = Callable[[list[Any]], Awaitable[Any]]
_BATCH = 1_000


def fill(client: redis.Redis, users: Sequence[Any], tables: Sequence[Features]) -> None:
    """Put a row of each table (users x features) for each user."""
    every = rows(users, tables)
    for first in range(0, len(every), _BATCH):
        client.mset(dict(every[first : first + _BATCH]))


def keys(users: Sequence[Any], views: int) -> list[str]:
    """The keys of some users' rows, view by view."""
    return [f"{v}:{user}" for v in range(views) for user in users]


def lists(client: redis.Redis, views: int) -> Reads:
    """A read of all features of some users into a dict of lists, as `to_dict()` gives it."""
    turn = to_lists(views)

    def read(users: list[Any]) -> dict[str, list[Any]]:
        wanted = keys(users, views)
        return turn(users, client.mget(wanted) if len(wanted) > 1 else [client.get(wanted[0])])

    return read


def matrix(client: redis.Redis, views: int) -> Reads:
    """A read of all features of some users into a float32 matrix, as `to_numpy("float32")` gives it."""
    decode: Callable[[Any], list[float]] = msgspec.msgpack.Decoder(list[float]).decode

    def read(users: list[Any]) -> NDArray[np.float32]:
        wanted = keys(users, views)
        found: Rows = client.mget(wanted) if len(wanted) > 1 else [client.get(wanted[0])]
        table = np.array([decode(row) for row in found], np.float32)
        return table.reshape(views, len(users), len(NAMES)).transpose(1, 0, 2).reshape(len(users), -1)

    return read


def async_lists(client: redis.asyncio.Redis, views: int) -> AsyncReads:
    """As `lists`, on the asynchronous client."""
    turn = to_lists(views)

    async def read(users: list[Any]) -> dict[str, list[Any]]:
        wanted = keys(users, views)
        return turn(users, await client.mget(wanted) if len(wanted) > 1 else [await client.get(wanted[0])])

    return read


def async_dicts(reader: Any) -> AsyncReads:
    """A prepared asynchronous reader's read into a dict of lists."""

    async def read(users: list[Any]) -> Any:
        return (await reader.read(users)).to_dict()

    return read


def to_lists(views: int) -> Callable[[list[Any], Rows], dict[str, list[Any]]]:
    """What makes a dict of lists of rows."""
    decode: Callable[[Any], list[float]] = msgspec.msgpack.Decoder(list[float]).decode
    names = columns(views)

    def turn(users: list[Any], found: Rows) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {"user": list(users)}
        for v in range(views):
            decoded = [decode(row) for row in found[v * len(users) : (v + 1) * len(users)]]
            out.update(zip(names[v], map(list, zip(*decoded, strict=True)), strict=True))
        return out

    return turn


async def async_by_turns(ours: AsyncReads, raw: AsyncReads, picks: list[list[Any]]) -> tuple[list[float], list[float]]:
    """As `raw_reads.by_turns`; both sides give the same."""
    assert await ours(picks[0]) == await raw(picks[0])
    times: tuple[list[float], list[float]] = ([], [])
    for i, keys in enumerate(picks):
        for side in (0, 1) if i % 2 else (1, 0):
            work = raw if side else ours
            began = time.perf_counter()
            await work(keys)
            times[side].append((time.perf_counter() - began) * 1e6)
    return times
