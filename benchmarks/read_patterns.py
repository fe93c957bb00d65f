"""What configuration puts around reads from Redis: shared round trips of concurrent reads; rows kept in the process.

Coalescing: threads, or tasks of one event loop, that each read single keys as fast as they can, with `coalesce` on and
off, beside raw GETs of redis-py with decoding by as many. Kept rows: reads of 100 keys, some asked for far more often
than others, beside the same MGETs; then one key that is written again and again, and how long reads still gave the
value of before.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import redis
import redis.asyncio

import headwater as hw
from benchmarks import raw_redis
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import NAMES, filled_project, make_project, random_features
from benchmarks.raw_reads import Reads, percentiles
from benchmarks.raw_redis import AsyncReads, async_dicts
from benchmarks.servers import calls, keys_read, redis_server
from tests.servers.redis import RedisServer

THREADS, TASKS = 8, 64
ROUNDS = 4
KEEPS, KEEPS_MS = "200ms", 200.0
ZIPF = 1.2
FEATURES = ["view0:*"]


def measure(options: Options) -> list[Figure]:
    """Coalescing by threads and by tasks; then kept rows."""
    entities, seconds, writes = (2_000, 0.6, 2) if options.quick else (100_000, 12.0, 40)
    users: list[Any] = list(range(entities))
    tables = random_features(entities, 1, options.seed)
    with tempfile.TemporaryDirectory() as scratch, redis_server() as server, redis.Redis(port=server.port) as client:
        raw_redis.fill(client, users, tables)
        folder = Path(scratch) / "project"
        filled_project(folder, users, tables, online={"url": server.url}).close()
        return [
            *_by_threads(folder, server, client, users, seconds),
            *asyncio.run(_by_tasks(folder, server, users, seconds)),
            *_kept(folder, server, client, users, seconds, options.seed),
            _staleness(folder, server, writes),
        ]


def _set(folder: Path, server: RedisServer, **online: str | bool) -> None:
    """Give the project other settings of its online store."""
    make_project(folder, online={"url": server.url, **online})


def _opened(folder: Path, server: RedisServer, **online: str | bool) -> hw.FeatureStore:
    _set(folder, server, **online)
    return hw.FeatureStore(folder)


def _dicts(store: hw.FeatureStore) -> Reads:
    reader = store.prepare(FEATURES)
    return lambda keys: reader.read(keys).to_dict()


class _Load:
    """Reads of single keys by several readers at once, in turns.

    Attributes:
        seconds: how long they took.
        trips: how many commands the server got for them.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._times: list[float] = []
        self.seconds = 0.0
        self.trips = 0

    def begin(self) -> None:
        """Before a turn."""
        self._trips, self._at = self._commands(), time.perf_counter()

    def end(self, times: Iterable[float]) -> None:
        """After it: the seconds of each read."""
        self.seconds += time.perf_counter() - self._at
        self.trips += self._commands() - self._trips
        self._times += times

    def _commands(self) -> int:
        return calls(self._server, "mget") + calls(self._server, "get")

    @property
    def reads(self) -> int:
        """How many there were."""
        return len(self._times)

    @property
    def micros(self) -> float:
        """Of time for a read, all readers together."""
        return self.seconds / self.reads * 1e6

    @property
    def latency(self) -> str:
        """The 50th and the 99th percentile."""
        return " and ".join(f"{seconds * 1e6:.0f}" for seconds in percentiles(self._times))


def _figures(what: str, shared: _Load, alone: _Load, raw: _Load) -> list[Figure]:
    return [
        Figure(f"{what}, {name}", load.micros, raw.micros, "µs", runs=ROUNDS, more=_more(load, raw))
        for name, load in (("coalesced", shared), ("not coalesced", alone))
    ]


def _more(load: _Load, raw: _Load) -> dict[str, str]:
    return {
        "reads a second": f"{1e6 / load.micros:,.0f} / {1e6 / raw.micros:,.0f}",
        "p50 and p99 of a read, µs": f"{load.latency} / {raw.latency}",
        "reads a round trip": f"{load.reads / load.trips:.1f}",
    }


def _by_threads(
    folder: Path, server: RedisServer, client: redis.Redis, users: list[Any], seconds: float
) -> list[Figure]:
    loads = [_Load(server) for _ in range(3)]
    with _opened(folder, server, coalesce=True) as shared, _opened(folder, server) as alone:
        works = [_dicts(shared), _dicts(alone), raw_redis.lists(client, 1)]
        for _ in range(ROUNDS):
            for load, work in zip(loads, works, strict=True):
                _threads_turn(load, work, users, seconds / ROUNDS / len(loads))
    return _figures(f"Redis: single keys read by {THREADS} threads", *loads)


def _threads_turn(load: _Load, work: Reads, users: list[Any], seconds: float) -> None:
    found: list[list[float]] = [[] for _ in range(THREADS)]
    threads = [threading.Thread(target=_read_on, args=(work, users, seconds, i, found[i])) for i in range(THREADS)]
    load.begin()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.end(x for times in found for x in times)


