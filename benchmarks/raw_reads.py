"""The raw store to read beside: LMDB with one msgpack row an entity, got and decoded row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.projects import NAMES

Reads = Callable[[list[Any]], Any]


def fill(path: Path, users: Sequence[Any], tables: Sequence[NDArray[np.float64]]) -> lmdb.Environment:
    """An environment with a row of each table (users x features) for each user."""
    encode = msgspec.msgpack.Encoder().encode
    rows = [
        (f"{v}:{user}".encode(), encode(row))
        for v, table in enumerate(tables)
        for user, row in zip(users, table.tolist(), strict=True)
    ]
    environment = lmdb.open(str(path), map_size=1 << 34)
    with environment.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(sorted(rows))
    return environment


def lists(environment: lmdb.Environment, views: int) -> Reads:
    """A read of all features of some users into a dict of lists, as `to_dict()` gives it."""
    decode: Callable[[Any], list[float]] = msgspec.msgpack.Decoder(list[float]).decode
    names = [[f"v{v}_{name}" for name in NAMES] for v in range(views)]

    def read(users: list[Any]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {"user": list(users)}
        with environment.begin() as txn:
            get = txn.get
            for v in range(views):
                rows = [decode(get(f"{v}:{user}".encode())) for user in users]
                out.update(zip(names[v], map(list, zip(*rows, strict=True)), strict=True))
        return out

    return read


def matrix(environment: lmdb.Environment, views: int) -> Reads:
    """A read of all features of some users into a float32 matrix, as `to_numpy()` gives it."""
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
