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
from headwater.online.rows.keys import META_PREFIX
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

    def test_a_store_failed_over_to_a_replica_that_lacks_rows_is_made_whole_by_the_next_run(
        self, store: OnlineStore, tmp_path: Path
    ) -> None:
        filled = _Filled(tmp_path, store)
        filled.write([2, 3])
        filled.store.materialize()
        behind = dict(store.scan(b""))
        filled.grow([0, 1, 4, 5])
        filled.write([2, 6])
        filled.store.delete("v", [1, 3])
        filled.store.materialize()
        ahead = dict(store.scan(b""))
        filled.check()
        # it has some of the rows that were written last, and the watermark of before, which comes after its rows
        for chance in (0, 1):
            store.delete(ahead)
            for place, key in enumerate(sorted(ahead)):
                data = ahead[key] if place % 2 == chance and not key.startswith(META_PREFIX) else behind.get(key)
                if data is not None:
                    self.raw_set(store, key, data)
            filled.store.materialize()
            filled.check()
        filled.store.close()

    def test_a_row_from_the_future_goes_online_when_its_time_comes(self, store: OnlineStore, tmp_path: Path) -> None:
        filled = _Filled(tmp_path, store)
        filled.store.materialize()
        ahead = filled.now + timedelta(hours=1)
        report = filled.store.write("v", [{"id": 1, "at": ahead, "x": 77}, {"id": 8, "at": ahead, "x": 88}])
        assert (report.future, report.applied) == (2, 0)
        filled.store.materialize()
        filled.check()
        filled.now = ahead + timedelta(seconds=1)
        filled.store.materialize()
        filled.check()
        assert filled.store.get_online_features(["v:x"], [1, 8], now=filled.now).to_dict()["x"] == [77, 88]
        filled.store.close()

    def test_a_purged_key_is_erased_and_learns_only_what_is_new(self, store: OnlineStore, tmp_path: Path) -> None:
        filled = _Filled(tmp_path, store)
        filled.write([0, 5])
        filled.store.materialize()
        before = set(dict(store.scan(b"")))
        said = [{"id": 0, "at": filled.now, "created_time": filled.now, "x": 1}]
        filled.store.delete("v", [0], purge=True)
        filled.check()
        # a salted digest stays, so that a registry restored from an older copy learns of the purge again
        assert {key for key, _ in store.scan(b"") if not key.startswith(META_PREFIX + b"p")} == before
        filled.now += timedelta(hours=1)
        filled.store.materialize()
        assert len(before - set(dict(store.scan(b"")))) == 1
        for to in ("both", "online"):
            assert filled.store.write("v", said, to=to).superseded == 1
        filled.check()
        filled.write([0])
        filled.check()
        filled.store.close()