def _read_on(work: Reads, users: list[Any], seconds: float, seed: int, times: list[float]) -> None:
    rng, until = random.Random(seed), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        work([rng.choice(users)])
        times.append(time.perf_counter() - began)


async def _by_tasks(folder: Path, server: RedisServer, users: list[Any], seconds: float) -> list[Figure]:
    loads = [_Load(server) for _ in range(3)]
    shared = hw.AsyncFeatureStore.of(_opened(folder, server, coalesce=True))
    alone = hw.AsyncFeatureStore.of(_opened(folder, server))
    async with shared, alone, redis.asyncio.Redis(port=server.port) as client:
        works = [
            async_dicts(await shared.prepare(FEATURES)),
            async_dicts(await alone.prepare(FEATURES)),
            raw_redis.async_lists(client, 1),
        ]
        for _ in range(ROUNDS):
            for load, work in zip(loads, works, strict=True):
                await _tasks_turn(load, work, users, seconds / ROUNDS / len(loads))
    return _figures(f"Redis: single keys read by {TASKS} tasks", *loads)


async def _tasks_turn(load: _Load, work: AsyncReads, users: list[Any], seconds: float) -> None:
    load.begin()
    found = await asyncio.gather(*(_await_on(work, users, seconds, i) for i in range(TASKS)))
    load.end(x for times in found for x in times)


async def _await_on(work: AsyncReads, users: list[Any], seconds: float, seed: int) -> list[float]:
    rng, until, times = random.Random(seed), time.perf_counter() + seconds, []
    while (began := time.perf_counter()) < until:
        await work([rng.choice(users)])
        times.append(time.perf_counter() - began)
    return times


def _kept(
    folder: Path, server: RedisServer, client: redis.Redis, users: list[Any], seconds: float, seed: int
) -> list[Figure]:
    """Reads of 100 keys of which a few are asked for often, with rows kept for longer and longer."""
    figures, raw = [], raw_redis.lists(client, 1)
    for keeps in ("100ms", "1s", "10s"):
        with _opened(folder, server, cache=keeps) as store:
            mine, theirs, share = _kept_turns(_dicts(store), raw, _skewed(users, seed), server, seconds / 3)
        more = {"found in the process": f"{share:.0%}", "p99": f"{mine[1]:.0f} / {theirs[1]:.0f}"}
        figures.append(Figure(f"Redis: 100 keys (Zipf {ZIPF}), rows kept for {keeps}", *_p50(mine, theirs), more=more))
    return figures


def _p50(mine: tuple[float, float], theirs: tuple[float, float]) -> tuple[float, float, str]:
    return mine[0], theirs[0], "µs"


def _skewed(users: list[Any], seed: int) -> Callable[[], list[Any]]:
    """What gives 100 keys each time, the n-th most asked for in proportion to 1 / n ** ZIPF."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(users) + 1) ** ZIPF
    ends = np.cumsum(weights / weights.sum())
    order = rng.permutation(len(users))
    return lambda: [users[i] for i in order[np.minimum(np.searchsorted(ends, rng.random(100)), len(users) - 1)]]


def _kept_turns(
    ours: Reads, raw: Reads, pick: Callable[[], list[Any]], server: RedisServer, seconds: float
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Latencies of both sides, and the share of the distinct keys of a read that the server was not asked for."""
    times: tuple[list[float], list[float]] = ([], [])
    asked, before, until = 0, keys_read(server), time.perf_counter() + seconds
    while time.perf_counter() < until:
        keys = pick()
        for work, found in zip((ours, raw), times, strict=True):
            began = time.perf_counter()
            work(keys)
            found.append((time.perf_counter() - began) * 1e6)
        asked += len(set(keys))
    # the raw side looks up every key
    read = keys_read(server) - before - 100 * len(times[1])
    return percentiles(times[0]), percentiles(times[1]), 1 - read / asked


def _staleness(folder: Path, server: RedisServer, writes: int) -> Figure:
    """From the acknowledgement of another store object's write to the start of the last read that did not see it."""
    lags = []
    with _opened(folder, server) as writer, _opened(folder, server, cache=KEEPS) as store:
        reader = store.prepare(["view0:v0_f0"])
        for i in range(writes):
            value, now = 1_000.0 + i, datetime.now(UTC)
            reader.read([0])
            row = {"user": 0, "event_time": now, "created_time": now, **dict.fromkeys(NAMES, value)}
            report = writer.write("view0", [row], to="online")
            acknowledged = last = time.perf_counter()
            assert report.applied == 1, report
            while True:
                began = time.perf_counter()
                if reader.read([0]).to_dict()["v0_f0"] == [value]:
                    break
                last = began
            lags.append((last - acknowledged) * 1e3)
    middle, high = percentiles(lags)
    what = f"Redis: rows kept for {KEEPS}: the longest that reads missed an acknowledged write"
    more = {"p50": f"{middle:.0f}", "p99": f"{high:.0f}"}
    return Figure(what, max(lags), None, "ms", KEEPS_MS, "value", writes, more)


if __name__ == "__main__":
    run_script("read_patterns", __doc__ or "", measure)
