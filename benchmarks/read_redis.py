"""Reads from Redis through a prepared reader, beside raw GET and MGET of redis-py with hiredis and msgspec decoding.

From keys to a dict of lists (`to_dict`) or a float32 matrix (`to_numpy`); ours checks ttl, freshness and status of
every value on the way. Each pair of reads takes the same keys, one after the other, by turns who is first; the
asynchronous ones so too, on one event loop. Vectors are rows of ten features, read by one client as fast as it can.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

import headwater as hw
from benchmarks import raw_redis
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import NAMES, filled_project, random_features
from benchmarks.raw_reads import Reads, by_turns, check, percentiles
from benchmarks.raw_redis import async_by_turns, async_dicts
from benchmarks.servers import core_seconds, redis_server
from tests.servers.redis import RedisServer

VIEWS = 5
CLAIMED = 50_000
"""Vectors a second that the best managed store claims, at a p99 of 5 ms at most."""
P99_MS = 5.0


def measure(options: Options) -> list[Figure]:
    """Latencies, synchronous and asynchronous; then rates."""
    entities, repeats, seconds = (2_000, 60, 0.3) if options.quick else (100_000, 3_000, 10.0)
    users: list[Any] = [f"user-{i:07d}" for i in range(entities)]
    tables = random_features(entities, VIEWS, options.seed)
    with tempfile.TemporaryDirectory() as scratch, redis_server() as server, redis.Redis(port=server.port) as client:
        raw_redis.fill(client, users, tables)
        folder = Path(scratch) / "project"
        with filled_project(folder, users, tables, hw.String, {"url": server.url}) as store:
            picks = _Picks(users, repeats, options.seed)
            figures = _latencies(store, client, picks)
            rates = _rates(store, client, server, users, seconds)
        figures += asyncio.run(_async_latencies(folder, server.port, picks))
    return figures + rates


class _Picks:
    """Which keys are read: the same for all ways to read them."""

    def __init__(self, users: Sequence[Any], repeats: int, seed: int) -> None:
        self.users, self._repeats, self._seed = list(users), repeats, seed

    def of(self, count: int) -> list[list[Any]]:
        rng = random.Random(self._seed + count)
        repeats = self._repeats if count < 1_000 else self._repeats // 6
        return [rng.sample(self.users, count) for _ in range(repeats)]


SIZES = ((1, 1), (10, 1), (100, 1), (1_000, 1), (1, VIEWS), (10, VIEWS), (100, VIEWS))
"""Keys and views of a read."""


def _about(keys: int, count: int) -> str:
    return f"Redis: read {keys} key{'s' * (keys > 1)}, {count} view{'s' * (count > 1)} x {len(NAMES)}"


def _target(keys: int, count: int) -> float | None:
    if count > 1 and keys < 100:
        return None
    return 1.1 if keys >= 100 else 1.25


def _latencies(store: hw.FeatureStore, client: redis.Redis, picks: _Picks) -> list[Figure]:
    figures = []
    for keys, count in SIZES:
        for form, ours, raw in _forms(store, client, count):
            check(ours, raw, picks.users[:50])
            mine, theirs = map(percentiles, by_turns(ours, raw, picks.of(keys)))
            target = _target(keys, count) if form == "to_dict" else None
            figures.append(_figure(f"{_about(keys, count)}, {form}", mine, theirs, target))
    return figures


def _forms(store: hw.FeatureStore, client: redis.Redis, count: int) -> list[tuple[str, Reads, Reads]]:
    reader = store.prepare([f"view{v}:*" for v in range(count)])
    return [
        ("to_dict", lambda keys: reader.read(keys).to_dict(), raw_redis.lists(client, count)),
        ("to_numpy", lambda keys: reader.read(keys).to_numpy("float32"), raw_redis.matrix(client, count)),
    ]


def _figure(what: str, mine: tuple[float, float], theirs: tuple[float, float], target: float | None) -> Figure:
    return Figure(what, mine[0], theirs[0], "µs", target, more={"p99": f"{mine[1]:.0f} / {theirs[1]:.0f}"})


async def _async_latencies(folder: Path, port: int, picks: _Picks) -> list[Figure]:
    figures = []
    async with hw.AsyncFeatureStore(folder) as store, redis.asyncio.Redis(port=port) as client:
        for keys, count in SIZES:
            reader = await store.prepare([f"view{v}:*" for v in range(count)])
            mine, theirs = await async_by_turns(
                async_dicts(reader), raw_redis.async_lists(client, count), picks.of(keys)
            )
            what = f"{_about(keys, count)}, async to_dict"
            figures.append(_figure(what, percentiles(mine), percentiles(theirs), _target(keys, count)))
    return figures


def _rates(
    store: hw.FeatureStore, client: redis.Redis, server: RedisServer, users: list[Any], seconds: float
) -> list[Figure]:
    """Microseconds a vector, and the 99th percentile of a batch."""
    figures = []
    for batch in (100, 500):
        for form, ours, raw in _forms(store, client, 1):
            mine, theirs = _Rate(server, batch), _Rate(server, batch)
            for turn in range(4):
                for rate, work in ((mine, ours), (theirs, raw))[:: 1 if turn % 2 else -1]:
                    rate.run(work, users, seconds / 4)
            what = f"Redis: vectors of one client in batches of {batch}, {form}"
            more = {
                "vectors a second": f"{mine.a_second:,.0f} / {theirs.a_second:,.0f}",
                "a second of the client's core": f"{mine.of_client:,.0f} / {theirs.of_client:,.0f}",
                "of the server's": f"{mine.of_server:,.0f} / {theirs.of_server:,.0f}",
            }
            figures.append(
                Figure(what, 1e6 / mine.a_second, 1e6 / theirs.a_second, "µs", 1e6 / CLAIMED, "value", 4, more)
            )
            figures.append(Figure(f"{what}: p99 of a batch", mine.p99_ms, theirs.p99_ms, "ms", P99_MS, "value", 4))
    return figures


class _Rate:
    """One client that reads batch after batch."""

    def __init__(self, server: RedisServer, batch: int) -> None:
        self._server, self._batch, self._rng = server, batch, random.Random(batch)
        self._times: list[float] = []
        self._client = self._core = 0.0

    def run(self, work: Callable[[list[Any]], Any], users: list[Any], seconds: float) -> None:
        picks = [self._rng.sample(users, self._batch) for _ in range(50)]
        server, client, until = core_seconds(self._server), time.process_time(), time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            work(picks[len(self._times) % len(picks)])
            self._times.append(time.perf_counter() - began)
        self._client += time.process_time() - client
        self._core += core_seconds(self._server) - server

    @property
    def _vectors(self) -> int:
        return self._batch * len(self._times)

    @property
    def a_second(self) -> float:
        return self._vectors / sum(self._times)

    @property
    def of_client(self) -> float:
        return self._vectors / self._client

    @property
    def of_server(self) -> float:
        return self._vectors / self._core

    @property
    def p99_ms(self) -> float:
        return percentiles(self._times)[1] * 1e3


if __name__ == "__main__":
    run_script("read_redis", __doc__ or "", measure)
