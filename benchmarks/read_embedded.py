"""Reads from the embedded store through a prepared reader, beside raw LMDB gets with row-by-row msgspec decoding.

From keys to a dict of lists (`to_dict`), or to a float32 matrix (`to_numpy`); ours checks ttl, freshness and status of
every value on the way. Each pair of reads takes the same keys, one after the other, by turns who is first.
"""

from __future__ import annotations

import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import headwater as hw
from benchmarks import raw_reads
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import MICROS, NAMES, make_project, views
from benchmarks.raw_reads import Reads, percentiles

TARGETS = {1: 20.0, 10: 30.0}
"""Microseconds, of reads of few keys; of more it is the ratio."""


def measure(options: Options) -> list[Figure]:
    """Text keys, then integers."""
    entities, repeats = (2_000, 60) if options.quick else (100_000, 3_000)
    texts: list[Any] = [f"user-{i:07d}" for i in range(entities)]
    numbers: list[Any] = [i * 7919 for i in range(entities)]
    figures = []
    for users, dtype in ((texts, hw.String), (numbers, hw.Int64)):
        with tempfile.TemporaryDirectory() as scratch:
            figures += _of_keys(Path(scratch), users, dtype, repeats, options.seed)
    return figures


def _of_keys(folder: Path, users: list[Any], dtype: hw.DType, repeats: int, seed: int) -> list[Figure]:
    rng, figures = random.Random(seed), []
    tables = [np.random.default_rng(seed + v).standard_normal((len(users), len(NAMES))) for v in range(5)]
    environment = raw_reads.fill(folder / "raw", users, tables)
    with _filled(folder, users, dtype, tables) as store:
        for count in (1, 5):
            reader = store.prepare([f"view{v}:*" for v in range(count)])
            _check(reader, environment, count, users[:50])
            for keys in (1, 10, 100, 1_000):
                picks = [rng.sample(users, keys) for _ in range(repeats if keys < 1_000 else repeats // 6)]
                about = f"{keys} {dtype} keys, {count} view{'s' * (count > 1)} x {len(NAMES)}"
                for form, ours, raw in _forms(reader, environment, count):
                    mine, theirs = _by_turns(ours, raw, picks)
                    figures.append(_figure(f"read {about}, {form}", keys, count, form, mine, theirs))
    environment.close()
    return figures


def _forms(reader: Any, environment: lmdb.Environment, count: int) -> list[tuple[str, Reads, Reads]]:
    return [
        ("to_dict", lambda keys: reader.read(keys).to_dict(), raw_reads.lists(environment, count)),
        ("to_numpy", lambda keys: reader.read(keys).to_numpy(), raw_reads.matrix(environment, count)),
    ]


def _filled(
    folder: Path, users: list[Any], dtype: hw.DType, tables: list[np.ndarray[Any, np.dtype[np.float64]]]
) -> hw.FeatureStore:
    """A store with a row of each view for each user."""
    project = folder / "project"
    make_project(project)
    when = pa.array([datetime.now(UTC) - timedelta(hours=1)] * len(users), MICROS)
    for v, table in enumerate(tables):
        columns = {name: table[:, i] for i, name in enumerate(NAMES)}
        pq.write_table(
            pa.table({"user": users, "event_time": when, "created_time": when, **columns}), project / f"view{v}.parquet"
        )
    store = hw.FeatureStore(project)
    store.apply(views("view{view}.parquet", count=len(tables), key=dtype))
    store.materialize()
    return store


def _check(reader: Any, environment: lmdb.Environment, count: int, users: list[Any]) -> None:
    """Both sides give the same."""
    for _, ours, raw in _forms(reader, environment, count):
        mine, theirs = ours(users), raw(users)
        assert mine == theirs if isinstance(mine, dict) else np.array_equal(mine, theirs)


def _by_turns(ours: Reads, raw: Reads, picks: list[list[Any]]) -> tuple[tuple[float, float], tuple[float, float]]:
    times: tuple[list[float], list[float]] = ([], [])
    for i, keys in enumerate(picks):
        for side in (0, 1) if i % 2 else (1, 0):
            work = raw if side else ours
            began = time.perf_counter()
            work(keys)
            times[side].append((time.perf_counter() - began) * 1e6)
    return percentiles(times[0]), percentiles(times[1])


def _figure(
    what: str, keys: int, count: int, form: str, mine: tuple[float, float], theirs: tuple[float, float]
) -> Figure:
    target: float | None = None
    if count == 1:
        target = (1.1 if form == "to_dict" else 0.85) if keys >= 100 else TARGETS[keys] if form == "to_dict" else None
    more = {"p99": f"{mine[1]:.0f} / {theirs[1]:.0f}"}
    return Figure(what, mine[0], theirs[0], "µs", target, "ratio" if keys >= 100 else "value", 1, more)


if __name__ == "__main__":
    run_script("read_embedded", __doc__ or "", measure)
