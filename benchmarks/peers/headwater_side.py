"""headwater's side: reads through a prepared reader into `to_dict()`; see `sides.answer`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import headwater as hw
from benchmarks.peers.sides import answer, timed
from benchmarks.projects import NAMES, START, make_project, views, warm_up


class Headwater:
    """One project, on a clock that stands where it was opened, or where the last run ended."""

    def __init__(self) -> None:
        self._folder = Path()
        self._now = START
        self._store: Any = None
        self._readers: dict[int, Any] = {}

    def open(self, folder: str, port: int, now: str) -> None:
        """A project of a folder."""
        self._folder, self._now = Path(folder), datetime.fromisoformat(now)
        warm_up(self._folder)
        make_project(self._folder / "project", online={"url": f"redis://127.0.0.1:{port}/0"})
        self._store = hw.FeatureStore(self._folder / "project", clock=lambda: self._now)

    def apply(self, path: str, count: int, ttl_days: int) -> None:
        """Views `view0` … of Parquet files."""
        self._store.apply(views(path, count=count, ttl=f"{ttl_days}d" if ttl_days else None))

    def materialize(self, end: str) -> float:
        """Seconds."""
        self._now = datetime.fromisoformat(end)
        began = time.perf_counter()
        self._store.materialize()
        return time.perf_counter() - began

    def _read(self, count: int) -> Callable[[list[int]], dict[str, list[Any]]]:
        if count not in self._readers:
            self._readers[count] = self._store.prepare([f"view{v}:*" for v in range(count)])
        reader = self._readers[count]
        return lambda users: reader.read(users).to_dict()

    def read(self, views: int, picks: list[list[int]]) -> list[float]:
        """Microseconds of each read."""
        return timed(self._read(views), picks)

    def values(self, views: int, users: list[int]) -> list[list[float]]:
        """All features of some users, in order of view and name."""
        found = self._read(views)(users)
        return [found[f"v{v}_{name}"] for v in range(views) for name in NAMES]

    def history(self, spine: str) -> dict[str, float]:
        """Seconds and rows of a join to `view0`."""
        table = pq.read_table(spine)
        began = time.perf_counter()
        rows = self._store.get_historical_features(table, ["view0:*"]).to_arrow().num_rows
        return {"seconds": time.perf_counter() - began, "rows": rows}


if __name__ == "__main__":
    side = Headwater()
    names = ("open", "apply", "materialize", "read", "values", "history")
    answer({name: getattr(side, name) for name in names})
