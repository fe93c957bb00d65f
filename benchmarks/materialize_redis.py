"""Materialize 1M rows of Parquet into 100k entities in Redis, beside DuckDB's arg_max and a guarded script of its own.

The raw script keeps a row only if it is newer by event time and created time, and no more of the contract; its rows are
two times and msgpack. Each measurement is a process of its own with an emptied server, ours and raw by turns; imports
and apply come before. Bytes a value are what the server's memory grew by, keys, expiry and overhead included. Then p99
of reads while runs go on in another process; the raw column of that row is the same idle.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import msgspec
import redis

from benchmarks import raw_redis
from benchmarks.figures import Figure, Options, run_script
from benchmarks.processes import alternately, answer_side
from benchmarks.projects import NAMES, Events, make_project, open_project, views, warm_up, write_events
from benchmarks.read_beside_writes import figures as figures_beside
from benchmarks.read_beside_writes import sizes, watch
from benchmarks.servers import redis_server
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.store import RedisOnlineStore
from tests.servers.redis import RedisServer

TTL_SECONDS = 7 * 86_400
BATCH, AHEAD = 128, 16
"""Rows of one script, scripts of one pipeline."""
GUARD = """
local stored, put = redis.call('MGET', unpack(KEYS)), {}
for i = 1, #KEYS do
  local old, newer = stored[i], true
  if old then
    local a1, a2, a3, a4 = struct.unpack('>I4I4I4I4', old)
    local b1, b2, b3, b4 = struct.unpack('>I4I4I4I4', ARGV[i])
    if a1 ~= b1 then newer = b1 > a1 elseif a2 ~= b2 then newer = b2 > a2
    elseif a3 ~= b3 then newer = b3 > a3 else newer = b4 >= a4 end
  end
  if newer then put[#put + 1] = KEYS[i]; put[#put + 1] = ARGV[i] end
end
if #put > 0 then redis.call('MSET', unpack(put)) end
return #put / 2
"""


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """The call; then its rows put again into the emptied server."""
    with tempfile.TemporaryDirectory() as scratch, redis.Redis(port=given["port"], socket_timeout=60) as client:
        folder = Path(scratch)
        warm_up(folder)
        make_project(folder / "project", online={"url": given["url"]})
        client.flushall()
        with open_project(folder / "project", Events(1, 1).end) as store:
            store.apply(views(given["events"]))
            before = _memory(client)
            began = time.perf_counter()
            report = store.materialize()
            seconds = time.perf_counter() - began
            size = _memory(client) - before
        puts = _puts(given["url"], client)
    return {"seconds": seconds, "keys": report.runs[0].applied, "bytes": size, **puts}


def _puts(url: str, client: redis.Redis) -> dict[str, float]:
    """Seconds that the guarded put of all rows takes, without and with an expiry."""
    store = RedisOnlineStore(url)
    rows = [(key, row) for key, row in store.scan(b"") if not key.startswith(META_PREFIX)]
    found = {}
    for name, expires in (("put", None), ("put with expiry", TTL_SECONDS)):
        client.flushall()
        began = time.perf_counter()
        applied = store.put(iter(rows), expires_in=expires)
        found[name] = time.perf_counter() - began
        assert len(applied) == len(rows) and all(applied)
    store.close()
    return found


def raw(given: dict[str, Any]) -> dict[str, Any]:
    """The newest row of each key by DuckDB, packed one by one, put by a guarded script in pipelines."""
    with redis.Redis(port=given["port"], socket_timeout=60) as client, duckdb.connect(":memory:") as database:
        database.execute("SET TimeZone = 'UTC'")
        encode = msgspec.msgpack.Encoder().encode
        row = ", ".join(f"{name} := {name}" for name in NAMES)
        client.flushall()
        sha, before = client.script_load(GUARD), _memory(client)
        began = time.perf_counter()
        table = database.sql(
            "SELECT user, epoch_us(max(event_time)) AS event, epoch_us(arg_max(created_time, event_time)) AS created, "
            f"unnest(arg_max(struct_pack({row}), event_time)) FROM read_parquet('{given['events']}') GROUP BY user"
        ).to_arrow_table()
        times = zip(table.column("event").to_pylist(), table.column("created").to_pylist(), strict=True)
        columns = [table.column(name).to_pylist() for name in NAMES]
        keys = [b"0:%d" % user for user in table.column("user").to_pylist()]
        rows = [struct.pack(">qq", *at) + encode(v) for at, v in zip(times, zip(*columns, strict=True), strict=True)]
        packed = time.perf_counter()
        _guarded(client, sha, keys, rows)
        ended = time.perf_counter()
        size = _memory(client) - before
    return {"seconds": ended - began, "put": ended - packed, "keys": len(rows), "bytes": size}


def _guarded(client: redis.Redis, sha: str, keys: Sequence[bytes], rows: Sequence[bytes]) -> None:
    for first in range(0, len(rows), BATCH * AHEAD):
        with client.pipeline(transaction=False) as pipeline:
            for start in range(first, min(first + BATCH * AHEAD, len(rows)), BATCH):
                part = slice(start, start + BATCH)
                pipeline.evalsha(sha, len(keys[part]), *keys[part], *rows[part])
            pipeline.execute()


def _memory(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def measure(options: Options) -> list[Figure]:
    """A run from nothing, its puts alone, bytes; then reads beside runs."""
    keys = 10_000 if options.quick else 100_000
    runs = options.runs or (1 if options.quick else 7)
    with tempfile.TemporaryDirectory() as scratch, redis_server() as server:
        path = Path(scratch) / "events.parquet"
        write_events(path, Events(keys * 10, keys), options.seed + 10)
        given = {"events": str(path), "port": server.port, "url": server.url}
        found = alternately("benchmarks.materialize_redis", ("ours", "raw"), given, runs)
    return [*_figures(found, keys * 10), *_beside(options)]


def _figures(found: dict[str, list[dict[str, Any]]], rows: int) -> list[Figure]:
    entities = found["ours"][0]["keys"]
    seconds = {side: sorted(a["seconds"] for a in answers) for side, answers in found.items()}
    puts = {side: [a["put"] for a in answers] for side, answers in found.items()}
    expiring = median(a["put with expiry"] for a in found["ours"])
    size = {side: median(a["bytes"] / a["keys"] / len(NAMES) for a in answers) for side, answers in found.items()}
    best = {"best": f"{seconds['ours'][0]:.2f} / {seconds['raw'][0]:.2f}"}
    runs, name = len(found["ours"]), f"{entities:,} entities"
    return [
        Figure(
            f"Redis: materialize {rows:,} rows, {name}",
            *_both({side: median(every) for side, every in seconds.items()}),
            "s",
            1.0,
            "value",
            runs,
            {**best, "peak MB": round(max(a["peak_mb"] for a in found["ours"]))},
        ),
        Figure(
            f"Redis: guarded put of {entities:,} packed rows alone, by script",
            *_both({side: median(every) for side, every in puts.items()}),
            "s",
            runs=runs,
            more={"with expiry": expiring, "best": f"{min(puts['ours']):.2f} / {min(puts['raw']):.2f}"},
        ),
        Figure(f"Redis: bytes per float64 value, {name} x {len(NAMES)}", *_both(size), "bytes", 30.0, "value", runs),
    ]


def _both(found: dict[str, float]) -> tuple[float, float]:
    return found["ours"], found["raw"]


def _beside(options: Options) -> list[Figure]:
    users, table, rows = sizes(options)
    with tempfile.TemporaryDirectory() as scratch, redis_server() as server, redis.Redis(port=server.port) as client:
        found = _watched(Path(scratch) / "project", server, client, users, table, rows, options)
    return figures_beside(found, rows, "Redis", "the same of raw MGETs of keys that nobody writes to, same server")


def _watched(
    folder: Path, server: RedisServer, client: redis.Redis, users: list[Any], table: Any, rows: int, options: Options
) -> dict[str, list[Any]]:
    raw_redis.fill(client, users, [table])
    return watch(folder, users, rows, raw_redis.lists(client, 1), options, {"url": server.url})


if __name__ == "__main__" and not answer_side({"ours": ours, "raw": raw}):
    run_script("materialize_redis", __doc__ or "", measure)
