"""Reads from the embedded store through a prepared reader, beside raw LMDB gets with row-by-row msgspec decoding.

From keys to a dict of lists (`to_dict`), or to a float32 matrix (`to_numpy`); ours checks ttl, freshness and status of
every value on the way. Each pair of reads takes the same keys, one after the other, by turns who is first.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import lmdb

import headwater as hw
from benchmarks import raw_reads
from benchmarks.figures import Figure, Options, run_script
from benchmarks.projects import NAMES, filled_project, random_features
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
    tables = random_features(len(users), 5, seed)
    environment = raw_reads.fill(folder / "raw", users, tables)
    with filled_project(folder / "project", users, tables, dtype) as store:
        for count in (1, 5):
            reader = store.prepare([f"view{v}:*" for v in range(count)])
            for _, ours, raw in _forms(reader, environment, count):
                raw_reads.check(ours, raw, users[:50])
            for keys in (1, 10, 100, 1_000):
                picks = [rng.sample(users, keys) for _ in range(repeats if keys < 1_000 else repeats // 6)]
                about = f"{keys} {dtype} keys, {count} view{'s' * (count > 1)} x {len(NAMES)}"
                for form, ours, raw in _forms(reader, environment, count):
                    mine, theirs = map(percentiles, raw_reads.by_turns(ours, raw, picks))
                    figures.append(_figure(f"read {about}, {form}", keys, count, form, mine, theirs))
    environment.close()
    return figures


def _forms(reader: Any, environment: lmdb.Environment, count: int) -> list[tuple[str, Reads, Reads]]:
    return [
        ("to_dict", lambda keys: reader.read(keys).to_dict(), raw_reads.lists(environment, count)),
        ("to_numpy", lambda keys: reader.read(keys).to_numpy("float32"), raw_reads.matrix(environment, count)),
    ]


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
