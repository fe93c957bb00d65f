"""Asks an engine for history of views that are registered nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

import headwater as hw
from headwater.definitions.source import Source
from headwater.offline.base import HistoryRequest, LogSlice, OfflineEngine, ViewInput
from headwater.offline.join.result import HistoryResult
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)


def registered(views: Sequence[hw.FeatureView]) -> RegistrySnapshot:
    """A registry that holds just these views, each in version 1.0.0."""
    versions = {v.name: ViewVersion(v, True, NOON, NOON) for v in views}
    return RegistrySnapshot("test", views={n: ViewRecord(n, {"1.0.0": v}, "1.0.0") for n, v in versions.items()})


def request(spine: Any, views: Sequence[hw.FeatureView], features: Any = None, **options: Any) -> HistoryRequest:
    """A request for features of views, all of them by default."""
    log: LogSlice | None = options.pop("log", None)
    full_names = options.pop("full_names", False)
    asked = resolve(registered(views), features or [f"{v.name}:*" for v in views], full_names=full_names)
    inputs = tuple(ViewInput(v, v.view.source, log) for v in asked.views)
    return HistoryRequest(spine, inputs, asked.columns, **options)


def ask(
    engine: OfflineEngine, spine: Any, views: Sequence[hw.FeatureView], *args: Any, **options: Any
) -> HistoryResult:
    """The result of such a request."""
    return HistoryResult(engine, request(spine, views, *args, **options))


def at(minute: float = 0) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minute)


def view(source: Source, *features: hw.Feature, name: str = "weather", **options: Any) -> hw.FeatureView:
    """A view by airport, of one float `temp` unless features are given."""
    entity = options.pop("entity", hw.Entity("airport", join_keys={"airport": hw.String}))
    return hw.FeatureView(
        name,
        entity=entity,
        version="1.0.0",
        source=source,
        features=features or [hw.Feature("temp", hw.Float64)],
        **options,
    )


def table(*rows: tuple[Any, ...], columns: str = "airport happened temp", **times: Any) -> hw.TableSource:
    """A source in memory, with the column `happened` as event time unless told otherwise."""
    named = [dict(zip(columns.split(), row, strict=True)) for row in rows]
    return hw.TableSource(table=named, **({"event_time": "happened"} | times))


def spine(*rows: tuple[Any, Any], key: str = "airport") -> pa.Table:
    """Training rows of (key, minute)."""
    return pa.table(
        {
            key: pa.array([k for k, _ in rows]),
            "timestamp": pa.array([at(m) for _, m in rows], pa.timestamp("us", "UTC")),
        }
    )
