"""Views, rows and readers for the tests of the online room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from headwater.clock import MIN_MICROS, to_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.online.base import OnlineStore
from headwater.online.reading.reader import OnlineReader
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.resolve import resolve, whole_view
from headwater.planning.resolved import ResolvedRequest, ResolvedView
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord, ViewVersion
from headwater.types import DType, String

PROJECT = "test"
WHEN = datetime(2024, 1, 1, tzinfo=UTC)
NOW = to_micros(WHEN)
SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000


def make_view(
    features: Mapping[str, DType] | Sequence[Feature],
    keys: Mapping[str, DType] | None = None,
    *,
    name: str = "view",
    timed: bool = True,
    **options: Any,
) -> FeatureView:
    join_keys = {"user": String} if keys is None else dict(keys)
    listed = [Feature(n, d) for n, d in features.items()] if isinstance(features, Mapping) else list(features)
    entity = Entity("_".join(join_keys), join_keys) if join_keys else ()
    source = PushSource(event_time="at" if timed else None)
    return FeatureView(name, entity=entity, source=source, features=listed, version="1.0.0", **options)


def snapshot(*views: FeatureView) -> RegistrySnapshot:
    records = {v.name: ViewRecord(v.name, {"1.0.0": ViewVersion(v, False, WHEN, WHEN)}, live="1.0.0") for v in views}
    return RegistrySnapshot(PROJECT, 1, {}, records)


def resolved(view: FeatureView) -> ResolvedView:
    record = snapshot(view).view(view.name)
    return whole_view(record, record.version())


def rows_of(view: FeatureView) -> RowEncoder:
    return RowEncoder(PROJECT, resolved(view))


def batch(view: FeatureView, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows with keys and features by name, and where they differ event, created, origin and position."""
    timed = view.source.event_time is not None
    event = [row.get("event", NOW if timed else MIN_MICROS) for row in rows]
    columns: dict[str, pa.Array] = {
        **{name: pa.array([row[name] for row in rows], dtype.arrow) for name, dtype in view.join_keys.items()},
        "__event": pa.array(event, pa.int64()),
        "__created": pa.array([row.get("created", e) for row, e in zip(rows, event, strict=True)], pa.int64()),
        "__origin": pa.array([row.get("origin", 0) for row in rows], pa.int8()),
        "__position": pa.array([row.get("position", 0) for row in rows], pa.int64()),
        **{f.name: pa.array([row.get(f.name) for row in rows], f.dtype.arrow) for f in view.feature_list},
    }
    return pa.record_batch(columns)


def put(store: OnlineStore, view: FeatureView, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    return store.put(rows_of(view).encode(batch(view, rows)))


def request(features: Any, *views: FeatureView, **options: Any) -> ResolvedRequest:
    return resolve(snapshot(*views), features, **options)


def reader(store: OnlineStore, features: Any, *views: FeatureView, **options: Any) -> OnlineReader:
    return OnlineReader(request(features, *views), store, PROJECT, **options)
