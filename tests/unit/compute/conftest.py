"""A store on a clock that tests move, whose tables are lists that they change, for the tests of compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.context import StoreContext
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.sources import BoundSources
from headwater.definitions.source import Source
from headwater.offline.base import OfflineEngine
from headwater.online.base import OnlineStore
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.diff import plan
from headwater.planning.snapshot import ViewVersion
from headwater.registry.registry import FeatureRegistry

T0 = datetime(2024, 1, 1, tzinfo=UTC)


class LiveTables(BoundSources):
    """Sources whose tables are what the bench has at the moment."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench

    def source_of(self, version: ViewVersion) -> Source:
        source, name = version.view.source, version.view.name
        if isinstance(source, hw.TableSource):
            table = self.bench.source_tables.get(name, self.bench.rows.get(name) or _no_rows(version))
            return dataclasses.replace(source, table=table)
        return source


def _no_rows(version: ViewVersion) -> pa.Table:
    view, source = version.view, version.view.source
    columns = {view.key_column(name): dtype.arrow for name, dtype in view.join_keys.items()}
    columns |= {feature.source_column: feature.dtype.arrow for feature in view.feature_list}
    columns |= {t: pa.timestamp("us", "UTC") for t in (source.event_time, source.created_time) if t is not None}
    return pa.schema(list(columns.items())).empty_table()


class Bench:
    """A `FeatureStore` on a clock that the test moves.

    Attributes:
        store: the store.
        rows: view → the rows of its table source.
        source_tables: view → a table that is read instead.
    """

    def __init__(self, folder: Path, online: OnlineStore | None = None, url: str = "sqlite:///registry.db") -> None:
        self.at = T0
        self.folder, self.url = folder, url
        self.online = online or MemoryOnlineStore()
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.source_tables: dict[str, Any] = {}
        self.open()

    def open(
        self, online: OnlineStore | None = None, offline: OfflineEngine | None = None, settings: str = "", **parts: Any
    ) -> None:
        """Open the store, or open it again with another part or more settings (TOML)."""
        if "store" in vars(self):
            self.store.close()
        if online is not None:
            self.online = online
        toml = 'project = "test"\noffline.log = "log"\n'
        (self.folder / "headwater.toml").write_text(toml + settings)
        self.store = hw.FeatureStore(
            self.folder, registry=self.url, online=self.online, offline=offline, clock=lambda: self.clock(), **parts
        )
        self.change(sources=LiveTables(self))

    def change(self, **parts: Any) -> None:
        """Give the store another context."""
        self.store.context = dataclasses.replace(self.store.context, **parts)

    def clock(self) -> datetime:
        return self.at

    @property
    def context(self) -> StoreContext:
        return self.store.context

    @property
    def registry(self) -> FeatureRegistry:
        return self.store.registry

    def pass_time(self, **span: float) -> None:
        self.at += timedelta(**span)

    def apply(self, *definitions: Any) -> None:
        """Register definitions without a look at their sources."""
        made = plan(self.registry.refresh(), definitions, whole_project=False, now=self.at)
        self.registry.apply(made, now=self.at, log_head=self.context.log.head_position())

    def write(self, view: str, rows: Any, **options: Any) -> Any:
        return self.store.write(view, rows, **options)

    def delete(self, view: str, entities: Any, **options: Any) -> Any:
        return self.store.delete(view, entities, **options)

    def materialize(self, views: Any = None, **options: Any) -> Any:
        return self.store.materialize(views, **options)

    def read(self, features: Any, entities: Any, **options: Any) -> dict[str, list[Any]]:
        return self.reader(features).read(entities, **options).to_dict()

    def reader(self, features: Any, **options: Any) -> PreparedReader:
        self.registry.refresh()
        return self.store.prepare(features, **options)

    def values(self, reference: str, keys: list[Any], **options: Any) -> list[Any]:
        found = self.read([reference], keys, **options)
        return found[reference.partition(":")[2]]

    def close(self) -> None:
        self.store.close()
        self.online.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def lmdb_bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, LMDBOnlineStore(tmp_path / "online", sync=False))
    yield made
    made.close()


AIRPORT = hw.Entity("airport", join_keys={"airport": hw.String})


def weather(**options: Any) -> hw.FeatureView:
    """The view of most tests: one float by airport, from a table that the bench holds."""
    settings: dict[str, Any] = {
        "entity": AIRPORT,
        "source": hw.TableSource(event_time="at", created_time=None),
        "join_key_map": {"airport": "origin"},
        "features": [hw.Feature("temp", hw.Float64, column="temp_f")],
    }
    return hw.FeatureView("weather", **{**settings, **options})


def row(key: str | None, temp: float | None, at: datetime = T0, **more: Any) -> dict[str, Any]:
    return {"origin": key, "temp_f": temp, "at": at, **more}
