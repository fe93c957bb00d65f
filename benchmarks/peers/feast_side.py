"""Feast's side: its Python SDK, reads from Redis through `get_online_features(…).to_dict()`; see `sides.answer`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

from benchmarks.peers.sides import answer, timed

NAMES = [f"f{i}" for i in range(10)]


class Feast:
    """One project.

    Names are full (`view0__f0`): without that its precomputed services cannot be read.
    """

    def __init__(self) -> None:
        self._store: FeatureStore = None
        self._reads: dict[str, Any] = {}

    def version(self) -> str:
        """Of the package."""
        return version("feast")

    def open(self, folder: str, port: int, offline: str) -> None:
        """A project of a folder; `offline` is `file` or `duckdb`."""
        self._store = FeatureStore(
            config=RepoConfig(
                project="bench",
                registry=str(Path(folder) / f"{offline}.db"),
                provider="local",
                online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
                offline_store={"type": offline},
                entity_key_serialization_version=3,
            )
        )

    def apply(self, paths: list[str], ttl_days: int) -> None:
        """Views `view0` … of Parquet files."""
        user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
        schema = [Field(name="user", dtype=Int64), *(Field(name=name, dtype=Float64) for name in NAMES)]
        views = [
            FeatureView(
                name=f"view{v}",
                entities=[user],
                ttl=timedelta(days=ttl_days),
                schema=schema,
                source=FileSource(path=path, timestamp_field="event_time", created_timestamp_column="created_time"),
                online=True,
            )
            for v, path in enumerate(paths)
        ]
        self._store.apply([user, *views])

    def materialize(self, start: str, end: str) -> float:
        """Seconds."""
        began = time.perf_counter()
        self._store.materialize(datetime.fromisoformat(start), datetime.fromisoformat(end))
        return time.perf_counter() - began

    def service(self, views: int, precomputed: bool) -> float:
        """Apply a service of some views; precomputed: seconds that writing its vectors takes."""
        name = f"{'precomputed' if precomputed else 'service'}{views}"
        members = [self._store.get_feature_view(f"view{v}") for v in range(views)]
        self._store.apply([FeatureService(name=name, features=members, precompute_online=precomputed)])
        began = time.perf_counter()
        if precomputed:
            self._store.precompute_feature_service(name)
        return time.perf_counter() - began

    def _read(self, name: str) -> Callable[[list[int]], dict[str, list[Any]]]:
        if name not in self._reads:
            self._reads[name] = self._store.get_feature_service(name)
        service, store = self._reads[name], self._store
        return lambda users: store.get_online_features(
            features=service, entity_rows={"user": users}, full_feature_names=True
        ).to_dict()

    def read(self, service: str, picks: list[list[int]]) -> list[float]:
        """Microseconds of each read."""
        return timed(self._read(service), picks)

    def values(self, service: str, views: int, users: list[int]) -> list[list[float]]:
        """All features of some users, in order of view and name."""
        found = self._read(service)(users)
        return [found[f"view{v}__{name}"] for v in range(views) for name in NAMES]

    def history(self, spine: str) -> dict[str, float]:
        """Seconds and rows of a join to `view0`."""
        table = pq.read_table(spine).to_pandas().rename(columns={"timestamp": "event_timestamp"})
        began = time.perf_counter()
        job = self._store.get_historical_features(entity_df=table, features=[f"view0:{name}" for name in NAMES])
        rows = job.to_arrow().num_rows
        return {"seconds": time.perf_counter() - began, "rows": rows}


if __name__ == "__main__":
    feast = Feast()
    names = ("version", "open", "apply", "materialize", "service", "read", "values", "history")
    answer({name: getattr(feast, name) for name in names})
