"""Reads from an emulated DynamoDB (moto) through a prepared reader, beside raw BatchGetItem with msgspec decoding.

The emulator is a Python process that serves one request at a time: its time, not DynamoDB's, fills most of each figure;
what can be seen is what a read adds to its requests. It takes longer the more attributes an item has, so that the raw
items are of headwater's form: a key of two parts, the row, and three short attributes. Both sides ask for 100 keys at a
time, several chunks at once; the raw ones by boto3, the asynchronous raw ones by aiobotocore.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session

import headwater as hw
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import NAMES, Features, filled_project, random_features
from benchmarks.raw_reads import Reads, by_turns, check, percentiles, rows
from benchmarks.raw_redis import AsyncReads, async_by_turns, async_dicts, keys, to_lists
from benchmarks.servers import dynamodb_server
from tests.servers.dynamodb import REGION, DynamoDBServer

TABLE, CHUNK, PUT = "raw", 100, 25
OTHERS = {"o": {"B": bytes(25)}, "s": {"N": "1"}, "t": {"N": "2000000000"}}
REPEATS = {1: 200, 10: 200, 100: 60, 1_000: 12}
"""Keys of a read → how many reads."""
BUCKETS = 32
"""Partitions that the raw rows lie in."""
Found = dict[bytes, bytes]


def measure(options: Options) -> list[Figure]:
    """Synchronous and asynchronous reads of few and many keys; then how long the rows took to put."""
    entities, repeats = (110, dict.fromkeys(REPEATS, 4)) if options.quick else (1_000, REPEATS)
    users: list[Any] = list(range(entities))
    tables = random_features(entities, 1, options.seed)
    rng = random.Random(options.seed)
    picks = {
        count: [rng.sample(users, count) for _ in range(times)] for count, times in repeats.items() if count <= entities
    }
    with tempfile.TemporaryDirectory() as scratch, dynamodb_server() as server:
        raw_seconds = _fill(server, users, tables)
        began = time.perf_counter()
        folder = Path(scratch) / "project"
        with filled_project(folder, users, tables, online={"url": server.url("headwater")}) as store:
            seconds = time.perf_counter() - began
            figures = _latencies(store, server, picks)
        figures += asyncio.run(_async_latencies(folder, server, picks))
    what = f"DynamoDB (emulator): put {entities:,} rows, guarded, beside BatchWriteItem, which has no guard"
    return [*figures, Figure(what, seconds, raw_seconds, "s", note="ours with apply and the reading of the source")]


def _fill(server: DynamoDBServer, users: Sequence[Any], tables: Sequence[Features]) -> float:
    """Seconds that it takes to put a row for each user."""
    server.client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "k", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "B"} for name in "pk"],
        BillingMode="PAY_PER_REQUEST",
    )
    every, began = rows(users, tables), time.perf_counter()
    for first in range(0, len(every), PUT):
        items = [{**_address(key), "r": {"B": row}, **OTHERS} for key, row in every[first : first + PUT]]
        server.client.batch_write_item(RequestItems={TABLE: [{"PutRequest": {"Item": item}} for item in items]})
    return time.perf_counter() - began


def _address(key: bytes) -> dict[str, dict[str, bytes]]:
    return {"p": {"B": bytes((zlib.crc32(key) % BUCKETS,))}, "k": {"B": key}}


def _latencies(store: hw.FeatureStore, server: DynamoDBServer, picks: dict[int, list[list[Any]]]) -> list[Figure]:
    reader, figures = store.prepare(["view0:*"]), []
    with ThreadPoolExecutor(10) as threads:
        raw = _lists(server.client, threads)
        check(lambda keys: reader.read(keys).to_dict(), raw, picks[100][0])
        for count, every in picks.items():
            mine, theirs = by_turns(lambda keys: reader.read(keys).to_dict(), raw, every)
            figures.append(_figure(count, "to_dict", mine, theirs))
    return figures


def _figure(count: int, form: str, mine: list[float], theirs: list[float]) -> Figure:
    ours, raw = percentiles(mine), percentiles(theirs)
    what = f"DynamoDB (emulator): read {count:,} key{'s' * (count > 1)}, 1 view x {len(NAMES)}, {form}"
    more = {"p99": f"{ours[1]:,.0f} / {raw[1]:,.0f}"}
    return Figure(what, ours[0], raw[0], "µs", runs=len(mine), more=more)


def _keys(users: list[Any]) -> list[bytes]:
    return [key.encode() for key in keys(users, 1)]


def _chunks(users: list[Any]) -> list[dict[str, Any]]:
    """The requests for some users' rows."""
    wanted = [_address(key) for key in _keys(users)]
    asked = {"ProjectionExpression": "k, r, o, s, d, q"}
    return [{TABLE: {"Keys": wanted[first : first + CHUNK], **asked}} for first in range(0, len(wanted), CHUNK)]


def _items(answer: dict[str, Any]) -> Found:
    assert not answer["UnprocessedKeys"]
    return {item["k"]["B"]: item["r"]["B"] for item in answer["Responses"][TABLE]}


def _lists(client: Any, threads: ThreadPoolExecutor) -> Reads:
    turn = to_lists(1)

    def get(request: dict[str, Any]) -> Found:
        return _items(client.batch_get_item(RequestItems=request))

    def read(users: list[Any]) -> dict[str, list[Any]]:
        chunks = _chunks(users)
        found: Found = {}
        for part in map(get, chunks) if len(chunks) == 1 else threads.map(get, chunks):
            found |= part
        return turn(users, [found[key] for key in _keys(users)])

    return read


def _async_lists(client: Any) -> AsyncReads:
    turn = to_lists(1)

    async def read(users: list[Any]) -> dict[str, list[Any]]:
        found: Found = {}
        asked = [client.batch_get_item(RequestItems=request) for request in _chunks(users)]
        for answer in await asyncio.gather(*asked):
            found |= _items(answer)
        return turn(users, [found[key] for key in _keys(users)])

    return read


async def _async_latencies(folder: Path, server: DynamoDBServer, picks: dict[int, list[list[Any]]]) -> list[Figure]:
    figures = []
    made = get_session().create_client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    async with hw.AsyncFeatureStore(folder) as store, made as client:
        reader = await store.prepare(["view0:*"])
        for count, every in picks.items():
            mine, theirs = await async_by_turns(async_dicts(reader), _async_lists(client), every)
            figures.append(_figure(count, "async to_dict", mine, theirs))
    return figures


if __name__ == "__main__":
    run_script("read_dynamodb", __doc__ or "", measure)
