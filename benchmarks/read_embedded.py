"""Reads from the embedded store, beside raw LMDB gets with row-by-row msgspec decoding, side by side in one run.

    python benchmarks/read_embedded.py [--entities 100000] [--repeat 400] [--json]

Each measured pair alternates, so that both see the same machine; figures are medians in microseconds, from keys to a
dict of lists.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import lmdb
import msgspec
import numpy as np
import pyarrow as pa

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.online.reader import OnlineReader
from headwater.online.stores.lmdb import LMDBOnlineStore
from headwater.online.view_rows import ViewRows
from headwater.planning.resolve import resolve, whole_view
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.types import Float64, Int64, String

EVENT = 1_700_000_000_000_000
NOW = EVENT + 60_000_000
NAMES = [f"f{i}" for i in range(10)]


def snapshot_of(views: list[FeatureView]) -> RegistrySnapshot:
    when = datetime(2024, 1, 1, tzinfo=UTC)
    records = {
        v.name: ViewRecord(v.name, {"1.0.0": ViewVersion(v, fingerprint(v), False, when, when)}, live="1.0.0")
        for v in views
    }
    return RegistrySnapshot("bench", 1, {}, records)


def make_views(count: int, key_type: Any) -> list[FeatureView]:
    user = Entity("user", {"user": key_type})
    return [
        FeatureView(
            f"view{v}",
            entity=user,
            source=PushSource(event_time="ts"),
            version="1.0.0",
            ttl="7d",
            freshness_sla="1d",
            features=[Feature(f"v{v}_{name}", Float64) for name in NAMES],
        )
        for v in range(count)
    ]


def fill(store: LMDBOnlineStore, snapshot: RegistrySnapshot, users: list[Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(users))
    for record in snapshot.views.values():
        view = whole_view(record, record.version())
        columns = {name: rng.random(len(users)) for name in view.view.feature_names}
        stamps = pa.array(np.full(len(users), EVENT), pa.int64())
        batch = pa.record_batch(
            {
                "user": pa.array([users[i] for i in order]),
                "__event": stamps,
                "__created": stamps,
                "__origin": pa.array(np.zeros(len(users)), pa.int8()),
                "__position": pa.array(np.zeros(len(users)), pa.int64()),
                **columns,
            }
        )
        store.put(ViewRows("bench", view).encode(batch))


def fill_raw(env: lmdb.Environment, users: list[Any], views: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        (f"{v}:{user}".encode(), msgspec.msgpack.encode(row))
        for v in range(views)
        for user, row in zip(users, rng.random((len(users), 10)).tolist(), strict=True)
    ]
    with env.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(sorted(rows))


def raw_read(env: lmdb.Environment, views: int) -> Callable[[list[Any]], dict[str, list[Any]]]:
    decode = msgspec.msgpack.Decoder(list[float]).decode

    def read(users: list[Any]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {"user": list(users)}
        with env.begin() as txn:
            get = txn.get
            for v in range(views):
                rows = [decode(get(f"{v}:{user}".encode())) for user in users]
                out.update(zip([f"v{v}_{name}" for name in NAMES], map(list, zip(*rows, strict=True)), strict=True))
        return out

    return read


def raw_matrix(env: lmdb.Environment) -> Callable[[list[Any]], np.ndarray]:
    decode = msgspec.msgpack.Decoder(list[float]).decode

    def read(users: list[Any]) -> np.ndarray:
        with env.begin() as txn:
            get = txn.get
            return np.array([decode(get(f"0:{user}".encode())) for user in users], "float32")

    return read


def side_by_side(a: Callable[[Any], Any], b: Callable[[Any], Any], picks: list[Any]) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for i, pick in enumerate(picks):
        for side in (0, 1) if i % 2 else (1, 0):
            work = (a, b)[side]
            start = time.perf_counter()
            work(pick)
            times[side].append(time.perf_counter() - start)
    return median(times[0]) * 1e6, median(times[1]) * 1e6


def measure(entities: int, repeat: int) -> list[dict[str, Any]]:
    texts, numbers = [f"user-{i:07d}" for i in range(entities)], [i * 7919 for i in range(entities)]
    return [*measure_keys(String, texts, repeat), *measure_keys(Int64, numbers, repeat)]


def measure_keys(key_type: Any, users: list[Any], repeat: int) -> list[dict[str, Any]]:
    rng, results = random.Random(7), []

    def record(what: str, ours: float, raw: float | None, ratio: float) -> None:
        results.append({"what": what, "key": str(key_type), "ours": ours, "raw": raw, "ratio": ratio})

    with tempfile.TemporaryDirectory() as folder:
        snapshot = snapshot_of(make_views(5, key_type))
        store = LMDBOnlineStore(Path(folder) / "online")
        fill(store, RegistrySnapshot("bench", 1, {}, {"view0": snapshot.views["view0"]}), users, 1)
        size = int(store.info()["bytes"]) / len(users)
        record("bytes an entity, of 250", size, None, size / 250)
        fill(store, snapshot, users, 1)
        env = lmdb.open(str(Path(folder) / "raw"), map_size=1 << 34)
        fill_raw(env, users, 5, 1)
        one = OnlineReader(resolve(snapshot, ["view0:*"]), store, "bench")
        five = OnlineReader(resolve(snapshot, [f"view{v}:*" for v in range(5)]), store, "bench")
        for count in (1, 10, 100, 1_000):
            picks = [rng.sample(users, count) for _ in range(repeat if count < 1_000 else repeat // 4)]
            ours, raw = side_by_side(lambda keys: one.read(keys, now=NOW).to_dict(), raw_read(env, 1), picks)
            record(f"{count} keys, to_dict", ours, raw, ours / raw)
            ours, raw = side_by_side(lambda keys: one.read(keys, now=NOW).to_numpy(), raw_matrix(env), picks)
            record(f"{count} keys, to_numpy", ours, raw, ours / raw)
        picks = [rng.sample(users, 100) for _ in range(repeat)]
        ours, raw = side_by_side(lambda keys: five.read(keys, now=NOW).to_dict(), raw_read(env, 5), picks)
        record("5 views, 100 keys, to_dict", ours, raw, ours / raw)
        store.close()
        env.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure(options.entities, options.repeat)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'':32}{'key':8}{'ours':>10}{'raw':>10}{'ratio':>8}")
    for r in results:
        raw = "" if r["raw"] is None else f"{r['raw']:.1f}"
        print(f"{r['what']:32}{r['key']:8}{r['ours']:10.1f}{raw:>10}{r['ratio']:8.2f}")


if __name__ == "__main__":
    main()
