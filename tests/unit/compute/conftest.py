"""A whole store of real parts for the tests of compute: a registry, a log, DuckDB, an online store, a clock to move."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.context import Rooms
from headwater.compute.materializing.materialize import materialize
from headwater.compute.reading.prepared import PreparedReader
from headwater.compute.writing.delete import delete
from headwater.compute.writing.write import write
from headwater.definitions.sources import Source
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.log.log import OfflineLog
from headwater.online.base import OnlineStore
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.diff import plan
from headwater.planning.snapshot import ViewVersion
from headwater.registry.registry import open_registry

T0 = datetime(2024, 1, 1, tzinfo=UTC)


class Bench:
    """A store's parts on a clock that the test moves.

    Attributes:
        rows: view → the rows of its table source.
    """

    def __init__(self, folder: Path, online: OnlineStore | None = None, url: str = "sqlite:///registry.db") -> None:
        self.at = T0
        self.folder = folder
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.source_tables: dict[str, Any] = {}
        self.registry = open_registry(url, folder, "test", clock=self.clock)
        self.rooms = Rooms(
            project="test",
            registry=self.registry,
            open_engine=lambda: DuckDBEngine(folder),
            open_log=lambda: OfflineLog(self.registry.engine, folder / "log", self.clock),
            online=online or MemoryOnlineStore(),
            clock=self.clock,
            source_of=self.source_of,
        )

    def clock(self) -> datetime:
        return self.at

    def source_of(self, version: ViewVersion) -> Source:
        source, name = version.view.source, version.view.name
        if isinstance(source, hw.TableSource):
            table = self.source_tables.get(name, self.rows.get(name) or self._no_rows(version))
            return dataclasses.replace(source, table=table)
        return source

    def _no_rows(self, version: ViewVersion) -> pa.Table:
        view, source = version.view, version.view.source
        columns = {view.key_column(name): dtype.arrow for name, dtype in view.join_keys.items()}
        columns |= {feature.source_column: feature.dtype.arrow for feature in view.feature_list}
        columns |= {t: pa.timestamp("us", "UTC") for t in (source.event_time, source.created_time) if t is not None}
        return pa.schema(list(columns.items())).empty_table()

    def pass_time(self, **span: float) -> None:
        self.at += timedelta(**span)

    def apply(self, *definitions: Any) -> None:
        made = plan(self.registry.refresh(), definitions, whole_project=False, now=self.at)
        self.registry.apply(made, now=self.at, log_head=self.rooms.log.head_position())

    def write(self, view: str, rows: Any, **options: Any) -> Any:
        return write(self.rooms, view, rows, **options)

    def delete(self, view: str, entities: Any, **options: Any) -> Any:
        return delete(self.rooms, view, entities, **options)

    def materialize(self, views: Any = None, **options: Any) -> Any:
        return materialize(self.rooms, views, **options)

    def read(self, features: Any, entities: Any, **options: Any) -> dict[str, list[Any]]:
        return self.reader(features).read(entities, **options).to_dict()

    def reader(self, features: Any, **options: Any) -> PreparedReader:
        self.registry.refresh()
        return PreparedReader(self.rooms, features, **options)

    def values(self, reference: str, keys: list[Any], **options: Any) -> list[Any]:
        found = self.read([reference], keys, **options)
        return found[reference.partition(":")[2]]

    def close(self) -> None:
        self.rooms.engine.close()
        self.rooms.online.close()
        self.registry.close()


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
