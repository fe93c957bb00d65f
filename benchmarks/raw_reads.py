"""Raw reads to read beside, one msgpack row an entity, decoded row by row: LMDB's, and how both sides are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.projects import NAMES, Features

Reads = Callable[[list[Any]], Any]


def rows(users: Sequence[Any], tables: Sequence[Features]) -> list[tuple[bytes, bytes]]:
    """Key and row of each user in each table (users x features)."""
    encode = msgspec.msgpack.Encoder().encode
    return [
        (f"{v}:{user}".encode(), encode(row))
        for v, table in enumerate(tables)
        for user, row in zip(users, table.tolist(), strict=True)
    ]


def columns(views: int) -> list[list[str]]:
    """The features' names of each view."""
    return [[f"v{v}_{name}" for name in NAMES] for v in range(views)]


def fill(path: Path, users: Sequence[Any], tables: Sequence[Features]) -> lmdb.Environment:
    """An environment with a row of each table for each user."""
    environment = lmdb.open(str(path), map_size=1 << 34)
    with environment.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(sorted(rows(users, tables)))
    return environment


def lists(environment: lmdb.Environment, views: int) -> Reads:
    """A read of all features of some users into a dict of lists, as `to_dict()` gives it."""
    decode: Callable[[Any], list[float]] = msgspec.msgpack.Decoder(list[float]).decode
    names = columns(views)

    def read(users: list[Any]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {"user": list(users)}
        with environment.begin() as txn:
            get = txn.get
            for v in range(views):
                found = [decode(get(f"{v}:{user}".encode())) for user in users]
                out.update(zip(names[v], map(list, zip(*found, strict=True)), strict=True))
        return out

    return read


def matrix(environment: lmdb.Environment, views: int) -> Reads:
    """A read of all features of some users into a float32 matrix, as `to_numpy("float32")` gives it."""
    decode: Callable[[Any], list[float]] = msgspec.msgpack.Decoder(list[float]).decode

    def read(users: list[Any]) -> NDArray[np.float32]:
        with environment.begin() as txn:
            get = txn.get
            parts = [[decode(get(f"{v}:{user}".encode())) for user in users] for v in range(views)]
            return np.concatenate([np.array(part, np.float32) for part in parts], axis=1)

    return read


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile."""
    middle, high = np.percentile(np.fromiter(seconds, float), (50, 99))
    return float(middle), float(high)


def by_turns(ours: Reads, raw: Reads, picks: Sequence[list[Any]]) -> tuple[list[float], list[float]]:
    """Microseconds of each read of both sides: the same keys, one after the other, by turns who is first."""
    times: tuple[list[float], list[float]] = ([], [])
    for i, keys in enumerate(picks):
        for side in (0, 1) if i % 2 else (1, 0):
            work = raw if side else ours
            began = time.perf_counter()
            work(keys)
            times[side].append((time.perf_counter() - began) * 1e6)
    return times


def check(ours: Reads, raw: Reads, users: list[Any]) -> None:
    """Both sides give the same."""
    mine, theirs = ours(users), raw(users)
    assert mine == theirs if isinstance(mine, dict) else np.array_equal(mine, theirs)
