"""The HTTP server with two workers: embedded and Redis, several batches, a view and a service of five, JSON and Arrow.

`make bench-http` runs it. API keys, metrics and logging are on. Feast's server, with two workers, its Redis store and
the same rows, runs in the same run where its environment is there: as it comes (it restarts a worker every thousand
requests), and without that. The load is wrk with one thread and eight connections on the same cores, and a steady one
at fixed rates.

`python -m benchmarks.http --targets` takes a minute and a half: one view, 1 and 100 entities, both stores, each with
the processor time of workers and Redis, which says something on a busy machine too.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

import headwater as hw
from benchmarks.figures import Figure, Options, parser_of, publish
from benchmarks.http.load import Measured, most, steady
from benchmarks.peers.__main__ import FEAST, PEERS
from benchmarks.peers.sides import Side
from benchmarks.processes import ROOT, environment
from benchmarks.projects import filled_project, random_features, write_tables
from benchmarks.servers import calls, core_seconds, redis_server
from tests.servers.headwater_server import HeadwaterServer
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.waiting import wait_until

READ = "/v1/features:read"
USERS = 10_000
VIEWS = 5
BATCHES = (1, 10, 100, 1_000)
BODIES = 200
WANTED = {1: (10_000, 3.0), 100: (3_500, 5.0)}
"""Batch → requests a second, and p99 in milliseconds, that one view is meant to reach."""


def bodies(batch: int, features: dict[str, Any], rng: random.Random) -> list[str]:
    """Reads of random users."""
    return [json.dumps({**features, "entities": {"user": rng.sample(range(USERS), batch)}}) for _ in range(BODIES)]


@contextmanager
def headwater_server(folder: Path) -> Iterator[tuple[HeadwaterServer, str]]:
    """A server of a project with two workers and keys, and a key."""
    with hw.FeatureStore(folder) as store:
        key, _ = store.registry.api_keys.create("bench", ["read"])
    with HeadwaterServer(folder, "--require-keys", workers=2) as server:
        wait_until(lambda: len(server.workers()) == 2, "two workers")
        yield server, key


def measure(options: Options) -> list[Figure]:
    """All figures."""
    seconds = 1.0 if options.quick else 8.0
    batches = (1, 100) if options.quick else BATCHES
    figures = []
    with tempfile.TemporaryDirectory() as scratch, redis_server() as redis:
        place = Path(scratch)
        tables = random_features(USERS, VIEWS, options.seed)
        for name, online in (("LMDB", None), ("Redis", {"url": f"redis://127.0.0.1:{redis.port}"})):
            folder = place / name
            store = filled_project(folder, list(range(USERS)), tables, online=online)
            members = [store.get_feature_view(f"view{v}").definition for v in range(VIEWS)]
            store.apply([hw.FeatureService("five", members)])
            store.close()
            figures += _headwater(name, folder, batches, seconds, place, options)
        if PEERS.exists():
            figures += _feast(redis.port, tables, (1, 100), seconds, place, options)
    return figures


def measure_targets(options: Options) -> list[Figure]:
    """What has a target, alone."""
    seconds, rounds = 1.0 if options.quick else 6.0, options.runs or 2
    figures, rng = [], random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch, redis_server() as redis:
        place = Path(scratch)
        tables = random_features(USERS, 1, options.seed)
        for name, online in (("LMDB", None), ("Redis", {"url": f"redis://127.0.0.1:{redis.port}"})):
            filled_project(place / name, list(range(USERS)), tables, online=online).close()
            with headwater_server(place / name) as (server, key):
                url = f"http://127.0.0.1:{server.port}{READ}"
                for batch, wanted in WANTED.items():
                    some = bodies(batch, {"features": ["view0:*"]}, rng)
                    most(url, some, 1.0, place, key)
                    for n in range(rounds):
                        before = _used(server, redis)
                        found = most(url, some, seconds, place, key)
                        requests = found.rate * seconds
                        used = {what: after - before[what] for what, after in _used(server, redis).items()}
                        trips = used.pop("round trips")
                        more = {f"{what} a request": 1e6 * spent / requests for what, spent in used.items()}
                        if trips:
                            more["reads a round trip"] = requests / trips
                        what = f"{name}, a view of ten features, {batch} entities, round {n + 1}"
                        figures += _figures(what, found, *wanted, more=more)
    return figures


def _used(server: HeadwaterServer, redis: RedisServer) -> dict[str, float]:
    """Seconds of a core that workers and Redis used so far, and were ready to run without one; and round trips."""
    workers = server.workers()
    return {
        "workers, µs": sum(sum(psutil.Process(worker).cpu_times()[:2]) for worker in workers),
        "Redis, µs": core_seconds(redis),
        "workers without a core, µs": sum(map(_waited, workers)),
        "Redis without a core, µs": _waited(redis.pid),
        "round trips": calls(redis, "mget"),
    }


def _waited(process: int) -> float:
    """Seconds for which a process's first thread was ready to run and others had its core."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9


