"""The part of the suite of online stores about loss: rows that are lost take the watermark along, and come again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import ParquetSource
from headwater.definitions.view import FeatureView
from headwater.online.base import OnlineStore
from headwater.store import FeatureStore
from headwater.types import Int64

_START = datetime(2024, 3, 10, tzinfo=UTC)
_THING = Entity("thing", {"id": Int64})
_IDS = list(range(9))


class _Filled:
    """A project whose rows come from a file and from writes, on the store to be proven."""

    def __init__(self, folder: Path, online: OnlineStore) -> None:
        self.now = _START
        self.file = folder / "rows.parquet"
        self.rows: list[dict[str, Any]] = []
        self.store = FeatureStore(folder, online=online, clock=lambda: self.now)
        self.grow([0, 1, 2])
        source = ParquetSource(str(self.file), event_time="at")
        self.store.apply([FeatureView("v", entity=_THING, source=source, features=[Feature("x", Int64)])])

    def grow(self, ids: list[int]) -> None:
        """Rows with a value of their own, days after the last ones: further apart than a run looks back."""
        self.now += timedelta(days=7)
        self.rows += [{"id": i, "at": self.now, "x": len(self.rows) + i} for i in ids]
        pq.write_table(pa.Table.from_pylist(self.rows), self.file)

    def write(self, ids: list[int], to: str = "both") -> None:
        """Rows for the log."""
        self.now += timedelta(days=7)
        self.store.write("v", [{"id": i, "at": self.now, "x": 1_000 + i} for i in ids], to=to)

    def check(self) -> None:
        """Online is what history is now, for every key."""
        spine = pa.table({"id": _IDS, "timestamp": [self.now] * len(_IDS)})
        expected = self.store.get_historical_features(spine, ["v:x"]).to_arrow().column("x").to_pylist()
        assert self.store.get_online_features(["v:x"], _IDS, now=self.now).to_dict()["x"] == expected


class OnlineRefillSuite:
    """Part of `OnlineStoreSuite`, which says what a subclass gives."""

    def raw_set(self, store: Any, key: bytes, data: bytes) -> None:
        """Set the bytes under a key, by the vendor's client."""
        raise NotImplementedError

    def test_an_emptied_store_is_filled_by_the_next_run(self, store: OnlineStore, tmp_path: Path) -> None:
        filled = _Filled(tmp_path, store)
        filled.write([2, 3])
        filled.store.materialize()
        filled.grow([1, 4])
        filled.store.materialize()
        filled.store.delete("v", [0])
        filled.check()
        store.delete([key for key, _ in store.scan(b"")])
        assert filled.store.get_online_features(["v:x"], _IDS).to_dict()["x"] == [None] * len(_IDS)
        filled.store.materialize()
        filled.check()
        filled.store.close()

    def test_a_store_restored_from_an_old_copy_is_made_whole_by_the_next_run(
        self, store: OnlineStore, tmp_path: Path
    ) -> None:
        filled = _Filled(tmp_path, store)
        filled.write([2, 3])
        filled.store.materialize()
        copy = dict(store.scan(b""))
        filled.grow([1, 4])
        filled.write([5])
        filled.store.materialize()
        filled.write([6])
        filled.write([7], to="offline")
        filled.store.delete("v", [0, 2])
        filled.store.materialize()
        filled.check()
        store.delete([key for key, _ in store.scan(b"")])
        for key, data in copy.items():
            self.raw_set(store, key, data)
        filled.store.materialize()
        filled.check()
        filled.store.close()