def _headwater(
    name: str, folder: Path, batches: tuple[int, ...], seconds: float, place: Path, options: Options
) -> list[Figure]:
    rng, figures = random.Random(options.seed), []
    with headwater_server(folder) as (server, key):
        url = f"http://127.0.0.1:{server.port}{READ}"
        for what, features in (("a view", {"features": ["view0:*"]}), ("five views", {"service": "five"})):
            for batch in batches:
                some = bodies(batch, features, rng)
                most(url, some, seconds / 4, place, key)  # every module is imported, every reader made
                found = most(url, some, seconds, place, key)
                wanted = WANTED.get(batch, (None, None)) if what == "a view" else (None, None)
                figures += _figures(f"{name}, {what} of ten features, {batch} entities", found, *wanted)
        for rate, batch in ((1_000, 1), (500, 100)):
            some = bodies(batch, {"features": ["view0:*"]}, rng)
            found = steady(server.port, READ, some, rate, seconds, key)
            label = f"{name}, a view, {batch} entities, {rate:,} requests a second: p99"
            more = {"p50": found.p50, "p99.9": found.p999, "errors": found.errors}
            figures.append(Figure(label, found.p99, None, "ms", more=more))
        figures += _arrow(name, server, key, seconds)
    return figures


def _figures(
    what: str,
    found: Measured,
    rate: float | None = None,
    p99: float | None = None,
    more: Mapping[str, float] | None = None,
) -> list[Figure]:
    rates = {"requests/s": round(found.rate), "p50 ms": found.p50, "p99.9 ms": found.p999, "errors": found.errors}
    more = {**rates, **(more or {})}
    mean = 1e6 / found.rate
    return [
        Figure(f"{what}: µs a request", mean, None, "µs", None if rate is None else 1e6 / rate, "value", more=more),
        Figure(f"{what}: p99", found.p99, None, "ms", p99, "value"),
    ]


def _arrow(name: str, server: HeadwaterServer, key: str, seconds: float) -> list[Figure]:
    """The Python client, Arrow beside JSON: one connection, a request after the other."""
    figures = []
    for batch in (100, 1_000):
        took = {}
        for form in ("arrow", "json"):
            with hw.Client(f"http://127.0.0.1:{server.port}", api_key=key, form=form) as client:
                reader, users = client.prepare(["view0:*"]), list(range(batch))
                reader.read(users).to_dict()
                began, count = time.perf_counter(), 0
                while time.perf_counter() - began < seconds / 4:
                    reader.read(users).to_dict()
                    count += 1
                took[form] = 1e3 * (time.perf_counter() - began) / count
        what = f"{name}, hw.Client, a view, {batch} entities: Arrow beside JSON"
        figures.append(Figure(what, took["arrow"], took["json"], "ms"))
    return figures


def _feast(
    redis: int, tables: Any, batches: tuple[int, ...], seconds: float, place: Path, options: Options
) -> list[Figure]:
    """Feast's own server on the same rows."""
    folder, now = place / "feast", datetime.now(UTC)
    folder.mkdir()
    write_tables(folder, list(range(USERS)), tables[:1], now)
    with Side(PEERS, FEAST, place) as side:
        side.ask("open", folder=str(folder), port=redis, offline="file")
        side.ask("apply", paths=[str(folder / "view0.parquet")], ttl_days=7)
        start, end = now - timedelta(days=1), now + timedelta(minutes=1)
        side.ask("materialize", start=start.isoformat(), end=end.isoformat())
    figures, rng = [], random.Random(options.seed)
    for restarts, label in ((0, "workers never restarted"), (1_000, "as it comes")):
        with _feast_server(folder / "file.db", redis, restarts) as port:
            for batch in batches:
                features = {"features": [f"view0:{name}" for name in (f"f{i}" for i in range(10))]}
                url = f"http://127.0.0.1:{port}/get-online-features"
                some = bodies(batch, features, rng)
                most(url, some, seconds / 4, place)
                found = most(url, some, seconds, place)
                figures += _figures(f"Feast ({label}), Redis, a view of ten features, {batch} entities", found)
    return figures


@contextmanager
def _feast_server(registry: Path, redis: int, restarts: int) -> Iterator[int]:
    port = free_port()
    line = [str(PEERS), "-m", "benchmarks.http.feast_server", str(registry), str(redis), str(port), "2", str(restarts)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log, env=environment())
        try:
            wait_until(lambda: _is_up(process, port, log), "Feast's server", 60)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_up(process: subprocess.Popen[bytes], port: int, log: Any) -> bool:
    if process.poll() is not None:
        log.seek(0)
        raise RuntimeError(f"Feast's server ended: {log.read()[-2_000:].decode(errors='replace')}")
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    parser = parser_of("http", __doc__ or "")
    parser.add_argument("--targets", action="store_true", help="what has a target alone, without Feast")
    given = parser.parse_args()
    options = Options(given.quick, given.seed, given.runs)
    if given.targets:
        publish("http_targets", options, measure_targets, "HTTP, what has a target")
    else:
        publish("http", options, measure, "HTTP")
